"""What a run leaves behind: JSON files, console lines, a progress bar, TensorBoard, W&B.

`metrics.jsonl` is the truth and holds no wall-clock, so that a run that was killed and resumed has
the same bytes as an undisturbed one; `speed.jsonl` holds what a clock measured. Write all that
belongs to a step, then `flush`, then save its checkpoint: a resumed run keeps the lines up to its
checkpoint and drops the rest. Other files of a run's folder: `run.json` (what was run),
`samples.jsonl`, `wrong.jsonl` (pairs that the model still gets wrong), `done.json` (finished).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from jaxpref import call
from jaxpref.console import Console
from jaxpref.types import Refused

STREAMS = ("metrics.jsonl", "speed.jsonl", "samples.jsonl")


class Backend(NamedTuple):
  """Another place that takes the same numbers: `log(step, {name: number or None})`."""

  log: Callable[[int, dict], None]
  flush: Callable[[], None]
  close: Callable[[], None]


def open_writer(
  workdir: str | os.PathLike,
  *,
  start_step: int,
  total_steps: int,
  backends: Sequence[str] = (),
  stream: TextIO | None = None,
  primary: bool = True,
) -> Writer:
  """Opens a run's folder for writing; on resume drops what the last checkpoint does not know.

  Args:
    workdir: the run's folder; made if missing.
    start_step: step of the restored checkpoint; 0 for a new start, which drops all lines.
    total_steps: steps of the whole run, for the progress bar.
    backends: any of "tensorboard", "wandb".
    stream: where console lines go; standard output if None.
    primary: False on all processes but the first: such a writer does nothing.

  Raises:
    Refused: an unknown backend, a missing package, a corrupt line, a folder that cannot be written.
  """
  for name in backends:
    if name not in BACKENDS:
      raise Refused(
        f"there is no log backend {name!r}. {call.nearest(name, BACKENDS)}"
        f"There are: {', '.join(BACKENDS)}."
      )
  if not primary:
    return Writer(Path(workdir), None, ())
  workdir = Path(workdir)
  with _writing(workdir):
    workdir.mkdir(parents=True, exist_ok=True)
    if start_step < total_steps:  # what an earlier end left is no longer true
      for name in ("done.json", "wrong.jsonl"):
        (workdir / name).unlink(missing_ok=True)
  truncate(workdir, start_step or -1)
  opened = tuple(BACKENDS[name](workdir, start_step) for name in backends)
  return Writer(workdir, Console(stream or sys.stdout, total_steps), opened)


def truncate(workdir: str | os.PathLike, step: int) -> None:
  """Drops the lines of later steps, and a torn last line, from metrics, speed and samples.

  A file that changes is replaced as a whole (temporary file, fsync, rename).

  Raises:
    Refused: a line in the middle is corrupt, or has no step; names file and line.
  """
  for name in STREAMS:
    path = Path(workdir) / name
    if not path.exists():
      continue
    kept = []
    for number, (row, line) in enumerate(_lines(path), 1):
      if type(row.get("step")) is not int:
        raise Refused(f"{path}:{number} has no whole number under 'step': {_short(line)}.")
      if row["step"] <= step:
        kept.append(line + b"\n")
    if path.read_bytes() != b"".join(kept):
      _replace(path, b"".join(kept))


def read_lines(path: str | os.PathLike) -> list[dict[str, Any]]:
  """The objects of a `.jsonl` file, without a torn last line; none if there is no such file.

  Raises:
    Refused: a line is not one JSON object; names file and line.
  """
  return [row for row, _ in _lines(Path(path))] if Path(path).exists() else []


def read_json(path: str | os.PathLike) -> dict[str, Any]:
  """The object of a `.json` file; empty if there is no such file.

  Raises:
    Refused: it does not hold one JSON object.
  """
  if not Path(path).exists():
    return {}
  tree = _parse(Path(path).read_bytes())
  if tree is None:
    raise Refused(f"{path} does not hold one JSON object. Remove it, or write it anew.")
  return tree


def write_json(path: str | os.PathLike, tree: dict[str, Any]) -> None:
  """Replaces a `.json` file as a whole; numbers that JSON lacks become text (`"inf"`)."""
  text = json.dumps(_clean(tree), indent=1, sort_keys=True, allow_nan=False)
  _replace(Path(path), text.encode() + b"\n")


class Writer:
  """An open run; made by `open_writer`.

  Attributes:
    workdir: the run's folder.
    console: where lines go; None on processes that write nothing.
    backends: open backends.
  """

  def __init__(self, workdir: Path, console: Console | None, backends: tuple[Backend, ...]):
    self.workdir, self.console, self.backends = workdir, console, backends
    self._told = set()

  def write(self, step: int, metrics: dict[str, Any], evaluation: str = "") -> None:
    """Appends one line to `metrics.jsonl`: the numbers of a step, or of an evaluation at it.

    A number is written as the shortest text that reads back as the same float32. NaN and infinity
    become null, which the console says once per name.

    Args:
      step: updates done.
      metrics: scalars by name.
      evaluation: its name, put before every metric's (`heldout/loss`); empty for training.

    Raises:
      Refused: a value that is no scalar, a metric named `step`, a disk that takes no more.
    """
    if self.console is None:
      return
    prefix = f"{evaluation}/" if evaluation else ""
    row = {f"{prefix}{name}": _number(prefix + name, metrics[name]) for name in sorted(metrics)}
    self._append("metrics.jsonl", {"step": int(step)} | row)
    for name in [n for n, value in row.items() if value is None and n not in self._told]:
      self._told.add(name)
      self.announce(f"step {step}: {name} is not finite; metrics.jsonl holds null for it.")
    self._log(step, row)
    if evaluation:
      self.console.evaluation(step, evaluation, {k.removeprefix(prefix): row[k] for k in row})
    else:
      self.console.hold(step, row)

  def speed(self, step: int, measured: dict[str, float]) -> None:
    """Appends one line to `speed.jsonl` and prints the console line of this step."""
    if self.console is None:
      return
    row = {k: v if isinstance(v, int) else float(f"{v:.6g}") for k, v in sorted(measured.items())}
    self._append("speed.jsonl", {"step": int(step)} | row)
    self._log(step, {f"speed/{name}": value for name, value in row.items()})
    self.console.line(step, row)

  def sample(self, step: int, prompt: str, response: str, logp: float, length: int) -> None:
    """Appends a sampled response: its log-probability in nats and its length in tokens."""
    if self.console is not None:
      row = {"prompt": prompt, "response": response, "length": int(length)}
      self._append("samples.jsonl", {"step": int(step), "logp": _number("logp", logp)} | row)

  def wrong(self, pairs: Iterable[dict[str, Any]]) -> None:
    """Writes `wrong.jsonl`: pairs with a margin of 0 or less, worst first."""
    if self.console is None:
      return
    rows = [
      {k: v if isinstance(v, str) else _number(k, v) for k, v in pair.items()} for pair in pairs
    ]
    rows.sort(key=lambda row: row["rewards/margins"] or 0.0)
    _replace(self.workdir / "wrong.jsonl", "".join(_dump(row) for row in rows).encode())

  def progress(self, step: int) -> None:
    """Redraws the progress bar, on a terminal, at most ten times a second."""
    if self.console is not None:
      self.console.progress(step)

  def announce(self, text: str) -> None:
    """Prints a sentence without destroying the bar."""
    if self.console is not None:
      self.console.say(text)

  def flush(self) -> None:
    """Brings every line to the disk; call it before each checkpoint."""
    if self.console is None:
      return
    self.console.settle()
    for path in [self.workdir / name for name in STREAMS]:
      if path.exists():
        with _writing(path), path.open("ab") as file:
          os.fsync(file.fileno())
    for backend in self.backends:
      backend.flush()

  def close(self) -> None:
    """Flushes, removes the bar and closes the backends; also after an error."""
    if self.console is None:
      return
    self.flush()
    self.console.clear()
    for backend in self.backends:
      backend.close()

  def _append(self, name, row):
    path = self.workdir / name
    with _writing(path), path.open("ab") as file:
      file.write(_dump(row).encode())

  def _log(self, step, row):
    for backend in self.backends:
      backend.log(int(step), row)


def _number(name, value):
  """A whole number as it is; any other as the double that prints as its float32 does; or None."""
  if name == "step":
    raise Refused("a metric may not be named 'step': the line already has the step of the run.")
  array = np.asarray(value)
  try:
    if array.dtype.kind in "biu":
      return int(array.item())
    with np.errstate(over="ignore"):
      number = np.float32(float(array.item()))
  except (TypeError, ValueError) as error:
    raise Refused(
      f"metric {name} must be one number; it is {_short(value)} of shape {array.shape}."
    ) from error
  return float(str(number)) if np.isfinite(number) else None


def _short(value):
  text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
  return repr(text if len(text) <= 60 else text[:57] + "...")


def _dump(row):
  return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _clean(tree):
  if isinstance(tree, dict):
    return {str(key): _clean(value) for key, value in tree.items()}
  if isinstance(tree, list | tuple):
    return [_clean(value) for value in tree]
  return str(tree) if isinstance(tree, float) and not math.isfinite(tree) else tree


def _parse(line):
  try:
    row = json.loads(line, parse_constant=lambda _: None)
  except ValueError:
    return None
  return row if isinstance(row, dict) else None


def _lines(path):
  """Pairs (object, its bytes); what follows the last newline is torn and left out."""
  for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
    row = _parse(line)
    if row is None:
      raise Refused(
        f"{path}:{number} is not one JSON object: {_short(line)}. Repair or remove that line; "
        "only the last line of a run can be torn by a crash."
      )
    yield row, line


def _replace(path, data):
  part = path.with_name(path.name + ".part")
  with _writing(path):
    with part.open("wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    part.replace(path)


@contextlib.contextmanager
def _writing(path):
  try:
    yield
  except OSError as error:
    raise Refused(
      f"cannot write {path}: {error.strerror}. Free space or fix the permissions there, or give "
      "another --workdir; the same command then goes on from the last checkpoint."
    ) from error


def _tensorboard(workdir, start_step):
  """Event files in `workdir/tensorboard`; on resume TensorBoard hides what the run repeats."""
  try:
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer import event_file_writer
  except ImportError as error:
    raise Refused("logging to tensorboard needs a package: pip install tensorboard.") from error
  events = event_file_writer.EventFileWriter(str(workdir / "tensorboard"))
  if start_step:
    restart = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    events.add_event(
      event_pb2.Event(wall_time=time.time(), step=start_step + 1, session_log=restart)
    )

  def log(step, row):
    numbers = [
      summary_pb2.Summary.Value(tag=name, simple_value=value)
      for name, value in row.items()
      if value is not None
    ]
    summary = summary_pb2.Summary(value=numbers)
    events.add_event(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

  return Backend(log, events.flush, events.close)


def _wandb(workdir, start_step):
  """Weights & Biases, offline unless WANDB_MODE says otherwise; one id per folder, so it resumes.

  A resumed run repeats steps with the same numbers; wandb ignores steps that it has.
  """
  try:
    import wandb
  except ImportError as error:
    raise Refused("logging to wandb needs a package: pip install wandb.") from error
  identity = read_json(workdir / "wandb.json") if start_step else {}
  if not identity:
    identity = {"id": secrets.token_hex(4)}
    write_json(workdir / "wandb.json", identity)
  about = read_json(workdir / "run.json")
  run = wandb.init(
    project=os.environ.get("WANDB_PROJECT", "jaxpref"),
    mode=os.environ.get("WANDB_MODE", "offline"),
    dir=str(workdir),
    id=identity["id"],
    resume="allow",
    name=about.get("title"),
    config=about.get("config"),
    settings=wandb.Settings(silent=True, console="off", save_code=False, disable_git=True),
  )

  def log(step, row):
    run.log({name: value for name, value in row.items() if value is not None}, step=step)

  return Backend(log, lambda: None, run.finish)


BACKENDS = {"tensorboard": _tensorboard, "wandb": _wandb}
