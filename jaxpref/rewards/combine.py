"""Several rewards into one."""

from __future__ import annotations

import chex
import jax.numpy as jnp


def weighted_sum(reward_parts, part_weight):
  r"""The weighted sum of the rewards that there are.

  .. math:: R_i = \sum_m w_m R_{im}

  A part that is nan counts as 0; if all parts are nan, so is the sum (unscorable).

  Args:
    reward_parts: f32[B, K, M], rewards by kind; nan where there is none.
    part_weight: f32[B, M], weight of each kind.

  Returns:
    reward: f32[B, K].

  Example:
    >>> parts = jnp.asarray([[[1.0, 2.0], [jnp.nan, 2.0], [jnp.nan, jnp.nan]]])
    >>> print(weighted_sum(parts, jnp.asarray([[1.0, 0.5]])))
    [[ 2.  1. nan]]

  Reference: TRL 1.16 (2026), `sum_then_normalize`. Catalogue 2, section 2.
  """
  chex.assert_rank([reward_parts, part_weight], [3, 2])
  known = ~jnp.isnan(reward_parts)
  total = (jnp.where(known, reward_parts, 0.0) * part_weight[:, None, :]).sum(-1)
  return jnp.where(known.any(-1), total, jnp.nan)
