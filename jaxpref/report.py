"""Prints the tables of experiments from their results.json: published, ours, claims.

`--write` pastes the same text into the experiment's README.md between two markers, so that no
number in it is typed by hand. `--diff` compares this working tree's results with committed ones.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import subprocess

from absl import flags

from jaxpref import experiment
from jaxpref.table import Table, judge
from jaxpref.types import Refused

START, END = "<!-- report: start -->", "<!-- report: end -->"


def text(root, key: str, scale: str) -> str:
  """The report of an experiment at one scale, as markdown.

  Raises:
    Refused: no such experiment, or no results at that scale.
  """
  module = experiment.load(root, key)
  scales = experiment.stored(root, key)["scales"]
  if scale not in scales:
    raise Refused(
      f"{key} has no results at scale {scale!r}; it has {', '.join(scales) or 'none'}. "
      f"Run: jaxpref experiment {key} --scale={scale}"
    )
  return experiment.report(module, scale, scales[scale])


def paste(readme: str, body: str, where: str = "README.md") -> str:
  """The README with what stands between the markers replaced.

  Raises:
    Refused: the markers are not there exactly once, in order.
  """
  if readme.count(START) != 1 or readme.count(END) != 1 or readme.index(START) > readme.index(END):
    raise Refused(f"{where} must hold the lines {START!r} and {END!r} once each, in this order.")
  before, _, rest = readme.partition(START)
  _, _, after = rest.partition(END)
  return f"{before}{START}\n{body}\n{END}{after}"


def write(root, key: str, scale: str) -> pathlib.Path:
  """Pastes the report into the experiment's README.md; returns its path.

  Raises:
    Refused: no README, no markers, no results.
  """
  path = pathlib.Path(root) / "experiments" / key / "README.md"
  if not path.is_file():
    raise Refused(f"{path} is not there; an experiment has a README with the two report markers.")
  body = paste(path.read_text(encoding="utf-8"), text(root, key, scale), str(path))
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  temporary.write_text(body, encoding="utf-8")
  os.replace(temporary, path)
  return path


def committed(root, key: str) -> dict:
  """The results.json of the last commit.

  Raises:
    Refused: git does not have it.
  """
  name = f"experiments/{key}/results.json"
  done = subprocess.run(
    ["git", "show", f"HEAD:./{name}"], cwd=root, capture_output=True, text=True, check=False
  )
  if done.returncode:
    raise Refused(
      f"git has no committed {name}: {done.stderr.strip()}. Give a file with --against=FILE."
    )
  return json.loads(done.stdout)


def diff(module, scale: str, old: dict, new: dict) -> str:
  """What changed between two results of one scale, as markdown.

  A row per metric whose mean changed, with the difference in joint standard errors, then cells
  that only one side has, changed configs, and claims whose verdict changed.

  Args:
    module: the experiment.
    scale: name of the scale.
    old: one scale of the committed results.json.
    new: the same of the new one.
  """
  rows = [c.row for c in experiment.declared(module, scale)]
  before, after = Table(old, rows), Table(new, rows)
  lines = ["| method | metric | committed | now | difference / s.e. |", "|---|---|---|---|---|"]
  for row, metric in dict.fromkeys([*before.values, *after.values]):
    a, b = before.values.get((row, metric)), after.values.get((row, metric))
    if a is None or b is None or a.by_seed != b.by_seed:
      lines.append(f"| {row} | {metric} | {a or '-'} | {b or '-'} | {_in_errors(a, b)} |")
  if len(lines) == 2:
    lines = ["no value changed"]
  places = lambda side: {(c["row"], c["column"]): c["config"] for c in side.get("cells", ())}
  hashes = places(new)
  changed = [k[0] for k, v in places(old).items() if hashes.get(k, v) != v]
  if changed:
    lines += ["", f"other configs than the committed ones: {', '.join(changed)}"]
  for claim in module.CLAIMS:
    was, now = judge(claim, before)[0], judge(claim, after)[0]
    if was != now:
      lines.append(f"- claim: {claim.sentence} ... was: {was}; now: {now}")
  return "\n".join(lines)


def _in_errors(a, b) -> str:
  """The difference in joint standard errors, where both sides have one."""
  if a is None or b is None or a.se is None or b.se is None:
    return "-"
  joint = math.hypot(a.se, b.se)
  return f"{(b - a) / joint:+.1f}" if joint else f"{b - a:+.4g} (no spread)"


def _print_diff(root, key, scale, against):
  old = json.loads(pathlib.Path(against).read_text()) if against else committed(root, key)
  new = experiment.stored(root, key)
  sides = [side["scales"].get(scale, {}) for side in (old, new)]
  print(diff(experiment.load(root, key), scale, *sides))


def define_flags() -> None:
  """The flags of the command; called once, by `jaxpref report`."""
  flags.DEFINE_bool("all", False, "all experiments that are found")
  flags.DEFINE_enum("scale", "tiny", experiment.SCALES, "which scale's results")
  flags.DEFINE_bool("write", False, "paste the report into the experiment's README.md")
  flags.DEFINE_bool("diff", False, "compare the working tree's results with the committed ones")
  flags.DEFINE_string("against", "", "with --diff: a results.json in place of the committed one")
  flags.DEFINE_string("root", ".", "the project folder, which holds experiments/")


def main(argv) -> None:
  """`jaxpref report KEY... | --all [--scale=tiny] [--write] [--diff [--against=FILE]]`."""
  f = flags.FLAGS
  there = experiment.keys(f.root)
  if f.all == (len(argv) > 1):
    raise Refused(f"report needs names or --all, not both; there is: {', '.join(there) or 'none'}.")
  if f.against and not f.diff:
    raise Refused("--against says what --diff compares with; give --diff too.")
  chosen = there if f.all else argv[1:]
  for key in chosen:
    experiment.load(f.root, key)
  for key in chosen:
    print(f"## {key}\n")
    if f.diff:
      _print_diff(f.root, key, f.scale, f.against)
    else:
      print(text(f.root, key, f.scale))
    if f.write:
      print(f"\nwritten: {write(f.root, key, f.scale)}")
    print()
