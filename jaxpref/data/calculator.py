"""Questions in arithmetic whose demonstrations call a tool; see `jaxpref.envs.calculator`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxpref import call, envs
from jaxpref.envs import env
from jaxpref.envs.calculator import computed
from jaxpref.types import Record

_SPLITS = {"train": 0, "test": 1}


def calculator(
  split: str, *, count: int = 2000, largest: int = 99, tool: float = 0.7, seed: int = 0
) -> Iterator[Record]:
  """Questions such as `37*58?`; some demonstrations ask the tool, the others guess.

  Args:
    split: `train` or `test` (about one question in eight).
    count: records; questions may repeat.
    largest: number that occurs.
    tool: share of demonstrations that ask the tool and repeat what it says; 0 to 1.
    seed: of the generator.

  Yields:
    Records with the right `answer`, whose prompt is the demonstration up to its last action.

  Raises:
    Refused: an unknown split, a share out of its range.

  Example:
    >>> record = next(calculator("train", tool=1.0))
    >>> [turn["content"] for turn in record.prompt], record.responses
    (['2-26?', 'calc: 2-26', '= -24'], ('-24',))

  Reference: Schick et al., "Toolformer: Language Models Can Teach Themselves to Use Tools" (2023).
  """
  call.one_of("calculator", _SPLITS, split=split)
  call.fraction("calculator", tool=tool)
  call.positive("calculator", largest=largest)
  world, rng, made = envs.calculator(), np.random.default_rng((seed, largest)), 0
  while made < count:
    a, b = (int(n) for n in rng.integers(1, largest + 1, 2))
    sum_of = f"{a}{'+-*'[rng.integers(3)]}{b}"
    asks, guess = rng.random() < tool, str(rng.integers(largest * 2))
    if (sum(i * n for i, n in enumerate(sum_of.encode())) % 8 == 0) != bool(_SPLITS[split]):
      continue
    record = Record(f"{sum_of}?", (), answer=computed(sum_of), source=f"calculator/{split}:{made}")
    made += 1
    said = lambda state, q=sum_of: state.said[2:] or f"calc: {q}"
    yield env.demonstrated(world, record, said if asks else lambda _, g=guess: g, 2)
