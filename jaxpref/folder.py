"""A run's folder: whose it is, whether it is finished, and files that are whole or not there.

`run.json` says what runs here, `metrics.jsonl` is the truth about how it went, `done.json` that it
is finished. A folder belongs to one config; another one is refused with the difference.
"""

from __future__ import annotations

import json
import os
import pathlib

from jaxpref import config as cfg
from jaxpref.types import Refused

# what a kill leaves in the middle of writing a file: `.NAME.PID`, and those of writer and tokenize
LEFTOVERS = (".*.json.*[0-9]", ".*.npz.*[0-9]", ".probe.*[0-9]", ".tokenizer-*.tmp", "*.part")


def write_json(path, value) -> None:
  """Writes JSON so that the file is always either the old or the new one, whole."""
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  with open(temporary, "w", encoding="utf-8") as file:
    json.dump(value, file, indent=1, sort_keys=True, ensure_ascii=False)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def read_json(path):
  """The content of a JSON file, or None where there is no such file.

  Raises:
    Refused: it is not JSON.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  try:
    return json.loads(path.read_text(encoding="utf-8"))
  except ValueError as error:
    raise Refused(f"{path} is not JSON ({error}); it was changed by hand or damaged.") from error


def lines(path) -> list[dict]:
  """The objects of a JSONL file, in order; none where there is no such file."""
  path = pathlib.Path(path)
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def check(workdir, about: dict, *, proceed: bool = False) -> None:
  """Refuses a folder where another config has run; writes nothing.

  Args:
    workdir: the run's folder, which need not exist.
    about: content of `run.json`; its `config` is what must agree, and where they are known the
      hashes `tokenizer` and `data`.
    proceed: continue in spite of another config or other data.

  Raises:
    Refused: the folder belongs to another config (with the differences), or holds other things.
  """
  workdir = pathlib.Path(workdir)
  old = read_json(workdir / "run.json")
  if old is None and (workdir / "checkpoints").exists():
    raise Refused(f"{workdir} holds checkpoints but no run.json; give another --workdir.")
  if old is not None and not proceed:
    changes = cfg.diff(old["config"], about["config"])
    if changes:
      told = "; ".join(f"{k}: {a!r} there, {b!r} now" for k, a, b in changes[:8])
      more = f" and {len(changes) - 8} more" if len(changes) > 8 else ""
      raise Refused(
        f"{workdir} holds a run of another config ({told}{more}). Give another --workdir, or "
        "--proceed to continue that run with the new config."
      )
  for name, remedy in (
    ("tokenizer", "the same id would mean another text: put its tokenizer.json back"),
    ("data", "they have changed: restore them, add --proceed to go on with the new ones"),
  ):
    there, here = (old or {}).get(name), about.get(name)
    if there and here and there != here and not (name == "data" and proceed):
      raise Refused(
        f"the {name} of the run in {workdir} had the hash {there[:12]}, now it is {here[:12]}; "
        f"{remedy}, or give another --workdir."
      )


def claim(workdir, about: dict, *, proceed: bool = False) -> None:
  """Takes a folder for a run: `check`, then `run.json`; leftovers of a killed run are removed.

  Args:
    workdir: the run's folder; made if absent.
    about: content of `run.json`.
    proceed: as in `check`; stores the new config.

  Raises:
    Refused: as `check`.
  """
  workdir = pathlib.Path(workdir)
  check(workdir, about, proceed=proceed)
  workdir.mkdir(parents=True, exist_ok=True)
  for leftover in (path for pattern in LEFTOVERS for path in workdir.glob(pattern)):
    leftover.unlink(missing_ok=True)
  old = read_json(workdir / "run.json") or {}
  if old | about != old:
    write_json(workdir / "run.json", old | about)


def about(workdir) -> dict:
  """`run.json` of a folder.

  Raises:
    Refused: nothing has run there.
  """
  found = read_json(pathlib.Path(workdir) / "run.json")
  if found is None:
    raise Refused(f"{workdir} holds no run of jaxpref train (no run.json).")
  return found


def finished(workdir, steps: int) -> dict[str, float] | None:
  """Final metrics of a run that has done so many steps, or None."""
  done = read_json(pathlib.Path(workdir) / "done.json")
  return None if done is None or done["step"] < steps else done["metrics"]


def finish(workdir, step: int) -> dict[str, float]:
  """Marks a run as finished; its final metrics are the last value of each in `metrics.jsonl`."""
  final: dict[str, float] = {}
  for line in lines(pathlib.Path(workdir) / "metrics.jsonl"):
    final |= {k: v for k, v in line.items() if k != "step"}
  write_json(pathlib.Path(workdir) / "done.json", {"step": step, "metrics": final})
  return final


def inside(workdir, name: str) -> pathlib.Path:
  """A path in the run's folder.

  Raises:
    Refused: the name leads out of it.
  """
  root = pathlib.Path(workdir).resolve()
  path = (root / name).resolve()
  if not path.is_relative_to(root):
    raise Refused(f"{name!r} leads out of the workdir {root}; give a name inside it.")
  return path
