"""Rewards: of responses, on the host, `f(record, response, *, knobs) -> float`, and on arrays.

Those on arrays, `f(arrays..., *, knobs) -> reward`, shape, combine and spread what the others gave.
"""

from jaxpref.rewards.answers import countdown, exact_answer
from jaxpref.rewards.combine import weighted_sum
from jaxpref.rewards.shaping import clipped, overlong_penalty, scaled, stop_penalty
from jaxpref.rewards.text import length, matches, repetition
from jaxpref.rewards.token import at_end, minus_kl

__all__ = [
  "at_end",
  "clipped",
  "countdown",
  "exact_answer",
  "length",
  "matches",
  "minus_kl",
  "overlong_penalty",
  "repetition",
  "scaled",
  "stop_penalty",
  "weighted_sum",
]
