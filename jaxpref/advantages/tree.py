"""Advantages of rollouts that share beginnings, and of the best kept ones."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call, groups
from jaxpref.numerics import safe_divide


def treepo(reward, segment_key, segment_mask, present, *, eps: float = 1e-6):
  r"""Rollouts of a tree against the mean of each subtree that they are in.

  .. math::
    D_i = \frac{1}{|P_i|} \sum_{n \in P_i} \Big(R_i - \mathrm{mean}_{j \in n} R_j\Big), \quad
    A_i = \frac{D_i}{\mathrm{std}_{batch}(D) + \epsilon}

  `P_i` are the nodes that rollout i passes: two rollouts share a node if they have the same key at
  the same level. With the root alone `D` is `dr_grpo`. A node with one rollout adds 0; so does a
  batch without variance. Absent and unscorable rollouts get 0 and do not count. The formula's
  scale is from memory of the paper.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    segment_key: u32[B, K, S], node at each level, the root first.
    segment_mask: f32[B, K, S], 1 on levels that the rollout has.
    present: f32[B, K], 0 for rollouts that are not there.
    eps: added to the standard deviation, reward units.

  Returns:
    advantage: f32[B, K], no gradient.

  Example:
    >>> key = jnp.asarray([[[0, 1], [0, 1], [0, 2]]], jnp.uint32)
    >>> reward = jnp.asarray([[1.0, 0.0, 0.0]])
    >>> print(*(f"{a:.3f}" for a in treepo(reward, key, jnp.ones((1, 3, 2)), jnp.ones((1, 3)))[0]))
    1.121 -0.801 -0.320

  Reference: Li et al., "TreePO" (2025). Catalogue 2, section 2, `treepo`.
  """
  chex.assert_equal_shape([reward, present])
  chex.assert_equal_shape([segment_key, segment_mask])
  x, valid = groups.scorable(reward, present)
  x, _ = groups.centred(x, valid)
  level = segment_mask * valid[..., None]
  same = (segment_key[:, :, None] == segment_key[:, None]) * level[:, :, None] * level[:, None]
  mean = safe_divide((same * x[:, None, :, None]).sum(2), same.sum(2))
  off = jnp.where(level > 0, x[..., None] - mean, 0.0).sum(-1)
  off = safe_divide(off, (level > 0).sum(-1).astype(jnp.float32))
  std = groups.centred(off, valid, axis=None)[1]
  return jax.lax.stop_gradient(jnp.where(std > 0, off / jnp.where(std > 0, std + eps, 1.0), 0.0))


def gfpo(reward, mask, present, *, retain: int = 8, by: str = "length", eps: float = 1e-6):
  r"""Group-relative advantage among the shortest, or the most efficient, rollouts.

  .. math:: A_i = \frac{R_i - \mathrm{mean}_{j \in S} R_j}{\mathrm{std}_{j \in S} R_j + \epsilon}
    \text{ for } i \in S, \text{ else } 0

  S are the `retain` rollouts of a prompt with the smallest length, or with the largest reward per
  token (`by='efficiency'`); ties go to the earlier one. Groups without variance and of one give 0.
  Absent and unscorable rollouts are never kept; an empty one has length 1 in the quotient.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    mask: f32[B, K, T], 1 on tokens that count; their number is the length.
    present: f32[B, K], 0 for rollouts that are not there.
    retain: rollouts kept per prompt, > 0.
    by: `length` or `efficiency`.
    eps: added to the unbiased standard deviation, reward units.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `retain` not above 0, or `by` another word.

  Example:
    >>> mask = (jnp.arange(3) < jnp.asarray([[1], [2], [3]])).astype(jnp.float32)[None]
    >>> reward = jnp.asarray([[1.0, 0.0, 1.0]])
    >>> print(*(f"{a:.3f}" for a in gfpo(reward, mask, jnp.ones((1, 3)), retain=2)[0]))
    0.707 -0.707 0.000

  Reference: Shrivastava et al., "Sample More to Think Less: Group Filtered Policy Optimization"
  (2025). Catalogue 2, section 2, `gfpo`.
  """
  call.positive("gfpo", retain=retain)
  call.one_of("gfpo", ("length", "efficiency"), by=by)
  x, valid = groups.scorable(reward, present)
  length = mask.sum(-1)
  worth = -length if by == "length" else x / jnp.maximum(length, 1.0)
  kept = valid * (jax.vmap(groups.ranks)(worth, valid) < retain)
  return jax.lax.stop_gradient(groups.normalised(x, kept, eps))
