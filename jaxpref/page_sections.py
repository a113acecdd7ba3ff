"""The sections of a run's page, each from a run to HTML; an empty text leaves a section out."""

from __future__ import annotations

import html
import json
import re

from jaxpref import config as cfg
from jaxpref import curves, run_files
from jaxpref.console import four

SHOWN_WRONG = 8  # pairs before the fold
DASH = "\u2013"


def text(value):
  """Any text as HTML, with characters that HTML cannot hold made visible."""
  return html.escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", _visible, str(value)))


def _visible(match):
  return "" if match[0] == "\r" else repr(match[0])[1:-1]


def figure(value):
  """A number with four significant digits and a real minus, as HTML; a dash where there is none."""
  return text(DASH if value is None else four(value).replace("-", "\u2212"))


def metrics_table(run):
  """The table of final metrics: a row per metric, a column for training and per evaluation."""
  last = run_files.last(run)
  if not last:
    return '<p class="soft">No numbers yet: the run has not reached its first log line.</p>'
  place = {name: curves.split(name, last) for name in last if name != "speed/seconds"}
  names = {where: name for name, where in place.items()}
  columns = sorted({evaluation for evaluation, _ in names})
  groups = {}
  for base in sorted({base for _, base in names}, key=lambda b: (curves.rank(b), b)):
    groups.setdefault(curves.group(base), []).append(base)
  heads = "".join(f'<th scope="col" class="number">{text(c or "Training")}</th>' for c in columns)
  bodies = "".join(
    f'<tbody><tr><th scope="rowgroup" colspan="{len(columns) + 1}">{text(group)}</th></tr>'
    + "".join(
      _metric_row(run, last, base, [names.get((c, base)) for c in columns]) for base in rows
    )
    + "</tbody>"
    for group, rows in groups.items()
  )
  return (
    '<div class="scroll"><table class="metrics"><thead><tr>'
    '<th scope="col">Metric, first &rarr; last</th>'
    f"{heads}</tr></thead>{bodies}</table></div>"
  )


def _metric_row(run, last, base, names):
  cells = []
  for name in names:
    points = run.series.get(name, [])
    many = len(points) > 1 and not base.startswith("speed/")
    start = f"<small>{figure(points[0][1])} &rarr;</small>" if many else ""
    number = f"{start} <b>{figure(last[name])}</b>" if name else ""
    cells.append(f'<td class="number">{number}</td>')
  raw = re.sub(r"([/_])", r"\1<wbr>", text(base.removeprefix("speed/")))
  return (
    f'<tr><th scope="row">{text(curves.label(base))} <span class="raw-name">{raw}</span></th>'
    f"{''.join(cells)}</tr>"
  )


CONTROLS = (
  '<div class="controls" hidden><div class="choice" role="group" aria-label="Curves">'
  '<button type="button" data-smooth="on" aria-pressed="true">Smoothed</button>'
  '<button type="button" data-smooth="off" aria-pressed="false">Raw</button></div>'
  '<label>Smoothing <input type="range" id="strength" min="0.5" max="0.99" step="0.01" '
  'value="0.8"></label></div><noscript><p class="soft">The curves are drawn by a script, which is '
  "switched off here. The table above has the first and the last number of each.</p></noscript>"
)


def charts(run, figures):
  """The charts of a run; their data is appended to `figures`."""
  made = curves.charts(run.series)
  if not made:
    return ""
  return CONTROLS + _figures(run, made, figures)


def _figures(run, made, figures):
  steps = [step for points in run.series.values() for step, _ in points]
  out = []
  for chart in made:
    unit = f'<span class="unit">{text(chart["unit"])}</span>' if chart["unit"] else ""
    out.append(
      f'<figure data-chart="{len(figures)}"><figcaption><span><strong>{text(chart["title"])}'
      f'</strong>{unit}</span><output class="readout small"></output></figcaption></figure>'
    )
    figures.append(chart | {"range": [min(steps), max(steps)]})
  return f'<div class="charts">{"".join(out)}</div>'


def earlier_stage(stage, figures):
  """An earlier stage: where it ended, and its curves."""
  _, sentence = run_files.status(stage)
  spent = f", {run_files.spent(stage)}" if run_files.spent(stage) else ""
  made = curves.charts(stage.series)
  drawn = _figures(stage, made, figures) if made else ""
  return (
    f'<p class="soft">{text(run_files.title(stage))}. {text(sentence)}{text(spent)}.</p>{drawn}'
  )


def samples(run):
  """First and last responses to each prompt; "before" is step 0, or the end of the last stage."""
  after, last = _at(run.samples, max)
  before, first = _at(run.samples, min)
  origin = "Before training" if first == 0 else f"Before, step {first}"
  if run.stages and run.stages[-1].samples and first != 0:
    before, first = _at(run.stages[-1].samples, max)
    origin = f"Before, end of {run.stages[-1].folder.name}"
  elif first == last:
    before = []
  out = []
  for prompt in dict.fromkeys(row["prompt"] for row in after):
    old, new = ([r for r in rows if r["prompt"] == prompt] for rows in (before, after))
    out.append(f'<article><h3 class="text prompt" dir="auto">{text(prompt)}</h3>')
    for i, row in enumerate(new):
      sides = _side("before", origin, old[i]) if i < len(old) else ""
      sides += _side("after", f"After, step {last}" if before else f"At step {last}", row)
      out.append(f'<div class="sides">{sides}</div>')
    out.append("</article>")
  return "".join(out)


def _at(rows, choose):
  """The rows of the smallest or largest step, and that step."""
  if not rows:
    return [], 0
  step = choose(row["step"] for row in rows)
  return [row for row in rows if row["step"] == step], step


def _side(kind, heading, row):
  count = row.get("length")
  meta = [f"{count} token{'' if count == 1 else 's'}"] if count is not None else []
  if row.get("logp") is not None:
    meta.append(f"log-probability {figure(row['logp'])}")
  return _panel(kind, heading, row["response"], ", ".join(meta))


def _panel(kind, heading, words, meta=""):
  body = text(words) if words.strip() else '<span class="soft">(empty)</span>'
  note = f'<p class="meta">{meta}</p>' if meta else ""
  return (
    f'<div class="side {kind}"><h4>{text(heading)}</h4>'
    f'<div class="text" dir="auto">{body}</div>{note}</div>'
  )


def wrong_pairs(run):
  """Pairs that the model still gets wrong, worst first; the first few before the fold."""
  pairs = [_pair(row) for row in run.wrong]
  if not pairs:
    done = run.done and (run.folder / "wrong.jsonl").exists()
    return "<p>None: every pair that was checked is ranked right.</p>" if done else ""
  intro = (
    f'<p class="soft">{len(pairs)} pair{"s" if len(pairs) > 1 else ""}, worst first. '
    "The margin is the reward of the chosen response minus that of the rejected one.</p>"
  )
  rest = "".join(pairs[SHOWN_WRONG:])
  fold = f"<details><summary>{len(pairs) - SHOWN_WRONG} more</summary>{rest}</details>"
  return intro + "".join(pairs[:SHOWN_WRONG]) + (fold if rest else "")


def _pair(row):
  meta = [f"margin {figure(row.get('rewards/margins'))}"]
  if row.get("logps/margins") is not None:
    meta.append(f"log-probability margin {figure(row['logps/margins'])}")
  if row.get("source"):
    meta.append(text(row["source"]))
  return (
    f'<article><p class="meta">{" &middot; ".join(meta)}</p>'
    f'<h3 class="text prompt" dir="auto">{text(row["prompt"])}</h3><div class="sides">'
    + _panel("chosen", "Chosen by people", row["chosen"])
    + _panel("rejected", "Ranked higher by the model", row["rejected"])
    + "</div></article>"
  )


def config_table(run):
  """The config with its differences from the recipe; a button leaves only these."""
  chosen, recipe = run.about.get("config", {}), run.about.get("recipe", {})
  if not chosen:
    return ""
  flat, base = cfg.flat(chosen), cfg.flat(recipe)
  changed = {name for name, _, _ in cfg.diff(recipe, chosen)} if recipe else set()
  rows = "".join(
    f'<tr class="{"changed" if name in changed else "same"}"><td>{text(name)}</td>'
    f"<td>{_value(flat, name)}</td><td>{_value(base, name) if name in changed else ''}</td></tr>"
    for name in sorted(flat.keys() | changed)
  )
  table = (
    f'<div class="scroll"><table class="config{" may" if changed else ""}"><thead><tr>'
    '<th scope="col">Key</th><th scope="col">This run</th><th scope="col">Recipe, if different'
    f"</th></tr></thead><tbody>{rows}</tbody></table></div>"
  )
  if not changed:
    same = "Nothing differs from the recipe." if recipe else "The run names no recipe."
    return f'<p class="soft">{same}</p>{table}'
  few = "1 difference" if len(changed) == 1 else f"{len(changed)} differences"
  buttons = (
    '<div class="controls" hidden><div class="choice" role="group" aria-label="Rows">'
    f'<button type="button" data-config="only" aria-pressed="true">{few}</button>'
    f'<button type="button" data-config="all" aria-pressed="false">All {len(flat)} keys</button>'
    "</div></div>"
  )
  return buttons + table


def _value(flat, name):
  if name not in flat:
    return '<span class="soft">not set</span>'
  value = flat[name]
  return text(value if isinstance(value, str) and value else json.dumps(value))
