"""The subset of most variance: some of the largest and some of the smallest numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import groups


def extremes(x, valid, count):
  r"""Which `count` of the valid numbers have the largest variance together.

  The best subset is the `i` largest and the `count - i` smallest for some i. Among equally good
  ones all from the top goes first, then the fewest from the top.

  Args:
    x: f32[N], finite.
    valid: f32[N] of zeros and ones.
    count: i32[] how many to keep; at most the valid ones are.

  Returns:
    f32[N] of zeros and ones.

  >>> a = jnp.asarray([1.5, 0.5, -0.5, -0.5, -1.0])
  >>> print(extremes(a, jnp.ones(5), 2))
  [1. 0. 0. 0. 1.]
  """
  size = valid.sum().astype(jnp.int32)
  count = jnp.minimum(count, size)
  rank = groups.ranks(x, valid)
  off, _ = groups.centred(x, valid)
  ordered = jnp.zeros_like(x).at[rank].set(off)  # invalid ones are 0 and come last
  sums = _prefix(ordered), _prefix(ordered * ordered)
  top = jnp.arange(x.size + 1)
  below = jnp.clip(size - (count - top), 0, x.size)  # ranks from here on are the smallest ones
  total, square = (p[top] + p[size] - p[below] for p in sums)
  spread = square - total * total / jnp.maximum(count, 1)
  spread = jnp.where(top <= count, spread, -jnp.inf)
  best = jnp.argmax(spread)
  best = jnp.where(spread[count] >= spread[best], count, best)
  kept = (rank < best) | (rank >= size - (count - best))
  return jax.lax.stop_gradient(jnp.where(kept, valid, 0.0))


def _prefix(x):
  return jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum(x)])


def largest(x, valid, count):
  """Which `count` of the valid numbers are the largest; ties go to the earlier one.

  Args:
    x: f32[N].
    valid: f32[N] of zeros and ones.
    count: i32[].

  >>> print(largest(jnp.asarray([1.0, 3.0, 2.0]), jnp.ones(3), 2))
  [0. 1. 1.]
  """
  return jnp.where(groups.ranks(x, valid) < count, valid, 0.0)
