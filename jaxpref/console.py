"""The console of a run: aligned lines, sentences, and a progress bar on a terminal."""

from __future__ import annotations

import math
import os
import re
import shutil
import time
from typing import TextIO

WIDTH = 120  # columns that a console line may take
HEADER_EVERY = 25  # lines
METRIC_COLUMNS = {
  "loss": "loss",
  "rewards/accuracies": "accuracy",
  "rewards/margins": "margin",
  "reward/mean": "reward",
  "logps/chosen": "logp chosen",
  "logps/rejected": "logp rejected",
  "kl/ref": "kl/ref",
  "length/mean": "length",
  "entropy": "entropy",
  "grad_norm": "grad norm",
}
SPEED_COLUMNS = {"tokens_per_second": "tokens/s", "memory_gib": "GiB", "compiles": "compiles"}


class Console:
  """Aligned lines of at most `WIDTH` columns and, on a terminal only, a progress bar below."""

  def __init__(self, stream: TextIO, total_steps: int):
    self.stream, self.total = stream, total_steps
    self.terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    self._first = None
    self._held, self._names, self._columns, self._printed = None, set(), [], 0
    self._bar, self._drawn = "", -math.inf

  def hold(self, step: int, metrics: dict[str, float | None]) -> None:
    """Keeps the metrics of a step until its speed completes the line."""
    self.settle()
    self._held = (step, metrics)

  def settle(self) -> None:
    """Prints the line that still waits for its speed."""
    if self._held:
      self.line(self._held[0], {})

  def line(self, step: int, speed: dict[str, float]) -> None:
    """Prints the line of a step; a header comes first, again every `HEADER_EVERY` lines, and
    where a new column appears.
    """
    if self._held and self._held[0] != step:
      self.settle()
    values = (self._held[1] if self._held else {}) | speed
    self._held = None
    self._names |= set(values)
    columns = _columns(self._names)
    if columns != self._columns or self._printed == HEADER_EVERY:
      self._columns, self._printed = columns, 0
      self._print("    step" + "".join(f"  {head:>{_cell(head)}}" for _, head in columns))
    self._printed += 1
    cells = "".join(f"  {four(values.get(name)):>{_cell(head)}}" for name, head in columns)
    self._print(f"{step:>8}{cells}")
    self.progress(step)

  def evaluation(self, step: int, name: str, metrics: dict[str, float | None]) -> None:
    """Prints one line of an evaluation: the metrics that fit, the important ones first."""
    self.settle()
    order = [k for k in METRIC_COLUMNS if k in metrics]
    order += [k for k in metrics if k not in order]
    text, left = f"{step:>8}  {name}:", len(order)
    for key in order:
      more = f"  {METRIC_COLUMNS.get(key, key)} {four(metrics[key])}"
      if len(text) + len(more) + len("  (+999 in metrics.jsonl)") > WIDTH:
        break
      text, left = text + more, left - 1
    self._print(text + (f"  (+{left} in metrics.jsonl)" if left else ""))

  def say(self, text: str) -> None:
    """Prints a text after the line that waits; control characters are shown, not obeyed."""
    self.settle()
    self._print(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda m: repr(m[0])[1:-1], text))

  def progress(self, step: int) -> None:
    """Redraws the bar with the time left, measured from the first call on (after compiling)."""
    now = time.monotonic()
    self._first = self._first or (step, now)
    if not self.terminal or now - self._drawn < 0.1:
      return
    self._drawn = now
    done = step - self._first[0]
    left = (self.total - step) * (now - self._first[1]) / done if done > 0 else math.nan
    self.clear()
    self._bar = _bar(step, self.total, left, shutil.get_terminal_size().columns - 1)
    self._raw(self._bar)

  def clear(self) -> None:
    """Removes the bar."""
    if self._bar:
      self._raw("\r\x1b[2K")
      self._bar = ""

  def _print(self, text):
    bar = self._bar
    self.clear()
    self._raw(text + "\n")
    if bar:
      self._bar = bar
      self._raw(bar)

  def _raw(self, text):
    encoding = getattr(self.stream, "encoding", None) or "utf-8"
    self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    self.stream.flush()


def four(value: float | None) -> str:
  """A number with four significant digits, in at most 10 columns; whole numbers stay whole.

  >>> [four(x) for x in (0.5, -12.3456, 48213.0, 1_234_567, 1.5e-05, None)]
  ['0.5000', '-12.35', '48.21k', '1.235M', '1.500e-05', '-']
  """
  if value is None:
    return "-"
  if isinstance(value, int) and abs(value) < 10_000:
    return str(value)
  for least, size, letter in ((1e4, 1e3, "k"), (1e6, 1e6, "M"), (1e9, 1e9, "G")):
    text = f"{value / size:#.4g}".rstrip(".")
    if least <= abs(value) and "e" not in text and abs(float(text)) < 1000:
      return text + letter
  return f"{value:#.4g}".rstrip(".")


def duration(seconds: float) -> str:
  """Seconds as people say them.

  >>> [duration(s) for s in (0.2, 72, 7_380, 180_000)]
  ['0 s', '1 min 12 s', '2 h 3 min', '2 d 2 h']
  """
  for big, name, small, rest in (
    (86_400, "d", 3_600, "h"),
    (3_600, "h", 60, "min"),
    (60, "min", 1, "s"),
  ):
    if seconds >= big:
      return f"{int(seconds // big)} {name} {int(seconds % big // small)} {rest}"
  return f"{int(seconds)} s"


def _bar(step, total, left, width):
  tail = f" {step}/{total} steps" + ("" if math.isnan(left) else f", {duration(left)} left")
  size = min(40, width - len(tail) - 2)
  if size < 4:
    return tail.strip()[: max(width, 0)]
  full = size * min(step, total) // max(total, 1)
  return "[" + "=" * full + " " * (size - full) + "]" + tail


def _cell(head):
  return max(len(head), 10)


def _columns(values):
  """The columns of this run, chosen at its first line: all speeds, then metrics while they fit."""
  speeds = [(k, head) for k, head in SPEED_COLUMNS.items() if k in values]
  room = WIDTH - 8 - sum(2 + _cell(head) for _, head in speeds)
  metrics = []
  for name, head in METRIC_COLUMNS.items():
    if name in values and room >= 2 + _cell(head):
      metrics.append((name, head))
      room -= 2 + _cell(head)
  return metrics + speeds
