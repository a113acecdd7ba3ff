"""Statistics of groups: who counts, mean and spread of those, and what happens to one alone."""

from __future__ import annotations

import jax.numpy as jnp

from jaxpref.numerics import safe_divide

EQUAL = 1e-6  # a std below this times max(1, |mean|) is rounding, and the group has no variance
SINGLETONS = ("zero", "keep")


def scorable(reward, present):
  """Rewards with 0 where there is none, and 1 where there is one.

  A reward that is not finite, or whose candidate is absent, is none.

  Args:
    reward: f32[B, K].
    present: f32[B, K].

  Returns:
    f32[B, K] and f32[B, K] of zeros and ones.

  >>> x, valid = scorable(jnp.asarray([[1.0, jnp.nan, 2.0]]), jnp.asarray([[1.0, 1.0, 0.0]]))
  >>> print(x, valid)
  [[1. 0. 0.]] [[1. 0. 0.]]
  """
  valid = jnp.isfinite(reward) & (present > 0)
  return jnp.where(valid, reward, 0.0), valid.astype(jnp.float32)


def centred(x, valid, axis=-1, ddof: int = 1):
  """Differences to the mean of those that count, and their standard deviation.

  A standard deviation below `EQUAL * max(1, |mean|)` is rounding: it and the differences are
  then exactly 0. So are those of a single member.

  Args:
    x: f32[...], finite.
    valid: f32[...] of zeros and ones, of the same shape.
    axis: the axis or axes of the group.
    ddof: 1 for the unbiased variance, 0 for that of the population.

  Returns:
    differences (0 where invalid), and the standard deviation with the group's axes kept at size 1.

  >>> off, std = centred(jnp.asarray([[1.0, 3.0, 9.0]]), jnp.asarray([[1.0, 1.0, 0.0]]))
  >>> print(off, std)
  [[-1.  1.  0.]] [[1.4142135]]
  """
  count = valid.sum(axis, keepdims=True)
  mean = safe_divide((x * valid).sum(axis, keepdims=True), count)
  off = (x - mean) * valid
  square = safe_divide((off * off).sum(axis, keepdims=True), jnp.maximum(count - ddof, 0.0))
  std = jnp.sqrt(square)
  alike = std < EQUAL * jnp.maximum(1.0, jnp.abs(mean))
  return jnp.where(alike, 0.0, off), jnp.where(alike, 0.0, std)


def normalised(x, valid, eps, axis=-1, ddof: int = 1):
  """`(x - mean) / (std + eps)` of those that count; 0 without variance and where invalid.

  Arguments as in `centred`.
  """
  off, std = centred(x, valid, axis, ddof)
  return jnp.where(std > 0, off / jnp.where(std > 0, std + eps, 1.0), 0.0)


def alone(advantage, x, valid, singleton: str):
  """The advantage, where members without a peer keep their raw value if `singleton` is `keep`.

  Args:
    advantage: f32[B, K].
    x: f32[B, K], raw values.
    valid: f32[B, K] of zeros and ones.
    singleton: one of `SINGLETONS`.
  """
  if singleton == "zero":
    return advantage
  return jnp.where(valid.sum(-1, keepdims=True) == 1, x * valid, advantage)


def ranks(x, valid):
  """Place of each valid entry among them, largest first, from 0; invalid ones come after.

  Args:
    x: f32[N].
    valid: f32[N] of zeros and ones.

  >>> print(ranks(jnp.asarray([1.0, 5.0, 3.0]), jnp.ones(3)))
  [2 0 1]
  """
  order = jnp.argsort(jnp.where(valid > 0, -x, jnp.inf), stable=True)
  return jnp.zeros(x.shape, jnp.int32).at[order].set(jnp.arange(x.size, dtype=jnp.int32))
