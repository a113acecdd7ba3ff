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


def average_logp(logp, length):
  """Log-probability per counted token (nats per token); 0 for an empty response.

  Args:
    logp: f32[...], summed log-probability in nats.
    length: f32[...], tokens that count.
  """
  return safe_divide(logp, length)


def log1mexp(x):
  """`log(1 - exp(x))` of log-probabilities `x < 0` (nats), without cancellation; 0 gives -inf.

  >>> print(f"{log1mexp(jnp.asarray(-1e-6)):.4f} {log1mexp(jnp.asarray(-40.0)):.3e}")
  -13.8155 -4.248e-18
  """
  near = x > -0.6931472
  small, large = jnp.where(near, x, -1.0), jnp.where(near, -1.0, x)
  return jnp.where(near, jnp.log(-jnp.expm1(small)), jnp.log1p(-jnp.exp(large)))


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
