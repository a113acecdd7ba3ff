"""Anchored preference optimisation: which way each likelihood should move is fixed."""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios


def apo_zero(logp, ref_logp, *, beta: float = 0.1):
  r"""Anchored preference optimisation: the preferred response goes up, the other one down.

  With rewards `r_0 = beta (logp_0 - ref_logp_0)` (preferred) and
  `r_1 = beta (logp_1 - ref_logp_1)`

  .. math:: \ell = 1 - \sigma(r_0) + \sigma(r_1)

  For data whose preferred responses are better than what the policy writes. It is 1 where the
  policy equals the reference and lies between 0 and 2. The gradient vanishes far from the
  reference, on both sides, unlike DPO's.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger saturates sooner.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = apo_zero(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    0.962523

  Reference: D'Oosterlinck et al., "Anchored Preference Optimization and Contrastive Revisions:
  Addressing Underspecification in Alignment" (2024), eq. 7. Catalogue 1, section 2, `apo_zero`.
  """
  call.positive("apo_zero", beta=beta)
  reward = beta * log_ratios("apo_zero", logp, ref_logp)
  loss = jax.nn.sigmoid(-reward[:, 0]) + jax.nn.sigmoid(reward[:, 1])
  return loss, pair_rewards(reward) | pair_logps(logp)


def apo_down(logp, ref_logp, *, beta: float = 0.1):
  r"""Anchored preference optimisation: both responses go down, the preferred one less.

  With rewards `r_0 = beta (logp_0 - ref_logp_0)` (preferred) and
  `r_1 = beta (logp_1 - ref_logp_1)`

  .. math:: \ell = \sigma(r_0) + 1 - \sigma(r_0 - r_1)

  For data whose preferred responses are worse than what the policy writes. It is 1 where the
  policy equals the reference and lies between 0 and 2; its gradient vanishes far away.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger saturates sooner.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = apo_down(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    0.987549

  Reference: D'Oosterlinck et al., "Anchored Preference Optimization and Contrastive Revisions:
  Addressing Underspecification in Alignment" (2024), eq. 8. Catalogue 1, section 2, `apo_down`.
  """
  call.positive("apo_down", beta=beta)
  reward = beta * log_ratios("apo_down", logp, ref_logp)
  loss = jax.nn.sigmoid(reward[:, 0]) + jax.nn.sigmoid(reward[:, 1] - reward[:, 0])
  return loss, pair_rewards(reward) | pair_logps(logp)
