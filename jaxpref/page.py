"""A run as one self-contained HTML page: final metrics, curves, samples, wrong pairs, config.

The page needs no network and no other file: style, script and numbers are inside it, and a content
security policy allows nothing else. It reads only the files that `writer.py` describes, so it can
be made while a run goes on, after it stopped, and on another machine.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from jaxpref import curves, page_sections, run_files
from jaxpref.console import four
from jaxpref.page_sections import DASH, figure, text
from jaxpref.types import Refused

INDEX = {  # columns of the table of runs
  "Loss": "loss",
  "Ranked right": "rewards/accuracies",
  "Margin": "rewards/margins",
  "Reward": "reward/mean",
}


def write(workdir: str | os.PathLike, title: str = "") -> Path:
  """Writes `page.html` into a run's folder.

  Args:
    workdir: the run's folder.
    title: heading; the run's own title if empty.

  Returns:
    Path of the page.

  Raises:
    Refused: there is no run, a file of it is corrupt, or the page cannot be written.
  """
  run = run_files.read(workdir)
  figures = []
  shown = [
    ("Final metrics", page_sections.metrics_table(run)),
    ("Curves", page_sections.charts(run, figures)),
    ("Samples", page_sections.samples(run)),
    ("Still wrong", page_sections.wrong_pairs(run)),
    *(
      (f"Before: {stage.folder.name}", page_sections.earlier_stage(stage, figures))
      for stage in run.stages
    ),
    ("Config", page_sections.config_table(run)),
  ]
  heading = title or run_files.title(run)
  return _save(run.folder / "page.html", _document(heading, _head(run, heading), shown, figures))


def table_page(title: str, sections: Sequence[tuple[str, str]], kicker: str = "jaxpref") -> str:
  """A page in the same style from ready sections, such as tables of an experiment.

  Args:
    title: heading of the page, plain text.
    sections: (heading as plain text, body as HTML that the caller has escaped).
    kicker: plain text above the title.

  >>> "<h2" in table_page("All tables", [("Noise", "<p>holds</p>")])
  True
  """
  head = f'<p class="kicker">{text(kicker)}</p><h1>{text(title)}</h1>'
  return _document(title, head, sections, [])


def write_index(folder: str | os.PathLike) -> Path:
  """Writes the page of every run below a folder, and `index.html` with one row per run.

  Raises:
    Refused: there is no run below it; or as `write`.
  """
  found = list(_runs(Path(folder)))
  if not found:
    raise Refused(f"there is no run below {folder}: no folder in it has a run.json.")
  runs = [run_files.read(path) for path in found]
  for path in found:
    write(path)
  rows = "".join(_index_row(run, Path(folder)) for run in runs)
  heads = "".join(f'<th scope="col" class="number">{h}</th>' for h in ("Step", *INDEX, "Time"))
  table = (
    '<div class="scroll"><table class="runs"><thead><tr><th scope="col">Run</th>'
    f'<th scope="col">Status</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
  )
  count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
  content = table_page(Path(folder).resolve().name, [(count, table)], "jaxpref runs")
  return _save(Path(folder) / "index.html", content)


def _runs(folder):
  """Folders of runs, without the stages inside them."""
  if (folder / "run.json").exists():
    yield folder
    return
  for path in sorted(folder.iterdir()) if folder.is_dir() else ():
    if path.is_dir() and not path.is_symlink():
      yield from _runs(path)


def _index_row(run, folder):
  last = run_files.last(run)
  cells = []
  for base in INDEX.values():
    names = [n for n in last if curves.split(n, last)[1] == base]
    name = max(names, key=lambda n: (n != base, n), default=None)  # an evaluation if there is one
    where = curves.split(name, last)[0] if name else ""
    note = f"<small>{text(where)}</small>" if where else ""
    cells.append(f'<td class="number">{figure(last.get(name))}{note}</td>')
  link = "/".join((*run.folder.relative_to(folder).parts, "page.html"))
  state, _ = run_files.status(run)
  return (
    f'<tr><th scope="row"><a href="{text(link)}">{text(run_files.title(run))}</a>'
    f'<span class="raw-name">{text(str(run.folder.relative_to(folder)))}</span></th>'
    f'<td><span class="status {state}">{state}</span></td>'
    f'<td class="number">{run_files.step(run)}</td>{"".join(cells)}'
    f'<td class="number">{text(run_files.spent(run) or DASH)}</td></tr>'
  )


def _document(title, head, sections, figures):
  """The whole page; sections with an empty body are left out."""
  style, script = (
    Path(__file__).with_name(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
  )
  data = json.dumps(figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
  body = "".join(
    f'<section aria-labelledby="s{i}"><h2 id="s{i}">{text(heading)}</h2>'
    f'<div class="body">{fragment}</div></section>\n'
    for i, (heading, fragment) in enumerate(sections)
    if fragment
  )
  policy = (
    f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
    "img-src data:; base-uri 'none'; form-action 'none'"
  )
  return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>{head}</header>
<main>
{body}</main>
<footer>Made by jaxpref. This file is complete: it loads nothing.</footer>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def _digest(content):
  return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _save(path, content):
  try:
    path.write_text(content, encoding="utf-8")
  except OSError as error:
    raise Refused(
      f"cannot write {path}: {error.strerror}. Free space or fix the permissions there."
    ) from error
  return path


def _word(word):
  """A word of the command that breaks behind the name of its flag, not inside."""
  return "<span>" + re.sub(r"^(-+[^=]*=?)", r"<b>\1</b><wbr>", text(word)) + "</span>"


def _head(run, heading):
  state, sentence = run_files.status(run)
  about = run.about
  mesh = " \u00d7 ".join(f"{k} {v}" for k, v in about.get("mesh", {}).items() if v != 1)
  versions = ", ".join(f"{k} {v}" for k, v in about.get("versions", {}).items())
  stage_times = "".join(
    f"; {s.folder.name} {run_files.spent(s)}" for s in run.stages if run_files.spent(s)
  )
  tokens = run_files.last(run).get("speed/tokens_per_second")
  facts = {
    "Devices": about.get("devices", ""),
    "Mesh": mesh,
    "Parameters": four(about["parameters"]) if "parameters" in about else "",
    "Time": run_files.spent(run) + stage_times,
    "Tokens per second": figure(tokens) if tokens is not None else "",
    "Versions": versions,
  }
  listed = "".join(
    f"<div><dt>{name}</dt><dd>{text(fact)}</dd></div>" for name, fact in facts.items() if fact
  )
  words = " ".join(map(_word, about.get("command", "").split()))
  command = f'<p class="command">{words}</p>' if words else ""
  return (
    f'<p class="kicker"><span>jaxpref run</span><span class="status {state}">{sentence}</span></p>'
    f'<h1>{text(heading)}</h1>{command}<dl class="facts">{listed}</dl>'
  )


def define_flags() -> None:
  """The flags of the command; called once, by `jaxpref page`."""
  flags.DEFINE_string("workdir", None, "folder of one run; page.html is written into it")
  flags.DEFINE_string("all", None, "folder of runs; every run gets its page, the folder index.html")
  flags.DEFINE_string("title", "", "heading of the page, instead of the run's title")


def main(argv) -> None:
  """`jaxpref page --workdir=runs/quickstart`, or `jaxpref page --all=runs`."""
  if len(argv) > 1:
    raise Refused(f"page takes flags only; it does not know {' '.join(argv[1:])!r}.")
  workdir, folder, title = (flags.FLAGS[name].value for name in ("workdir", "all", "title"))
  if bool(workdir) == bool(folder) or (folder and title):
    raise Refused("page needs either --workdir=RUN, perhaps with --title, or --all=FOLDER.")
  print(write(workdir, title) if workdir else write_index(folder))
