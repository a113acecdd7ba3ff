"""Rewards for the form of a response."""

from __future__ import annotations

import re

from jaxpref import call
from jaxpref.types import Record, Refused


def matches(record: Record, response: str, *, pattern: str = r".+") -> float:
  r"""1 where the whole response, without white space at its ends, matches a regular expression.

  Args:
    record: not read.
    response: of the policy.
    pattern: of Python's `re`; a dot matches line ends too.

  Returns:
    1.0 or 0.0.

  Raises:
    Refused: not a regular expression.

  Example:
    >>> matches(Record("", ("",)), "<think>a</think> b", pattern="<think>.*</think>.*")
    1.0

  Reference: DeepSeek-AI, "DeepSeek-R1" (2025), section 2.2.2, the format reward.
  """
  del record
  try:
    return float(re.fullmatch(pattern, response.strip(), re.DOTALL) is not None)
  except re.error as error:
    raise Refused(f"matches needs a regular expression; {pattern!r} is none: {error}.") from error


def length(record: Record, response: str, *, limit: int = 400, buffer: int = 100) -> float:
  """A penalty that grows over the last stretch before a limit, and stays at -1 beyond it.

  0 up to `limit - buffer` characters, then falling linearly to -1 at `limit`. It counts
  characters; the same in tokens is `overlong` of the rollout's own section.

  Args:
    record: not read.
    response: of the policy.
    limit: characters from which the penalty is whole, > 0.
    buffer: characters over which it grows, > 0 and at most `limit`.

  Returns:
    -1.0 to 0.0.

  Raises:
    Refused: a limit or buffer out of its range.

  Example:
    >>> length(Record("", ("",)), "x" * 90, limit=100, buffer=20)
    -0.5

  Reference: Yu et al., "DAPO" (2025), eq. 13, with characters for tokens.
  """
  del record
  call.positive("length", limit=limit, buffer=buffer)
  if buffer > limit:
    raise Refused(f"length needs buffer <= limit; they are {buffer} and {limit}.")
  over = (len(response) - (limit - buffer)) / buffer
  return -min(1.0, max(0.0, over))


def repetition(record: Record, response: str, *, words: int = 3, penalty: float = 1.0) -> float:
  """Minus the share of n-grams of words that occurred before in the response.

  0 for responses shorter than one n-gram.

  Args:
    record: not read.
    response: of the policy; words are what white space separates.
    words: n, >= 1.
    penalty: reward units for a response of nothing but repetition.

  Returns:
    `-penalty` to 0.0.

  Raises:
    Refused: `words` below 1.

  Example:
    >>> repetition(Record("", ("",)), "a b a b a b", words=2)
    -0.6

  Reference: Yeo et al., "Demystifying Long Chain-of-Thought Reasoning in LLMs" (2025), the n-gram
  penalty, normalised here.
  """
  del record
  call.positive("repetition", words=words)
  said = response.split()
  grams = [tuple(said[i : i + words]) for i in range(len(said) - words + 1)]
  if not grams:
    return 0.0
  return -penalty * (1 - len(set(grams)) / len(grams))
