"""Binary classifier optimisation on pairs, without the reward shift."""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios


def bco_pair(logp, ref_logp, *, beta: float = 0.1):
  r"""Binary classifier optimisation with zero shift: is each response a preferred one or not.

  With rewards `r_0 = beta (logp_0 - ref_logp_0)` (preferred) and
  `r_1 = beta (logp_1 - ref_logp_1)`

  .. math:: \ell = -\log \sigma(r_0) - \log \sigma(-r_1)

  It is 2 log 2 where the policy equals the reference, and an upper bound of DPO's loss. The paper
  shifts both rewards by their running mean; `bco_pair_shifted` does that.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = bco_pair(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    1.312856

  Reference: Jung et al., "Binary Classifier Optimization for Large Language Model Alignment"
  (2024). Catalogue 1, section 2, `bco_pair`, and section 10, point 6.
  """
  call.positive("bco_pair", beta=beta)
  reward = beta * log_ratios("bco_pair", logp, ref_logp)
  loss = jax.nn.softplus(-reward[:, 0]) + jax.nn.softplus(reward[:, 1])
  return loss, pair_rewards(reward) | pair_logps(logp)
