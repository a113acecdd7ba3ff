"""A run as its files tell it: what ran, how it went, how far it came."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from jaxpref import curves, writer
from jaxpref.console import duration
from jaxpref.types import Refused

ALIVE = 600  # seconds without a line after which a run counts as stopped


class Run(NamedTuple):
  """The files of a run's folder.

  Attributes:
    folder: where they are.
    about: `run.json`.
    series: (step, value) points by metric; those of `speed.jsonl` as `speed/...`.
    samples, wrong: lines of `samples.jsonl` and `wrong.jsonl`.
    done: `done.json`, empty while the run is not finished.
    stages: runs in sub-folders, which came before this one.
  """

  folder: Path
  about: dict[str, Any]
  series: dict[str, list[tuple[int, float | None]]]
  samples: list[dict[str, Any]]
  wrong: list[dict[str, Any]]
  done: dict[str, Any]
  stages: tuple[Run, ...]


def read(workdir: str | os.PathLike) -> Run:
  """Reads a run's folder.

  Raises:
    Refused: there is no run, or one of its files is corrupt.
  """
  folder = Path(workdir)
  if not (folder / "run.json").exists():
    raise Refused(
      f"{folder} holds no run: it has no run.json. Give the --workdir of a training run, or "
      "--all=FOLDER for a folder of runs."
    )
  speed = curves.by_name(writer.read_lines(folder / "speed.jsonl"))
  series = curves.by_name(writer.read_lines(folder / "metrics.jsonl"))
  inner = sorted(path.parent for path in folder.glob("*/run.json"))
  return Run(
    folder,
    writer.read_json(folder / "run.json"),
    series | {f"speed/{name}": points for name, points in speed.items()},
    writer.read_lines(folder / "samples.jsonl"),
    writer.read_lines(folder / "wrong.jsonl"),
    writer.read_json(folder / "done.json"),
    tuple(read(path) for path in inner),
  )


def title(run: Run) -> str:
  """The run's title, or the name of its folder."""
  return run.about.get("title") or run.folder.resolve().name


def last(run: Run) -> dict[str, float | None]:
  """The final number of every metric: the last line's, or what `done.json` says."""
  found = {name: points[-1][1] for name, points in run.series.items()}
  return found | run.done.get("metrics", {})


def step(run: Run) -> int:
  """How far the run came."""
  return run.done.get("step", max((points[-1][0] for points in run.series.values()), default=0))


def spent(run: Run) -> str:
  """Time that the run took; the clock starts anew where it was resumed. Empty if unknown."""
  total = before = 0.0
  for _, seconds in run.series.get("speed/seconds", []):
    if seconds is not None:
      total += seconds - before if seconds >= before else seconds
      before = seconds
  return duration(total) if total else ""


def status(run: Run) -> tuple[str, str]:
  """`finished`, `running` or `stopped`, and the sentence that says where."""
  total = run.about.get("config", {}).get("steps")
  where = f"step {step(run)}" + (f" of {total}" if isinstance(total, int) else "")
  if run.done:
    return "finished", f"Finished at {where}"
  path = run.folder / "metrics.jsonl"
  age = time.time() - path.stat().st_mtime if path.exists() else float("inf")
  if age < ALIVE:
    return "running", f"Running, {where} when this page was made"
  return "stopped", f"Stopped at {where}" if run.series else "Nothing written yet"
