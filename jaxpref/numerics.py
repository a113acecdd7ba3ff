"""Numerically careful pieces that several rooms share; all of it in float32."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def safe_divide(numerator, denominator):
  """`numerator / denominator`, and 0 (value and gradient) where the denominator is 0.

  >>> print(safe_divide(jnp.ones(2), jnp.asarray([2.0, 0.0])))
  [0.5 0. ]
  """
  zero = denominator == 0
  return jnp.where(zero, 0.0, numerator / jnp.where(zero, 1.0, denominator))


def steady_sum(x, axis=-1):
  """Sum in float32 whose rounding does not depend on the order or on how many zeros stand around.

  Every number is split into a multiple of 1/64 and a rest below 1/128. Sums of the multiples are
  exact up to 2**18, so only the rests are rounded, far below one unit in the last place of the
  result. A plain sum of a few hundred log-probabilities differs by several such units between
  paddings, which a loss of differences of sums would show.

  Args:
    x: f32[...], nats; the sum's magnitude below 262,144.
    axis: of the sum.

  >>> x = jnp.asarray([-5.3, -4.1, -6.2])
  >>> bool(steady_sum(x) == steady_sum(x[::-1]))
  True
  """
  coarse = jax.lax.stop_gradient(jnp.round(x * 64.0) / 64.0)
  return coarse.sum(axis) + (x - coarse).sum(axis)


def masked_mean(x, mask, axis=None):
  """Mean of `x` where `mask` is not 0, weighted by it; 0 where nothing counts.

  >>> print(masked_mean(jnp.asarray([1.0, 3.0, jnp.nan]), jnp.asarray([1.0, 1.0, 0.0])))
  2.0
  """
  kept = jnp.where(mask > 0, x, 0.0) * mask
  return safe_divide(kept.sum(axis), mask.sum(axis))


def masked_logsumexp(x, mask, axis=-1):
  """Log of the sum of exponentials where `mask` is not 0; 0 (and no gradient) where nothing counts.

  >>> print(masked_logsumexp(jnp.asarray([0.0, 0.0, jnp.nan]), jnp.asarray([1.0, 1.0, 0.0])))
  0.6931472
  """
  kept = jnp.where(mask > 0, x, -jnp.inf)
  top = jax.lax.stop_gradient(kept.max(axis, keepdims=True))
  top = jnp.where(jnp.isfinite(top), top, 0.0)
  total = jnp.where(mask > 0, jnp.exp(jnp.where(mask > 0, x, top) - top), 0.0).sum(axis)
  some = total > 0
  return jnp.where(some, jnp.log(jnp.where(some, total, 1.0)) + top.squeeze(axis), 0.0)


def before(x, present):
  """Who stands before whom when the present candidates are sorted by `x`, largest first.

  Of equal values the lower index stands first, as in a stable sort.

  Args:
    x: f32[B, K].
    present: f32[B, K], 0 for candidates that take no place.

  Returns:
    bool[B, K, K]: whether the first candidate stands before the second; both are present.
  """
  index, there = jnp.arange(x.shape[1]), present > 0
  first, second = x[:, :, None], x[:, None, :]
  above = (first > second) | ((first == second) & (index[:, None] < index[None, :]))
  return above & there[:, :, None] & there[:, None, :]


def places(x, present):
  """Places from 1 when the present candidates are sorted by `x`, largest first; f32[B, K].

  >>> print(places(jnp.asarray([[0.3, 0.9, 0.5]]), jnp.asarray([[1.0, 0.0, 1.0]])))
  [[2. 1. 1.]]
  """
  return 1.0 + before(x, present).sum(1).astype(jnp.float32)


def average_logp(logp, length):
  """Log-probability per counted token (nats per token); 0 for an empty response.

  Args:
    logp: f32[...], summed log-probability in nats.
    length: f32[...], tokens that count.
  """
  return safe_divide(logp, length)


def log1mexp(x):
  """`log(1 - exp(x))` of `x <= 0` without cancellation; arguments above -1e-7 count as -1e-7.

  >>> print(jnp.round(log1mexp(jnp.asarray([-0.5, -1.0])), 6))
  [-0.932752 -0.458675]
  """
  x = jnp.minimum(x, -1e-7)
  near = x > -0.6931472
  close = jnp.log(-jnp.expm1(jnp.where(near, x, -0.5)))
  return jnp.where(near, close, jnp.log1p(-jnp.exp(jnp.where(near, -1.0, x))))


def unit(x, axis=-1):
  """`x` scaled to length 1; a vector of zeros stays as it is, with no gradient.

  >>> print(unit(jnp.asarray([[3.0, 4.0], [0.0, 0.0]])))
  [[0.6 0.8]
   [0.  0. ]]
  """
  top = jax.lax.stop_gradient(jnp.abs(x).max(axis, keepdims=True))  # squares of 1e30 overflow
  x = safe_divide(x, top)
  square = (x * x).sum(axis, keepdims=True)
  return safe_divide(x, jnp.sqrt(jnp.where(square == 0, 1.0, square)))


def skew(one, other, scale=1.0):
  r"""A fixed form of two vectors that changes its sign when they are swapped.

  .. math:: s = \sum_l \lambda_l (u_{2l} v_{2l+1} - u_{2l+1} v_{2l})

  Args:
    one: f32[..., E], `u`; E even.
    other: f32[..., E], `v`.
    scale: f32[..., E/2], `lambda`, or a number.

  >>> print(skew(jnp.asarray([1.0, 0.0]), jnp.asarray([0.0, 1.0])))
  1.0
  """
  cross = one[..., 0::2] * other[..., 1::2] - one[..., 1::2] * other[..., 0::2]
  return (scale * cross).sum(-1)


def k3(log_ratio):
  r"""Unbiased, non-negative estimate of KL(old || new) from samples of old: `e^u - 1 - u`.

  `log_ratio` is `u = log new - log old` (nats). Source: Schulman, "Approximating KL divergence"
  (2020), estimator k3.

  >>> print(k3(jnp.zeros(1)))
  [0.]
  """
  return jnp.expm1(log_ratio) - log_ratio


def pair_rewards(reward):
  """What every pair objective reports, under the names that users of other libraries know.

  Args:
    reward: f32[B, 2], implicit or explicit reward, preferred candidate first.

  Returns:
    dict of f32[B]: `rewards/chosen`, `rewards/rejected`, `rewards/margins` and
    `rewards/accuracies` (1 where the margin is strictly positive: a tie is not right).
  """
  chex.assert_shape(reward, (None, 2))
  reward = jax.lax.stop_gradient(reward)
  margin = reward[:, 0] - reward[:, 1]
  return {
    "rewards/chosen": reward[:, 0],
    "rewards/rejected": reward[:, 1],
    "rewards/margins": margin,
    "rewards/accuracies": (margin > 0).astype(jnp.float32),
  }


def pair_logps(logp):
  """Log-probabilities under the names that users of other libraries know.

  Args:
    logp: f32[B, 2], summed log-probability in nats, preferred candidate first.

  Returns:
    dict of f32[B]: `logps/chosen` and `logps/rejected`.
  """
  chex.assert_shape(logp, (None, 2))
  logp = jax.lax.stop_gradient(logp)
  return {"logps/chosen": logp[:, 0], "logps/rejected": logp[:, 1]}


def true_logps(metrics, logp):
  """The metrics with `logps/*` taken from `logp`: for a base that was given something else for it.

  Args:
    metrics: of an objective; `logps/*` may be pairs `(value, count)`.
    logp: f32[B, K], nats; no gradient flows.
  """
  logp, out = jax.lax.stop_gradient(logp), dict(metrics)
  for name, value in (("logps/chosen", logp[:, 0]), ("logps/rejected", logp[:, -1])):
    if name in out:
      out[name] = (value, out[name][1]) if isinstance(out[name], tuple) else value
  return out
