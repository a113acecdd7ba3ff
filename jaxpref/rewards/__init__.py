"""Rewards of responses, on the host: `f(record, response, *, knobs) -> float`."""

from jaxpref.rewards.answers import countdown, exact_answer
from jaxpref.rewards.text import length, matches, repetition

__all__ = ["countdown", "exact_answer", "length", "matches", "repetition"]
