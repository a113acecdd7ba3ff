"""Countdown: reach a target from a few numbers with + - * and /, each used once.

Problems are generated, each with one solution, so a warm start has something to learn from and the
reward (`jaxpref.rewards.countdown`) can check any other solution.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxpref import call
from jaxpref.types import Record, Refused

_SPLITS = {"train": 0, "test": 1}


def countdown(
  split: str, *, count: int = 4000, numbers: int = 3, largest: int = 9, seed: int = 0
) -> Iterator[Record]:
  """Problems with numbers from 1 to `largest` and a target from 1 to 99.

  The prompt reads `3 8 1 -> 24 :`, the response is a solution such as `3*8*1`, the answer
  `24: 3 8 1` is what the reward checks. Prompts differ within a split, and none of `test` is in
  `train`: a hash of the prompt decides.

  Args:
    split: `train` or `test` (about one problem in eight).
    count: problems.
    numbers: how many numbers, 2 to 6.
    largest: number that occurs.
    seed: of the generator.

  Yields:
    Records with one response and an `answer`.

  Raises:
    Refused: an unknown split, or numbers out of their range, or more problems than there are.

  Example:
    >>> record = next(countdown("train"))
    >>> from jaxpref import rewards
    >>> rewards.countdown(record, record.responses[0])
    1.0

  Reference: Gandhi et al., "Stream of Search (SoS): Learning to Search in Language" (2024).
  """
  if split not in _SPLITS:
    raise Refused(
      f"countdown has no split {split!r}. {call.nearest(split, _SPLITS)}It has: train, test."
    )
  if not 2 <= numbers <= 6 or largest < 1:
    raise Refused(
      f"countdown needs numbers from 2 to 6 and largest >= 1; they are {numbers} and {largest}."
    )
  rng, seen, tries = np.random.default_rng((seed, numbers, largest)), set(), 0
  while len(seen) < count:
    tries += 1
    if tries > 200 * (count + 100):
      raise Refused(f"countdown finds only {len(seen)} problems of this kind, not {count}.")
    given = [int(n) for n in rng.integers(1, largest + 1, numbers)]
    target, text = _solved(given, rng)
    prompt = f"{' '.join(map(str, given))} -> {target} :"
    test = sum(prompt.encode()) % 8 == 0
    if not 1 <= target <= 99 or test != bool(_SPLITS[split]) or prompt in seen:
      continue
    seen.add(prompt)
    yield Record(
      prompt=prompt,
      responses=(text,),
      answer=f"{target}: {' '.join(map(str, given))}",
      source=f"countdown/{split}:{len(seen) - 1}",
    )


def _solved(given, rng):
  """A value that some order of the numbers gives, and the expression, from left to right."""
  order = [given[i] for i in rng.permutation(len(given))]
  value, text, last = order[0], str(order[0]), ""
  for n in order[1:]:
    choices = ["+", "-", "*"] + ["/"] * (value % n == 0)
    sign = choices[rng.integers(len(choices))]
    if sign in "*/" and last in ("+", "-"):
      text = f"({text})"
    text += f"{sign}{n}"
    value = {"+": value + n, "-": value - n, "*": value * n, "/": value // n}[sign]
    last = sign
  return value, text
