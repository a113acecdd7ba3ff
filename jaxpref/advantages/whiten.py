"""Whitening over a whole batch, by tokens or by sequences."""

from __future__ import annotations

import jax.numpy as jnp

from jaxpref import groups

SMALL = 1e-8  # added to the variance


def tokens(x, mask, *, ddof: int = 1, small: float = SMALL):
  """`(x - mean) / sqrt(var + small)` over all counted tokens of the batch; 0 on the others.

  A long answer weighs more than a short one. With fewer than two tokens, or without variance,
  all are 0.

  Args:
    x: f32[B, K, T].
    mask: f32[B, K, T], 1 on tokens that count.
    ddof: 1 divides the variance by n - 1, 0 by n.
    small: added to the variance.
  """
  valid = (mask > 0).astype(jnp.float32)
  off, std = groups.centred(jnp.where(valid > 0, x, 0.0), valid, axis=None, ddof=ddof)
  return off / jnp.sqrt(std * std + small)


def sequences(x, valid, *, eps: float):
  """`(x - mean) / (std + eps)` over all rollouts of the batch that count; 0 on the others.

  Args:
    x: f32[B, K].
    valid: f32[B, K] of zeros and ones.
    eps: added to the standard deviation.
  """
  return groups.normalised(x, valid, eps, axis=None)


def over_tokens(advantage, mask):
  """`[B, K]` on every counted token, `[B, K, T]`."""
  return jnp.where(mask > 0, advantage[..., None], 0.0)
