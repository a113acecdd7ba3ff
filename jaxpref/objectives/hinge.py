"""The hinge loss on the implicit-reward margin."""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios


def hinge(logp, ref_logp, *, beta: float = 0.1):
  r"""Hinge loss on the implicit-reward margin (SLiC on log-ratios, as in RSO).

  With log-ratios `a = logp_0 - ref_logp_0` (preferred) and `b = logp_1 - ref_logp_1`

  .. math:: \ell = \max(0, 1 - \beta (a - b))

  It is 1 where the policy equals the reference. Pairs with a reward margin of 1 or more have loss
  and gradient 0; all others are pushed equally hard.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger asks for a smaller margin in nats.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = hinge(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.2f}")
    0.85

  Reference: Zhao et al., "SLiC-HF: Sequence Likelihood Calibration with Human Feedback" (2023); on
  log-ratios Liu et al., "Statistical Rejection Sampling Improves Preference Optimization" (2023).
  Catalogue 1, section 2, `hinge`.
  """
  call.positive("hinge", beta=beta)
  reward = beta * log_ratios("hinge", logp, ref_logp)
  loss = jax.nn.relu(1 - (reward[:, 0] - reward[:, 1]))
  return loss, pair_rewards(reward) | pair_logps(logp)
