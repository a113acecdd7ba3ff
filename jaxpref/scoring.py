"""Calls reward functions on the host, each with a time limit; none can take the run down."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxpref.types import Refused

ON_ERROR = ("stop", "mask")


class Reward(NamedTuple):
  """One weighted reward: a bound function of a record and a response."""

  name: str
  fn: Callable
  weight: float


def score(
  rewards: Sequence[Reward], records, responses, *, seconds: float, on_error: str
) -> np.ndarray:
  """Rewards of responses, `f32[N, M]`, M functions.

  A function that raises, returns no finite number or takes longer than `seconds` for one response
  stops the run with a sentence, or gives NaN there (`on_error="mask"`). What hangs is left behind
  in its thread, and the next response is scored by a new one.

  Args:
    rewards: the functions.
    records: N records.
    responses: N texts.
    seconds: limit of one call.
    on_error: `stop` or `mask`.

  Raises:
    Refused: with `stop`, the function, the record, the response and what happened.
  """
  columns = []
  for reward in rewards:
    found = _call_all(reward.fn, list(zip(records, responses, strict=True)), seconds)
    for (record, response), value in zip(zip(records, responses, strict=True), found, strict=True):
      if isinstance(value, str) and on_error == "stop":
        raise Refused(
          f"reward {reward.name} on {record.source or 'a record'}, response {response[:80]!r}: "
          f"{value}. Mend it, or set config.rollout.on_error='mask' to leave such responses out."
        )
    columns.append([math.nan if isinstance(value, str) else value for value in found])
  return np.asarray(columns, np.float32).reshape(len(rewards), len(responses)).T


def _call_all(fn, items, seconds) -> list[float | str]:
  """A finite number of each item, or a sentence about why there is none."""
  found: list[float | str] = []
  while len(found) < len(items):
    results: queue.Queue = queue.Queue()
    rest = items[len(found) :]
    threading.Thread(target=_work, args=(fn, rest, results), daemon=True).start()
    for _ in rest:
      try:
        found.append(results.get(timeout=seconds))
      except queue.Empty:
        found.append(f"it took longer than {seconds:g} s")
        break
  return found


def _work(fn, items, results):
  for record, response in items:
    try:
      value = float(fn(record, response))
      results.put(value if math.isfinite(value) else f"it returned {value}")
    except Exception as error:  # whatever a user's function raises
      results.put(f"it raised {type(error).__name__}: {error}")
