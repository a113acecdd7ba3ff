"""Rejection of tokens or sequences whose trainer and sampler disagree too much."""

from __future__ import annotations

import math

import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import k3, masked_mean
from jaxpref.rollout_correction import ratio

STATISTICS = ("k1", "k2", "k3")
REDUCTIONS = ("sum", "mean", "max")


def _statistic(old_token_logp, sampler_token_logp, mask, statistic):
  log_ratio = ratio.log_ratio(old_token_logp, sampler_token_logp, mask)
  if statistic == "k1":
    return -log_ratio
  if statistic == "k2":
    return 0.5 * log_ratio**2
  return k3(jnp.clip(log_ratio, -ratio.INPUT, ratio.INPUT))


def _within(value, statistic, low, high):
  """`k1` between the logarithms of the bounds; `k2` and `k3`, never negative, up to `high`."""
  if statistic == "k1":
    return (value >= math.log(low)) & (value <= math.log(high))
  return value <= high


def reject_tokens(
  old_token_logp,
  sampler_token_logp,
  mask,
  *,
  statistic: str = "k1",
  low: float = 0.5,
  high: float = 2.0,
):
  r"""Keeps tokens whose statistic of the log-ratio `r` is within bounds.

  .. math:: k_1 = -r \in [\log low, \log high], \quad k_2 = r^2/2 \le high,
    \quad k_3 = e^r - 1 - r \le high

  A token without a sampler's log-probability (nan) is kept.

  Args:
    old_token_logp: f32[B, K, T], under the trainer's policy, nats.
    sampler_token_logp: f32[B, K, T], as the engine gave it, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    statistic: `k1`, `k2` or `k3`.
    low: smallest ratio (sampler over trainer) for `k1`, > 0; not read else.
    high: largest ratio for `k1`, > 0; largest value in nats else.

  Returns:
    keep: f32[B, K, T], zeros and ones, 0 outside the mask.

  Raises:
    Refused: `statistic` another word, or a bound not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(reject_tokens(-one, jnp.asarray([[[-1.0, -9.0]]]), one))
    [[[1. 0.]]]

  Reference: Liu et al., "When Speed Kills Stability" (2025). Catalogue 2, section 6.
  """
  call.one_of("reject_tokens", STATISTICS, statistic=statistic)
  call.positive("reject_tokens", low=low, high=high)
  value = _statistic(old_token_logp, sampler_token_logp, mask, statistic)
  return ((mask > 0) & _within(value, statistic, low, high)).astype(jnp.float32)


def reject_sequences(
  old_token_logp,
  sampler_token_logp,
  mask,
  *,
  statistic: str = "k1",
  reduction: str = "mean",
  low: float = 0.5,
  high: float = 2.0,
):
  r"""Keeps sequences whose sum, mean or maximum of a token statistic is within bounds.

  .. math:: keep_i = [\mathrm{reduce}_t\, k(r_{it}) \text{ within bounds}]

  The mean of `k1` bounds the geometric mean of the ratios. Statistics, bounds and nan as in
  `reject_tokens`.

  Args:
    old_token_logp: f32[B, K, T], under the trainer's policy, nats.
    sampler_token_logp: f32[B, K, T], as the engine gave it, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    statistic: `k1`, `k2` or `k3`.
    reduction: `sum`, `mean` or `max` over the counted tokens.
    low: smallest ratio (sampler over trainer) for `k1`, > 0; not read else.
    high: largest ratio for `k1`, > 0; largest value in nats else.

  Returns:
    keep: f32[B, K, T], zeros and ones, equal on a sequence, 0 outside the mask.

  Raises:
    Refused: `statistic` or `reduction` another word, or a bound not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(reject_sequences(-one, jnp.asarray([[[-1.0, -9.0]]]), one))
    [[[0. 0.]]]

  Reference: Liu et al., "When Speed Kills Stability" (2025). Catalogue 2, section 6.
  """
  call.one_of("reject_sequences", STATISTICS, statistic=statistic)
  call.one_of("reject_sequences", REDUCTIONS, reduction=reduction)
  call.positive("reject_sequences", low=low, high=high)
  value = _statistic(old_token_logp, sampler_token_logp, mask, statistic)
  counted = mask > 0
  if reduction == "max":
    whole = jnp.where(counted.any(-1), jnp.where(counted, value, -jnp.inf).max(-1), 0.0)
  elif reduction == "sum":
    whole = jnp.where(counted, value, 0.0).sum(-1)
  else:
    whole = masked_mean(value, counted.astype(jnp.float32), axis=-1)
  return (counted & _within(whole, statistic, low, high)[..., None]).astype(jnp.float32)
