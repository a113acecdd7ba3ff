"""From one advantage per rollout or per segment to one per token."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref.types import Refused


def spread(advantage, mask, segment):
  """Advantages of rollouts or of segments on every counted token.

  Tokens outside the mask get 0, and with segments those whose segment is below 0 or beyond the
  last. Advantages that are per token already need no spreading.

  Args:
    advantage: f32[B, K] or f32[B, K, S].
    mask: f32[B, K, T], 1 on tokens that count.
    segment: i32[B, K, T], segment of each token, -1 outside; not read for f32[B, K].

  Returns:
    f32[B, K, T], no gradient.

  Raises:
    Refused: an advantage of another rank.

  Example:
    >>> segment = jnp.asarray([[[0, 0, 1, -1]]])
    >>> print(spread(jnp.asarray([[[2.0, 3.0]]]), jnp.ones((1, 1, 4)), segment))
    [[[2. 2. 3. 0.]]]
  """
  if advantage.ndim not in (2, 3):
    raise Refused(
      f"spread reads an advantage of shape [B, K] or [B, K, S]; it has {tuple(advantage.shape)}."
    )
  chex.assert_rank(mask, 3)
  if advantage.ndim == 2:
    return jax.lax.stop_gradient(jnp.where(mask > 0, advantage[..., None], 0.0))
  last = advantage.shape[-1] - 1
  taken = jnp.take_along_axis(advantage, jnp.clip(segment, 0, last), axis=-1)
  return jax.lax.stop_gradient(
    jnp.where((mask > 0) & (segment >= 0) & (segment <= last), taken, 0.0)
  )
