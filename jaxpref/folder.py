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


def claim(workdir, about: dict, *, proceed: bool = False) -> None:
  """Takes a folder for a run, or refuses if another config has run there.

  Args:
    workdir: the run's folder; made if absent.
    about: content of `run.json`; its `config` is what must agree.
    proceed: continue in spite of a difference, and store the new config.

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
  if old != about:
    write_json(workdir / "run.json", about)


def about(workdir) -> dict:
  """`run.json` of a folder.

  Raises:
    Refused: nothing has run there.
  """
  found = read_json(pathlib.Path(workdir) / "run.json")
  if found is None:
    raise Refused(f"{workdir} holds no run of jaxpref train (no run.json).")
  return found


def finished(workdir) -> dict[str, float] | None:
  """Final metrics of a finished run, or None."""
  done = read_json(pathlib.Path(workdir) / "done.json")
  return None if done is None else done["metrics"]


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
