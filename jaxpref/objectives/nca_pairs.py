"""Noise contrastive alignment on pairs: absolute rewards, not only their difference."""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios


def nca_pair(logp, ref_logp, *, beta: float = 0.01):
  r"""Noise contrastive alignment: each response against samples of the reference.

  With rewards `r_0 = beta (logp_0 - ref_logp_0)` (preferred) and
  `r_1 = beta (logp_1 - ref_logp_1)`

  .. math::
    \ell = -\log \sigma(r_0) - \tfrac{1}{2} \log \sigma(-r_0) - \tfrac{1}{2} \log \sigma(-r_1)

  It is 2 log 2 where the policy equals the reference. The two responses do not interact: `r_0` is
  drawn to log 2, where its gradient is 0, and `r_1` is pushed down. So the likelihood of the
  preferred response does not fall with the other one.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; 0.01 to 0.1 are used.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = nca_pair(logp, ref_logp, beta=0.1)
    >>> print(f"{loss[0]:.6f}")
    1.350825

  Reference: Chen et al., "Noise Contrastive Alignment of Language Models with Explicit Rewards"
  (2024). Catalogue 1, section 2, `nca_pair`.
  """
  call.positive("nca_pair", beta=beta)
  reward = beta * log_ratios("nca_pair", logp, ref_logp)
  against = jax.nn.softplus(reward)
  loss = jax.nn.softplus(-reward[:, 0]) + 0.5 * against[:, 0] + 0.5 * against[:, 1]
  return loss, pair_rewards(reward) | pair_logps(logp)


def nca_biased(logp, ref_logp, *, beta: float = 0.01):
  r"""NCA without the preferred response among the noise: two separate binary classifications.

  With rewards `r_0 = beta (logp_0 - ref_logp_0)` (preferred) and
  `r_1 = beta (logp_1 - ref_logp_1)`

  .. math:: \ell = -\log \sigma(r_0) - \log \sigma(-r_1)

  It is 2 log 2 where the policy equals the reference. Unlike in `nca_pair` the preferred response
  is pushed up without end. The formula is that of `bco_pair`.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; 0.01 to 0.1 are used.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = nca_biased(logp, ref_logp, beta=0.1)
    >>> print(f"{loss[0]:.6f}")
    1.312856

  Reference: Chen et al., "Noise Contrastive Alignment of Language Models with Explicit Rewards"
  (2024), the repository's variant. Catalogue 1, section 2, `nca_biased`.
  """
  call.positive("nca_biased", beta=beta)
  reward = beta * log_ratios("nca_biased", logp, ref_logp)
  loss = jax.nn.softplus(-reward[:, 0]) + jax.nn.softplus(reward[:, 1])
  return loss, pair_rewards(reward) | pair_logps(logp)
