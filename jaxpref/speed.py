"""How fast a run goes: tokens and steps per second, compilations, memory.

Evaluations and saves are left out of the rates; they are in `seconds`.
"""

from __future__ import annotations

import contextlib
import resource
import time
from types import SimpleNamespace

import jax

_compiled = SimpleNamespace(programs=0)


def _count_compile(event, duration, **_):
  if event == "/jax/core/compile/backend_compile_duration":
    _compiled.programs += 1


jax.monitoring.register_event_duration_secs_listener(_count_compile)


def start(now: int) -> SimpleNamespace:
  """A clock that starts at step `now`."""
  wall = time.monotonic()
  return SimpleNamespace(begin=wall, since=wall, tokens=0, now=now)


def count(clock, host) -> None:
  """Adds the real tokens (prompt and response, no padding) of this process's rows."""
  clock.tokens += int(host["mask"].sum() + host["prompt_mask"].sum()) * jax.process_count()


@contextlib.contextmanager
def paused(clock):
  """Leaves what happens inside out of the rates."""
  before = time.monotonic()
  yield
  clock.since += time.monotonic() - before


def read(clock, now: int) -> dict[str, float]:
  """The numbers since the last reading; starts the next interval.

  `compiles` counts the programs that this process has compiled so far: if it keeps rising, shapes
  keep changing. `memory_gib` is the peak of the first device, or of this process on CPU.
  """
  wall = time.monotonic()
  took = max(wall - clock.since, 1e-9)
  out = {
    "seconds": wall - clock.begin,
    "tokens_per_second": clock.tokens / took,
    "steps_per_second": (now - clock.now) / took,
    "compiles": _compiled.programs,
    "memory_gib": _memory(),
  }
  clock.since, clock.tokens, clock.now = wall, 0, now
  return out


def _memory() -> float:
  stats = jax.local_devices()[0].memory_stats()
  if stats:
    return stats.get("peak_bytes_in_use", 0) / 2**30
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
