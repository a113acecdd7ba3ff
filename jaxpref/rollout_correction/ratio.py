"""Log-ratios of trainer and sampler."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

INPUT = 20.0  # nats; log-ratios, and their sums, are clamped to this before exponentiation


def log_ratio(old_token_logp, sampler_token_logp, mask):
  """`old - sampler` on counted tokens; 0 elsewhere and where the sampler gave no number.

  >>> one = jnp.ones(2)
  >>> print(log_ratio(-one, jnp.asarray([-2.0, jnp.nan]), one))
  [1. 0.]
  """
  chex.assert_equal_shape([old_token_logp, sampler_token_logp, mask])
  off = old_token_logp - sampler_token_logp
  known = (mask > 0) & ~jnp.isnan(off)
  return jax.lax.stop_gradient(jnp.where(known, off, 0.0))


def exp(x):
  """Exponential of a log-ratio clamped to plus and minus 20 nats.

  >>> print(exp(jnp.zeros(1)))
  [1.]
  """
  return jnp.exp(jnp.clip(x, -INPUT, INPUT))
