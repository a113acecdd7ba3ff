"""Machines for the text bandit with demonstrations; see `jaxpref.envs.bandit`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxpref import call, envs
from jaxpref.envs import env
from jaxpref.types import Record, Refused

_SPLITS = {"train": 0, "test": 1}


def bandit(
  split: str, *, count: int = 2000, machines: int = 2, pulls: int = 6, seed: int = 0
) -> Iterator[Record]:
  """Machines with chances from 0.1 to 0.9, and an episode of pulling any of them at random.

  Args:
    split: `train` or `test`, other machines.
    count: records.
    machines: how many, 1 to 9.
    pulls: length of an episode, as that of the environment.
    seed: of the generator.

  Yields:
    Records whose prompt is the demonstration up to its last action, with the machines in `context`.

  Raises:
    Refused: an unknown split, or another number of machines.

  Example:
    >>> print(next(bandit("train")).prompt[0]["content"])
    2 machines. 6 pulls left.

  Reference: Robbins, "Some Aspects of the Sequential Design of Experiments" (1952).
  """
  call.one_of("bandit", _SPLITS, split=split)
  if not 1 <= machines <= 9:
    raise Refused(f"bandit needs 1 to 9 machines; it is {machines}.")
  world, rng = envs.bandit(pulls=pulls), np.random.default_rng((seed, _SPLITS[split], machines))
  for made in range(count):
    pays = " ".join(f"{p:.1f}" for p in rng.integers(1, 10, machines) / 10)
    about = f"seed {rng.integers(1_000_000)}, pays {pays}"
    record = Record("", (), context=about, source=f"bandit/{split}:{made}")
    pull = lambda state: f"pull {rng.integers(machines) + 1}"
    yield env.demonstrated(world, record, pull, pulls)
