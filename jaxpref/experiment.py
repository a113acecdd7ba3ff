"""Runs the cells of an experiment's table, over seeds; an interrupted sweep resumes.

An experiment is a folder `experiments/<key>/` with an `experiment.py` that has

- `cells(scale)`: yields `Cell(row, config, seeds)` for `tiny`, `small` or `paper`;
- `PUBLISHED`: `{(row, metric): Published(value, where)}`;
- `CLAIMS`: `Claim(sentence, predicate)`, judged on our means;
- optionally `run(config) -> dict[str, float]` or `run(config, workdir)`; without it a cell is
  `jaxpref.train.run(config, workdir)`;
- optionally `SHOWN`: `{title: metrics}`, which metrics are printed.

Each run has a folder `runs/experiments/<key>/<hash>-<seed>/`. The hash is of the config without its
seed and, where the experiment has its own `run`, of the file that holds it: whoever changes either
gets new runs. A change elsewhere in the library does not: then use `--fresh`.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import importlib.util
import inspect
import math
import pathlib
import shutil
import sys
import time
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

import jax
from absl import flags

import jaxpref
from jaxpref import call, folder, table
from jaxpref import config as cfg
from jaxpref.table import Cell, Claim, Measured, NotMeasured, Published, Table, above, difference
from jaxpref.types import Refused

__all__ = [
  "Cell",
  "Claim",
  "Measured",
  "NotMeasured",
  "Published",
  "Table",
  "above",
  "difference",
]

SCALES = ("tiny", "small", "paper")


class Run(NamedTuple):
  """One cell with one seed, and where it lives."""

  cell: Cell
  digest: str
  seed: int
  workdir: pathlib.Path


def keys(root) -> list[str]:
  """Names of the experiments under `root/experiments`."""
  return sorted(p.parent.name for p in pathlib.Path(root).glob("experiments/*/experiment.py"))


def load(root, key: str) -> ModuleType:
  """The module `experiments/<key>/experiment.py`, with `root` on the import path.

  Raises:
    Refused: no such experiment (with the nearest), or one without `cells`.
  """
  root = pathlib.Path(root).resolve()
  there = keys(root)
  if key not in there:
    raise Refused(
      f"there is no experiment {key!r} under {root / 'experiments'}. {call.nearest(key, there)}"
      f"It has: {', '.join(there) or 'none; give the project folder with --root'}."
    )
  if str(root) not in sys.path:
    sys.path.insert(0, str(root))
  name = f"jaxpref_experiment_{key}"
  spec = importlib.util.spec_from_file_location(name, root / "experiments" / key / "experiment.py")
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module
  spec.loader.exec_module(module)
  for needed in ("cells", "PUBLISHED", "CLAIMS"):
    if not hasattr(module, needed):
      raise Refused(f"experiments/{key}/experiment.py has no {needed}; see jaxpref.experiment.")
  return module


def declared(module: ModuleType, scale: str) -> list[Cell]:
  """The cells of a scale.

  Raises:
    Refused: an unknown scale, no cell, a wrong row (filled twice, with a comma), seeds or `seed`.
  """
  if scale not in SCALES:
    raise Refused(f"no scale {scale!r}. {call.nearest(scale, SCALES)}It is one of {SCALES}.")
  cells = [c._replace(seeds=tuple(c.seeds)) for c in module.cells(scale)]
  if not cells:
    raise Refused(f"{module.__file__} yields no cells at scale {scale!r}.")
  places = set()
  for cell in cells:
    if (cell.row, cell.column) in places:
      raise Refused(f"{module.__file__} fills row {cell.row!r}, column {cell.column!r} twice.")
    places.add((cell.row, cell.column))
    if "," in cell.row:
      raise Refused(f"row {cell.row!r} has a comma, which separates rows in --only.")
    if not cell.seeds or len(set(cell.seeds)) != len(cell.seeds):
      raise Refused(f"row {cell.row!r} needs different seeds; it has {cell.seeds}.")
    if "seed" not in cell.config:
      raise Refused(f"the config of row {cell.row!r} has no field 'seed'.")
  return cells


def runner(module: ModuleType, cell: Cell):
  """What runs a cell: its own `run`, the experiment's, or None for `train.run`."""
  return cell.run or getattr(module, "run", None)


def with_seed(cell: Cell, seed: int):
  """A copy of the cell's config with the seed in place."""
  config = cell.config.copy_and_resolve_references()
  with config.unlocked():
    config.seed = seed
  return config


def source(module: ModuleType, cell: Cell) -> list[str]:
  """Name and hash of the file of the cell's own `run`; empty if it is `train.run`."""
  own = runner(module, cell)
  if own is None:
    return []
  text = pathlib.Path(inspect.getsourcefile(own)).read_bytes()
  return [own.__qualname__, hashlib.sha256(text).hexdigest()]


def settings(cell: Cell) -> dict:
  """The cell's config as plain dicts, without a seed of its own."""
  return cfg.plain(with_seed(cell, 0))


def digest(module: ModuleType, cell: Cell) -> str:
  """16 hex digits that name a cell: of its config without the seed, and of its own `run`."""
  return cfg.digest({"config": settings(cell), "run": source(module, cell)})


def current(module: ModuleType, cell: Cell, entry: dict) -> bool:
  """Whether an entry of results.json is of this cell: the same `run` and the same config.

  Keys that the recipe has gained since and that stand at their default (`recipe.base`) do not
  count; a key that has gone, another value or another default does.
  """
  from jaxpref import recipe  # late: it imports the data room

  gained = cfg.flat(recipe.base())
  changes = cfg.diff(entry["settings"], settings(cell))
  old = cfg.flat(entry["settings"])
  harmless = all(k not in old and k in gained and new == gained[k] for k, _, new in changes)
  return harmless and entry["run"] == source(module, cell)


def runs(module, root, key: str, cells: Iterable[Cell], seeds: int = 0) -> list[Run]:
  """All runs of some cells.

  Args:
    module: the experiment.
    root: project folder.
    key: name of the experiment.
    cells: of `declared`.
    seeds: if positive, seeds 0..seeds-1 in place of the cells' own.
  """
  if seeds < 0:
    raise Refused(f"--seeds={seeds} must be a number of seeds, or 0 for those of the experiment.")
  base = pathlib.Path(root) / "runs" / "experiments" / key
  out = []
  for cell in cells:
    name = digest(module, cell)
    for seed in range(seeds) if seeds else cell.seeds:
      out.append(Run(cell, name, seed, base / f"{name}-{seed}"))
  return out


def finished(run: Run) -> dict | None:
  """What a finished run measured, or None."""
  return folder.read_json(run.workdir / "cell.json")


def execute(module: ModuleType, run: Run) -> dict:
  """Runs one cell with one seed and keeps what it measured.

  Raises:
    Refused: the run returned something else than finite numbers by name.
  """
  run.workdir.mkdir(parents=True, exist_ok=True)
  config, start = with_seed(run.cell, run.seed), time.monotonic()
  own = runner(module, run.cell)
  if own is None:
    from jaxpref import train  # late: an experiment that trains nothing does not need it

    values = train.run(config, run.workdir)
  else:
    values = own(config, run.workdir) if len(call.needs(own)) > 1 else own(config)
  if not isinstance(values, dict) or not values:
    raise Refused(f"row {run.cell.row!r}: run returned {values!r}, not a dict of numbers by name.")
  for name, value in values.items():
    if not math.isfinite(value):
      raise Refused(f"row {run.cell.row!r}, seed {run.seed}: {name} is {float(value)}.")
  result = {
    "values": {k: float(v) for k, v in values.items()},
    "config": cfg.plain(config),
    "seconds": round(time.monotonic() - start, 2),
    "backend": jax.default_backend(),
    "jaxpref": jaxpref.__version__,
    "jax": importlib.metadata.version("jax"),
    "date": datetime.date.today().isoformat(),
  }
  folder.write_json(run.workdir / "cell.json", result)
  return result


def gather(module: ModuleType, group: list[Run]) -> dict | None:
  """One entry of results.json from the finished runs of one cell; None if there are none.

  Raises:
    Refused: runs of one cell that measured different things.
  """
  found = {r.seed: f for r in group if (f := finished(r)) is not None}
  if not found:
    return None
  names = {seed: sorted(f["values"]) for seed, f in found.items()}
  if len(set(map(tuple, names.values()))) > 1:
    raise Refused(f"the seeds of row {group[0].cell.row!r} measured different metrics: {names}.")
  first = next(iter(found.values()))
  by_metric = {k: {s: f["values"][k] for s, f in found.items()} for k in first["values"]}
  measured = {k: Measured(v) for k, v in by_metric.items()}
  every = lambda name: ", ".join(sorted({f[name] for f in found.values()}))
  return {
    "row": group[0].cell.row,
    "column": group[0].cell.column,
    "config": group[0].digest,
    "settings": settings(group[0].cell),
    "run": source(module, group[0].cell),
    "seeds": list(found),
    "values": {k: list(v.values()) for k, v in by_metric.items()},
    "mean": {k: float(v) for k, v in measured.items()},
    "se": {k: v.se for k, v in measured.items()},
    "seconds": [f["seconds"] for f in found.values()],
  } | {name: every(name) for name in ("backend", "jaxpref", "jax", "date")}


def results_path(root, key: str) -> pathlib.Path:
  """Where an experiment's results are committed."""
  return pathlib.Path(root) / "experiments" / key / "results.json"


def stored(root, key: str) -> dict:
  """The experiment's results.json, or an empty one."""
  return folder.read_json(results_path(root, key)) or {"experiment": key, "scales": {}}


def write_results(module, root, key: str, scale: str, groups: list[list[Run]]) -> dict:
  """Writes results.json: every cell that has finished runs here, or else its earlier entry.

  An earlier entry stays only if it is `current`: a table never mixes configs.

  Returns:
    The scale's part of the file.
  """
  everything = stored(root, key)
  before = everything["scales"].get(scale, {}).get("cells", [])
  kept = {(c["row"], c["column"]): c for c in before}
  entries = []
  for group in groups:
    cell = group[0].cell
    earlier = kept.get((cell.row, cell.column))
    if earlier is not None and not current(module, cell, earlier):
      earlier = None
    entries.append(gather(module, group) or earlier)
  everything["scales"][scale] = {"cells": [e for e in entries if e is not None]}
  folder.write_json(results_path(root, key), everything)
  return everything["scales"][scale]


def report(module: ModuleType, scale: str, results: dict) -> str:
  """Tables and claims of one scale as markdown, and what made them."""
  rows = [c.row for c in declared(module, scale)]
  wanted = getattr(module, "SHOWN", None)
  text = table.report(results, scale, rows, module.PUBLISHED, module.CLAIMS, wanted)
  return f"{text}\n\n{made_by(results)}"


def made_by(results: dict) -> str:
  """How many runs there were, how long they took, on what, with which versions.

  >>> made_by({"cells": []})
  'no runs'
  """
  cells = results["cells"]
  if not cells:
    return "no runs"
  every = lambda name: " and ".join(sorted({c[name] for c in cells}))
  seconds = sum(sum(c["seconds"]) for c in cells)
  return (
    f"{sum(len(c['seeds']) for c in cells)} runs, {seconds:.0f} s in all, on {every('backend')}; "
    f"jaxpref {every('jaxpref')}, jax {every('jax')}; {every('date')}"
  )


def sweep(root, key, *, scale="tiny", only="", seeds=0, dry=False, fresh=False) -> str:
  """Runs what is missing of an experiment and writes results.json.

  Args:
    root: project folder.
    key: name of the experiment.
    scale: `tiny`, `small` or `paper`.
    only: rows to run, separated by commas; empty runs all.
    seeds: if positive, seeds 0..seeds-1 in place of the experiment's own.
    dry: list the runs and what is missing; run and write nothing.
    fresh: run again what is finished.

  Returns:
    The report, or the list if `dry`.

  Raises:
    Refused: unknown experiment, scale or row.
  """
  module = load(root, key)
  cells = declared(module, scale)
  wanted = _rows(only, [c.row for c in cells])
  groups = [runs(module, root, key, [c], seeds) for c in cells]
  chosen = [r for group in groups for r in group if r.cell.row in wanted]
  if dry:
    return "\n".join(_listing(key, scale, groups, wanted))
  for number, run in enumerate(chosen, 1):
    if finished(run) is not None and not fresh:
      continue
    if fresh and run.workdir.exists():
      shutil.rmtree(run.workdir)
    print(f"[{number}/{len(chosen)}] {_place(run.cell)}, seed {run.seed} ...", flush=True)
    print(f"  {execute(module, run)['seconds']} s", flush=True)
    write_results(module, root, key, scale, groups)
  return report(module, scale, write_results(module, root, key, scale, groups))


def _rows(only, rows):
  wanted = [name.strip() for name in only.split(",") if name.strip()] or rows
  for name in wanted:
    if name not in rows:
      known = ", ".join(dict.fromkeys(rows))
      raise Refused(f"--only: no row {name!r}. {call.nearest(name, rows)}The rows are: {known}.")
  return wanted


def _place(cell):
  return cell.row + (f" / {cell.column}" if cell.column else "")


def _listing(key, scale, groups, wanted):
  """One line per cell: its hash, the seeds that are done and those that are missing."""
  lines, left = [f"{key}, scale {scale}:"], 0
  for group in groups:
    if group[0].cell.row not in wanted:
      continue
    done = [r.seed for r in group if finished(r) is not None]
    missing = [r.seed for r in group if finished(r) is None]
    left += len(missing)
    lines.append(f"  {_place(group[0].cell):32s} {group[0].digest}  done {done}  missing {missing}")
  return [*lines, f"  {left} runs are missing."]


def define_flags() -> None:
  """The flags of the command; called once, by `jaxpref experiment`."""
  flags.DEFINE_enum("scale", "tiny", SCALES, "how large: CI and readers, one GPU, as published")
  flags.DEFINE_string("only", "", "rows to run, separated by commas; empty runs all")
  flags.DEFINE_integer(
    "seeds", 0, "run seeds 0..N-1 in place of the experiment's own; 0 keeps them"
  )
  flags.DEFINE_bool("dry", False, "list the cells and what is missing, run nothing")
  flags.DEFINE_bool("fresh", False, "run again what is finished")
  flags.DEFINE_string("root", ".", "the project folder, which holds experiments/ and configs/")


def main(argv) -> None:
  """`jaxpref experiment KEY... [--scale=tiny] [--only=ROW] [--seeds=N] [--dry]`."""
  f = flags.FLAGS
  if len(argv) < 2:
    raise Refused(f"experiment needs a name; there is: {', '.join(keys(f.root)) or 'none'}.")
  for key in argv[1:]:
    load(f.root, key)  # a typing error in the last name is told before the first run
  for key in argv[1:]:
    print(sweep(f.root, key, scale=f.scale, only=f.only, seeds=f.seeds, dry=f.dry, fresh=f.fresh))
