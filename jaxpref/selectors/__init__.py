"""Selectors: `f(arrays..., *, knobs) -> keep`, zeros and ones per rollout or token."""

from jaxpref.selectors.d3s import d3s_rollouts, d3s_tokens
from jaxpref.selectors.rollouts import down_sampling, dynamic_sampling, overlong
from jaxpref.selectors.tokens import m2po, opsm, top_entropy

__all__ = [
  "d3s_rollouts",
  "d3s_tokens",
  "down_sampling",
  "dynamic_sampling",
  "m2po",
  "opsm",
  "overlong",
  "top_entropy",
]
