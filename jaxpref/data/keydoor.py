"""Layouts of the key-door grid with demonstrations; see `jaxpref.envs.keydoor`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxpref import call, envs
from jaxpref.envs import env, grid
from jaxpref.types import Record, Refused

_SPLITS = {"train": 0, "test": 1}


def keydoor(
  split: str,
  *,
  count: int = 2000,
  size: int = 5,
  turns: int = 30,
  slips: float = 0.3,
  wording: str = "full",
  seed: int = 0,
) -> Iterator[Record]:
  """Layouts, each with an episode of a demonstrator who knows the way but slips.

  Every action of the demonstration is with the chance `slips` any of the six, else the next of a
  shortest way; it is cut after `turns` actions. Layouts may repeat; none of `test` is in `train`:
  a hash of the layout decides.

  Args:
    split: `train` or `test` (about one layout in eight).
    count: records.
    size: side of the grid, 2 or more.
    turns: actions of a demonstration at most.
    slips: chance of a random action, 0 to 1; more leaves more to learn.
    wording: of the observations, as that of the environment.
    seed: of the generator.

  Yields:
    Records whose prompt is the demonstration up to its last action, with the layout in `context`.

  Raises:
    Refused: an unknown split, or a knob out of its range.

  Example:
    >>> print(next(keydoor("train")).context)
    grid 5, start 4 0, key 3 1, door 1 4

  Reference: Feng et al., "Group-in-Group Policy Optimization for LLM Agent Training" (2025), for
  which this stands in.
  """
  call.one_of("keydoor", _SPLITS, split=split)
  call.fraction("keydoor", slips=slips)
  if size < 2 or turns < 1:
    raise Refused(f"keydoor needs size >= 2 and turns >= 1; they are {size} and {turns}.")
  world, rng, made = envs.keydoor(wording=wording), np.random.default_rng((seed, size)), 0
  while made < count:
    cells = [divmod(int(n), size) for n in rng.choice(size * size, 3, replace=False)]
    start, key, door = (f"{row} {column}" for row, column in cells)
    layout = f"grid {size}, start {start}, key {key}, door {door}"
    if (sum(i * n for i, n in enumerate(layout.encode())) % 8 == 0) != bool(_SPLITS[split]):
      continue
    record = Record("", (), context=layout, source=f"keydoor/{split}:{made}")
    made += 1
    yield env.demonstrated(world, record, lambda state: _slipping(state, rng, slips), turns)


def _slipping(state, rng, slips):
  slip, other = rng.random() < slips, int(rng.integers(len(grid.ACTIONS)))
  return grid.ACTIONS[other] if slip else grid.shortest(state)
