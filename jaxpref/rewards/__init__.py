"""Rewards on the device: `f(arrays..., *, knobs) -> reward`, per rollout or per token.

These combine and shape rewards that exist; rewards of texts are made on the host.
"""

from jaxpref.rewards.combine import weighted_sum
from jaxpref.rewards.shaping import clipped, overlong_penalty, scaled, stop_penalty
from jaxpref.rewards.token import at_end, minus_kl

__all__ = [
  "at_end",
  "clipped",
  "minus_kl",
  "overlong_penalty",
  "scaled",
  "stop_penalty",
  "weighted_sum",
]
