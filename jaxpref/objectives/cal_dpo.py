"""Calibrated DPO: the margin's order and the size of each log-ratio."""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios


def cal_dpo(logp, ref_logp, *, beta: float = 1e-3):
  r"""Calibrated DPO: the logistic loss on the margin, and log-ratios drawn to fixed targets.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred) and `b = logp_1 - ref_logp_1`

  .. math::
    \ell = -\log \sigma(a - b) + \frac{1}{2} \left[\left(a - \frac{1}{2\beta}\right)^2
           + \left(b + \frac{1}{2\beta}\right)^2\right]

  The logistic term has no `beta`. It is `log 2 + 1 / (4 beta^2)` where the policy equals the
  reference; the squares dominate for a small `beta`. The repository gives every pair the batch's
  mean of the squares: other values per pair, the same mean and gradient.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: per nat, > 0; larger asks for smaller log-ratios.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = cal_dpo(logp, ref_logp, beta=0.1)
    >>> print(f"{loss[0]:.5f}")
    18.32641

  Reference: Xiao et al., "Cal-DPO: Calibrated Direct Preference Optimization for Language Model
  Alignment" (2024), the repository's form. Catalogue 1, section 2, `cal_dpo`.
  """
  call.positive("cal_dpo", beta=beta)
  ratio = log_ratios("cal_dpo", logp, ref_logp)
  target = 1 / (2 * beta)
  squares = (ratio[:, 0] - target) ** 2 + (ratio[:, 1] + target) ** 2
  loss = jax.nn.softplus(ratio[:, 1] - ratio[:, 0]) + 0.5 * squares
  return loss, pair_rewards(beta * ratio) | pair_logps(logp)
