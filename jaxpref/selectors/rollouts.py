"""Which rollouts to learn from."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call, groups
from jaxpref.numerics import safe_divide
from jaxpref.selectors.extremes import extremes


def dynamic_sampling(reward, present, *, threshold: float = 1e-6):
  r"""Drops prompts whose rollouts all have the same reward.

  .. math:: keep_i = [\mathrm{std}_j R_j > \epsilon \max(1, |\mathrm{mean}_j R_j|)]

  The standard deviation is the unbiased one. Give it the reward before penalties and shaping. A
  prompt with fewer than two scorable rollouts is dropped, and so are its absent and unscorable
  ones.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    threshold: smallest relative standard deviation that counts; below 1e-6 it has no effect.

  Returns:
    keep: f32[B, K], zeros and ones.

  Example:
    >>> print(dynamic_sampling(jnp.asarray([[1.0, 0.0], [1.0, 1.0]]), jnp.ones((2, 2))))
    [[1. 1.]
     [0. 0.]]

  Reference: Yu et al., "DAPO" (2025), section 3.2. Catalogue 2, section 7.
  """
  x, valid = groups.scorable(reward, present)
  mean = safe_divide((x * valid).sum(-1, keepdims=True), valid.sum(-1, keepdims=True))
  std = groups.centred(x, valid)[1]
  return jnp.where(std > threshold * jnp.maximum(1.0, jnp.abs(mean)), valid, 0.0)


def overlong(terminated, present):
  r"""Drops responses that were cut off before they ended.

  .. math:: keep_i = [\text{i ended by itself}]

  Multiply it into the mask and the dropped rows leave numerator and denominator of the loss.

  Args:
    terminated: f32[B, K], 1 where the response ended by itself.
    present: f32[B, K], 0 for rollouts that are not there.

  Returns:
    keep: f32[B, K], zeros and ones.

  Example:
    >>> print(overlong(jnp.asarray([[1.0, 0.0]]), jnp.ones((1, 2))))
    [[1. 0.]]

  Reference: Yu et al., "DAPO" (2025), section 3.4. Catalogue 2, section 7.
  """
  return ((terminated > 0) & (present > 0)).astype(jnp.float32)


def down_sampling(reward, present, *, count: int = 4):
  r"""Keeps the rollouts of each prompt whose rewards have the largest variance together.

  .. math:: \hat S = \arg\max_{|S| = m} \mathrm{Var}(R_S)

  Compute the advantage with `present` times what is kept, to have it normalised over the subset.
  With fewer scorable rollouts than `count` all are kept; where all rewards are equal, the first.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    count: rollouts kept per prompt, > 0.

  Returns:
    keep: f32[B, K], zeros and ones.

  Raises:
    Refused: `count` is not above 0.

  Example:
    >>> reward = jnp.asarray([[1.0, 0.2, 0.5, 0.0]])
    >>> print(down_sampling(reward, jnp.ones((1, 4)), count=2))
    [[1. 0. 0. 1.]]

  Reference: Xu et al., "Not All Rollouts are Useful" (2025). Paper card d3s.
  """
  call.positive("down_sampling", count=count)
  chex.assert_rank(reward, 2)
  x, valid = groups.scorable(reward, present)
  return jax.vmap(lambda r, v: extremes(r, v, count))(x, valid)
