"""Losses that restrain the tokens which drive the entropy down, found by covariance in the batch.

They choose tokens of the whole batch, so they couple its situations: `microbatches=1` only.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import masked_mean
from jaxpref.objectives import ratio
from jaxpref.types import Refused

COUPLED = True


def clip_cov(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 0.2,
  epsilon_high: float = 0.2,
  fraction: float = 2e-4,
  cov_low: float = 1.0,
  cov_high: float = 5.0,
):
  r"""Clip-Cov: `ppo_clip` that leaves out some tokens of high covariance.

  With means over the tokens of the batch

  .. math:: c_t = (A_t - \bar A)(\log \pi_t - \overline{\log \pi})

  the candidates are tokens with `cov_low < c < cov_high` that the clip does not already hold. Of
  these, `max(1, floor(fraction * tokens))`, or all if there are fewer, get loss and gradient 0;
  they stay in the denominator. The published choice among candidates is random. Here it is as
  good as random but fixed: by a hash of the token's two log-probabilities, so that it needs no key
  and does not depend on the order of the batch. Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.
    fraction: share of all tokens that is left out, above 0 to 1.
    cov_low: smallest covariance of a candidate, reward units * nats.
    cov_high: largest, > `cov_low`.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean`, `kl/old` (`old - new`, nats),
      `ratio/clip`, 1 where a token is left out, and `ratio/cov`.

  Raises:
    Refused: an epsilon not above 0, `fraction` outside 0 to 1, `cov_high` not above `cov_low`.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> logp, advantage = jnp.asarray([[[-1.0, -5.0]]]), jnp.asarray([[[1.0, -1.0]]])
    >>> loss, _ = clip_cov(logp, logp, advantage, one, fraction=1.0)
    >>> print(loss)
    [[[0. 0.]]]

  Reference: Cui et al., "The Entropy Mechanism of Reinforcement Learning for Reasoning Language
  Models" (2025), eq. 10 to 12. Catalogue 2, section 4, `clip_cov`.
  """
  call.positive("clip_cov", epsilon_low=epsilon_low, epsilon_high=epsilon_high)
  _fraction("clip_cov", fraction)
  if not cov_high > cov_low:
    raise Refused(f"clip_cov needs cov_high > cov_low = {cov_low}; it is {cov_high}.")
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  log_ratio, cov = ratio.bounded(logp - old), _covariance(logp, advantage, mask)
  plain, cut = ratio.clipped(log_ratio, advantage, epsilon_low, epsilon_high)
  candidate = (mask > 0) & (cov > cov_low) & (cov < cov_high) & (cut <= plain)
  lot = jnp.where(candidate, _hash(logp, old), jnp.uint32(0xFFFFFFFF))
  last = jnp.sort(lot.ravel())[_number(fraction, mask) - 1]
  chosen = candidate & (lot <= last)
  metrics = ratio.token_report(log_ratio) | {"ratio/cov": cov}
  metrics |= {"ratio/clip": chosen.astype(jnp.float32)}
  return jnp.where(chosen, 0.0, ratio.finish(jnp.maximum(plain, cut), mask)), metrics


def kl_cov(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  fraction: float = 2e-4,
  coefficient: float = 1.0,
):
  r"""KL-Cov: an unclipped policy loss with a penalty on the tokens of highest covariance.

  With `rho = exp(d)`, `d = token_logp - old_token_logp`, and means over the tokens of the batch

  .. math::
    c_t = (A_t - \bar A)(\log \pi_t - \overline{\log \pi}), \qquad
    \ell = -A \rho + \kappa |d| \cdot [c_t \text{ among the largest}]

  where the penalised tokens are the `max(1, floor(fraction * tokens))` of largest covariance,
  more only if several tie with the last. Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    fraction: share of all tokens that is penalised, above 0 to 1.
    coefficient: `kappa`, reward units per nat, > 0.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean`, `kl/old` (`old - new`, nats),
      `kl/abs_old` (its size), `ratio/clip`, 1 where a token is penalised, and
      `ratio/cov`.

  Raises:
    Refused: `fraction` outside 0 to 1, or `coefficient` not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> logp, advantage = jnp.asarray([[[-1.0, -5.0]]]), jnp.asarray([[[1.0, -2.0]]])
    >>> loss, _ = kl_cov(logp, logp, advantage, one)
    >>> print(loss)
    [[[-1.  2.]]]

  Reference: Cui et al., "The Entropy Mechanism of Reinforcement Learning for Reasoning Language
  Models" (2025), eq. 13. Catalogue 2, section 4, `kl_cov`.
  """
  call.positive("kl_cov", coefficient=coefficient)
  _fraction("kl_cov", fraction)
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  log_ratio, cov = ratio.bounded(logp - old), _covariance(logp, advantage, mask)
  ranked = jnp.where(mask > 0, cov, -jnp.inf)
  last = -jnp.sort(-ranked.ravel())[_number(fraction, mask) - 1]
  chosen = ((ranked >= last) & (mask > 0)).astype(jnp.float32)
  loss = -advantage * jnp.exp(log_ratio) + coefficient * chosen * ratio.absolute(log_ratio)
  metrics = ratio.token_report(log_ratio) | {"ratio/cov": cov, "ratio/clip": chosen}
  metrics |= {"kl/abs_old": jax.lax.stop_gradient(jnp.abs(log_ratio))}
  return ratio.finish(loss, mask), metrics


def _fraction(name, fraction):
  if not 0 < fraction <= 1:
    raise Refused(f"{name} needs fraction above 0 and at most 1; it is {fraction}.")


def _covariance(logp, advantage, mask):
  """Each token's share of the covariance of advantage and log-probability; no gradient."""
  logp = jax.lax.stop_gradient(logp)
  count = (mask > 0).astype(jnp.float32)
  one = lambda x: x - masked_mean(x, count)
  return ratio.finish(one(advantage) * one(logp), mask)


def _number(fraction, mask):
  """i32[], how many tokens of the batch are chosen, at least 1."""
  tokens = (mask > 0).sum()
  return jnp.maximum(jnp.floor(fraction * tokens).astype(jnp.int32), 1)


def _hash(*arrays):
  """u32 of the arrays' shape, evenly spread, from the bits of the values."""
  mixed = jnp.uint32(0)
  for x in arrays:
    bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x).astype(jnp.float32), jnp.uint32)
    mixed = (mixed ^ bits) * jnp.uint32(2654435761)
    mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(2246822519)
  return mixed >> 1
