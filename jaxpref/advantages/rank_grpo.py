"""Rank-GRPO: one group per rank of a list."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call, groups

MISSING = ("leave_out", "zero")


def rank_grpo(
  segment_reward, segment_mask, *, eps: float = 1e-4, scale: str = "std", missing: str = "leave_out"
):
  r"""The reward of each rank, standardised over the prompt's lists at that rank.

  .. math:: A_{ik} = \frac{r_{ik} - \mathrm{mean}_j r_{jk}}{\mathrm{std}_j r_{jk} + \epsilon}

  A rank that a list does not have leaves the statistics, or counts as reward 0 with
  `missing='zero'` (which also teaches the length); its own advantage is 0 either way. A list
  without any rank is absent. Ranks without variance, or with one list, give 0; nan rewards are
  left out.

  Args:
    segment_reward: f32[B, K, S], reward of each rank; nan where there is none.
    segment_mask: f32[B, K, S], 1 on ranks that exist.
    eps: added to the unbiased standard deviation, reward units.
    scale: `std`, or `none` for no division.
    missing: `leave_out` or `zero`.

  Returns:
    advantage: f32[B, K, S], no gradient, 0 on ranks that do not exist.

  Raises:
    Refused: `scale` or `missing` is another word.

  Example:
    >>> reward = jnp.asarray([[[1.0, 0.0], [0.0, 0.0]]])
    >>> print(rank_grpo(reward, jnp.ones((1, 2, 2)), scale="none"))
    [[[ 0.5  0. ]
      [-0.5  0. ]]]

  Reference: Zhu et al., "Rank-GRPO" (2025). Catalogue 2, section 2, with `gigpo`.
  """
  call.one_of("rank_grpo", ("std", "none"), scale=scale)
  call.one_of("rank_grpo", MISSING, missing=missing)
  chex.assert_rank(segment_reward, 3)
  chex.assert_equal_shape([segment_reward, segment_mask])
  exists = (segment_mask > 0) & jnp.isfinite(segment_reward)
  x, counted = jnp.where(exists, segment_reward, 0.0), exists
  if missing == "zero":
    lacking = (segment_mask <= 0) & (segment_mask > 0).any(-1, keepdims=True)
    counted = exists | lacking
  counted = counted.astype(jnp.float32)
  if scale == "std":
    advantage = groups.normalised(x, counted, eps, axis=1)
  else:
    advantage = groups.centred(x, counted, axis=1)[0]
  return jax.lax.stop_gradient(jnp.where(exists, advantage, 0.0))


def length_shaping(advantage, segment, terminated, mask, *, ranks: int = 20, size: float = 0.1):
  """Constants on the tokens that make a list too long, too short or just right.

  Tokens of ranks beyond the last wanted one get `-size` added. The last token of a list that ended
  by itself has its advantage replaced: `+size` if the list has exactly `ranks` ranks, `-size` if it
  stops early; beyond the last rank only the first rule holds.

  Args:
    advantage: f32[B, K, T], after spreading.
    segment: i32[B, K, T], rank of each token, -1 outside.
    terminated: f32[B, K], 1 where the list ended by itself.
    mask: f32[B, K, T], 1 on tokens that count.
    ranks: wanted number of ranks.
    size: of the constants, advantage units; with 0 last tokens still get advantage 0.

  Returns:
    f32[B, K, T], no gradient, 0 outside the mask.

  Example:
    >>> segment = jnp.asarray([[[0, 1, 2]]])
    >>> one = jnp.ones((1, 1, 3))
    >>> print(length_shaping(0 * one, segment, jnp.ones((1, 1)), one, ranks=2))
    [[[ 0.   0.  -0.1]]]

  Reference: Zhu et al., "Rank-GRPO" (2025), released code.
  """
  counted = mask > 0
  behind = jnp.cumsum(counted[..., ::-1], -1)[..., ::-1]
  last = counted & (behind == 1) & (terminated > 0)[..., None]
  ending = jnp.where(segment == ranks - 1, size, -size)
  shaped = jnp.where(last & (segment < ranks), ending, advantage)
  shaped = jnp.where(counted & (segment >= ranks), shaped - size, shaped)
  return jax.lax.stop_gradient(jnp.where(counted, shaped, 0.0))
