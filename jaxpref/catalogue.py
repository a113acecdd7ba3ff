"""What is inside a room, read from signatures and docstrings.

Nothing is written down twice: what a function reads are its positional parameters, what a config
may set are its knobs, and the rest is its docstring.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

from absl import flags

from jaxpref import call, mixes, vocabulary
from jaxpref import config as cfg
from jaxpref.types import Refused

ROOMS = (
  "objectives",
  "wrappers",
  "advantages",
  "selectors",
  "rewards",
  "envs",
  "metrics",
  "analysis",
  "data",
  "models",
)
WIDTH = 96  # columns
_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example|Reference):(.*)$")


class Row(NamedTuple):
  """One line of the catalogue.

  Attributes:
    name: as a config names it.
    what: first line of the docstring.
    reads: names of the arrays that it reads (parameters without a default, for data sets).
    knobs: what a config may set, with defaults.
    source: where it comes from.
  """

  name: str
  what: str
  reads: tuple[str, ...]
  knobs: dict
  source: str


def rooms() -> tuple[str, ...]:
  """Rooms of this version, in order."""
  return tuple(r for r in ROOMS if importlib.util.find_spec(f"jaxpref.{r}"))


def functions(room: str) -> dict[str, Callable | ModuleType]:
  """What a config may name in a room, by name; for `models` these are modules.

  Args:
    room: one of `rooms()`.

  Raises:
    Refused: no such room; names the nearest.
  """
  if room not in rooms():
    raise Refused(
      f"the catalogue has no {room!r}. {call.nearest(room, (*rooms(), 'mixes'))}"
      f"It has: {', '.join(rooms())}, mixes."
    )
  module = importlib.import_module(f"jaxpref.{room}")
  modules = {k: v for k, v in vars(module).items() if k in module.__all__ and inspect.ismodule(v)}
  return modules or {k: v for k, v in call.functions(module).items() if k in module.__all__}


def rows(room: str) -> list[Row]:
  """The table of a room, or of the `mixes`, sorted by name.

  Raises:
    Refused: no such room; names the nearest.
  """
  if room == "mixes":
    found = sorted(mixes.MIXES.items())
    return [Row(k, f"{m.what}: {mixes.formula(k)}.", (), {}, m.source) for k, m in found]
  return [_row(name, fn) for name, fn in sorted(functions(room).items())]


def _row(name, fn):
  parts = sections(inspect.getdoc(fn) or "")
  what = parts[""].partition("\n")[0]
  source = " ".join(parts.get("Reference", "").split())
  if inspect.ismodule(fn):
    return Row(name, what, (), {}, source)
  return Row(name, what, call.needs(fn), call.knobs(fn), source)


def sections(doc: str) -> dict[str, str]:
  r"""A Google-style docstring by section; the text before the first one under the empty name.

  >>> sections("Adds.\n\nArgs:\n  x: a number.\n\nReference: nobody.")
  {'': 'Adds.', 'Args': 'x: a number.', 'Reference': 'nobody.'}
  """
  found, name = {"": []}, ""
  for line in doc.splitlines():
    match = _SECTION.match(line)
    if match:
      name = match.group(1)
      found[name] = [match.group(2).strip()] if match.group(2).strip() else []
    else:
      found[name].append(line)
  return {k: textwrap.dedent("\n".join(v)).strip("\n") for k, v in found.items()}


def entries(section: str) -> dict[str, str]:
  r"""The entries `name: text` of an `Args` section, each on one line.

  >>> entries("x: a number,\n  of any size.\ny: another.")
  {'x': 'a number, of any size.', 'y': 'another.'}
  """
  found = {}
  for line in section.splitlines():
    match = re.match(r"^(\w+): (.*)$", line)
    if match:
      name = match.group(1)
      found[name] = match.group(2)
    elif found and line.strip():
      found[name] += " " + line.strip()
  return found


def _signature(row):
  """`reads a, b; x=0.1` for a row."""
  reads = f"reads {', '.join(row.reads)}" if row.reads else ""
  knobs = ", ".join(f"{k}={_default(v)}" for k, v in row.knobs.items())
  return "; ".join(filter(None, (reads, knobs)))


def _default(value):
  return "(required)" if value is inspect.Parameter.empty else repr(value)


def table(room: str) -> str:
  """The room as text for a terminal: per entry its name, what it does, reads, knobs and source."""
  found = rows(room)
  indent = max(len(row.name) for row in found) + 2
  lines = []
  for row in found:
    first = row.name.ljust(indent) + row.what
    lines.append(_wrap(first, 0, indent))
    lines += [_wrap(text, indent, indent) for text in (_signature(row), row.source) if text]
  example = min(row.name for row in found)
  return "\n".join([*lines, "", f"One of them in full: jaxpref catalogue {room} {example}"])


def _wrap(text, first, rest):
  return textwrap.fill(
    text,
    WIDTH,
    initial_indent=" " * first,
    subsequent_indent=" " * rest,
    break_long_words=False,
    break_on_hyphens=False,
  )


def markdown(room: str) -> str:
  """The room as a Markdown table, for the README."""
  lines = ["| name | what it does | reads | knobs | source |", "|---|---|---|---|---|"]
  for row in rows(room):
    knobs = ", ".join(f"`{k}={_default(v)}`" for k, v in row.knobs.items())
    reads = ", ".join(f"`{name}`" for name in row.reads)
    cells = (f"`{row.name}`", row.what, reads, knobs, row.source)
    lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
  return "\n".join(lines)


def page(room: str, name: str) -> str:
  """One entry in full: formula, what it reads, knobs, what it returns, source, how to train.

  Raises:
    Refused: no such room or entry; names the nearest.
  """
  options = mixes.MIXES if room == "mixes" else functions(room)
  if name not in options:
    raise Refused(
      f"{room} has no {name!r}. {call.nearest(name, options)}It has: {', '.join(sorted(options))}."
    )
  if room == "mixes":
    return _mix_page(name)
  fn = options[name]
  parts, row = sections(inspect.getdoc(fn) or ""), _row(name, fn)
  told = entries(parts.get("Args", ""))
  title = f"{room}: {name}"
  blocks = [f"{title}\n{'=' * len(title)}", parts[""]]
  reads = [_entry(n, _maker(n) + told.get(n, "")) for n in row.reads]
  knobs = [_entry(f"{k} = {_default(v)}", told.get(k, "")) for k, v in row.knobs.items()]
  blocks += [_block("Reads", "\n".join(reads)), _block("Knobs", "\n".join(knobs))]
  if inspect.ismodule(fn):
    blocks.append(_block("Measures", ", ".join(fn.MEASURES)))
  for heading in ("Returns", "Yields", "Raises", "Example", "Reference"):
    blocks.append(_block(heading, parts.get(heading, "")))
  blocks.append(_block("Train with it", _command(room, row)))
  return "\n\n".join(filter(None, blocks))


def _mix_page(name):
  """A mix in full: its terms as a config holds them, and how to train with it."""
  mix, title = mixes.MIXES[name], f"mixes: {name}"
  lines = []
  for key, term in mix.terms.items():
    lines += [f"{key}.{k} = {v!r}" for k, v in cfg.flat(term).items()]
  text = textwrap.fill(f"{mix.what}: {mixes.formula(name)}.", WIDTH)
  blocks = [f"{title}\n{'=' * len(title)}", text, _block("Terms", "\n".join(lines))]
  command = f"jaxpref train --config=configs/offline.py:objective={name} --workdir=runs/{name}"
  return "\n\n".join([*blocks, _block("Reference", mix.source), _block("Train with it", command)])


def _entry(name, text):
  return textwrap.fill(f"{name}: {text}" if text else name, WIDTH - 2, subsequent_indent="  ")


def _maker(name):
  """`(from the model) ` for a name of the vocabulary, else nothing."""
  if not vocabulary.known(name):
    return ""
  maker = (
    "the reference" if name.startswith("ref_") else vocabulary.NAMES[vocabulary.plain(name)][2]
  )
  return f"(from {'the model' if maker == 'model' else maker}) "


def _block(heading, text):
  return f"{heading}\n{textwrap.indent(text, '  ')}" if text else ""


def _command(room, row):
  """How a run uses an objective or a wrapper; nothing for the other rooms."""
  if room not in ("objectives", "wrappers"):
    return ""
  key, of = ("main", f"objective={row.name}")
  if room == "wrappers":
    key, of = "main.around", f"objective=dpo,around={row.name}"
  knobs = "".join(f" \\\n    --config.objectives.{key}.{k}={v}" for k, v in row.knobs.items())
  recipe = "reward" if "score" in row.reads else "offline"
  config = f"--config=configs/{recipe}.py:{of}"
  return f"jaxpref train {config}{knobs} \\\n    --workdir=runs/{row.name}"


def define_flags() -> None:
  """The flags of the command; called once, by `jaxpref catalogue`."""
  flags.DEFINE_bool("markdown", False, "print the table as Markdown")


def main(argv) -> None:
  """`jaxpref catalogue [ROOM [NAME]] [--markdown]`."""
  if len(argv) > 3:
    raise Refused(f"catalogue takes a room and a name; {argv[3]!r} is too many.")
  if len(argv) == 1:
    for room in rooms():
      print(f"{room:12s}{', '.join(row.name for row in rows(room))}")
    print(f"{'mixes':12s}{', '.join(sorted(mixes.MIXES))}")
    return
  if len(argv) == 3:
    if flags.FLAGS.markdown:
      raise Refused("--markdown prints the table of a room; leave out the name.")
    print(page(argv[1], argv[2]))
    return
  print(markdown(argv[1]) if flags.FLAGS.markdown else table(argv[1]))
