"""GiGPO: advantages of episodes and of the steps taken in the same state."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call, groups
from jaxpref.advantages.returns import discounted
from jaxpref.numerics import safe_divide


def gigpo(
  segment_reward,
  segment_key,
  segment_mask,
  *,
  gamma: float = 0.95,
  step_weight: float = 1.0,
  normalise: str = "mean",
  over: str = "episode",
  eps: float = 1e-6,
  singleton: str = "zero",
):
  r"""Episode advantage plus the advantage of each step among those from the same state.

  .. math::
    A_{it} = \frac{R_i - \mathrm{mean}_j R_j}{F_E} + \omega
             \frac{R_{it} - \mathrm{mean}_{s_{ju} = s_{it}} R_{ju}}{F_S}, \quad
    R_i = \sum_t r_{it},\ R_{it} = \sum_{u \ge t} \gamma^{u-t} r_{iu}

  F is 1 with `normalise='mean'`, the unbiased standard deviation plus eps with `std`. Steps are
  compared within their prompt only; a step whose state nobody else visits has step advantage 0, so
  with all states distinct this is `grpo` or `dr_grpo`. Groups without variance (std below
  `1e-6 max(1, |mean|)`) give 0. An episode without a peer has episode advantage 0, or its raw
  return with `singleton='keep'`. An episode with a nan reward is unscorable and leaves all
  statistics.

  Args:
    segment_reward: f32[B, K, S], reward of each step, from the environment.
    segment_key: u32[B, K, S], hash of the state in which the step was taken, without history.
    segment_mask: f32[B, K, S], 1 on steps that exist.
    gamma: discount per step of the step returns.
    step_weight: `omega`, at least 0.
    normalise: `mean` (F = 1) or `std`.
    over: `episode` counts each episode once in `R_i`'s statistics, `step` once per step.
    eps: added to the standard deviation, reward units.
    singleton: `zero` or `keep`, for an episode without a peer.

  Returns:
    advantage: f32[B, K, S], no gradient, 0 on steps that do not exist.

  Raises:
    Refused: `normalise`, `over` or `singleton` is another word.

  Example:
    >>> key = jnp.asarray([[[7, 8], [7, 9]]], jnp.uint32)
    >>> reward = jnp.asarray([[[0.0, 10.0], [0.0, 0.0]]])
    >>> print(gigpo(reward, key, jnp.ones((1, 2, 2)), gamma=0.5))
    [[[ 7.5  5. ]
      [-7.5 -5. ]]]

  Reference: Feng et al., "Group-in-Group Policy Optimization for LLM Agent Training" (2025), eqs.
  3 to 8. Catalogue 2, section 2, `gigpo`.
  """
  call.one_of("gigpo", ("mean", "std"), normalise=normalise)
  call.one_of("gigpo", ("episode", "step"), over=over)
  call.one_of("gigpo", groups.SINGLETONS, singleton=singleton)
  chex.assert_rank(segment_reward, 3)
  chex.assert_equal_shape([segment_reward, segment_key, segment_mask])
  reward, mask = _scored(segment_reward, segment_mask)
  scale = eps if normalise == "std" else 0.0
  level = _episode_level(reward, mask, over, normalise, scale, singleton)
  steps = _step_level(discounted(reward, mask, gamma), segment_key, mask, normalise, scale)
  return jax.lax.stop_gradient((level + step_weight * steps) * mask)


def _scored(reward, mask):
  """Rewards with 0 where there is no step, and the mask without unscorable episodes."""
  exists = mask > 0
  broken = (exists & ~jnp.isfinite(reward)).any(-1, keepdims=True)
  kept = exists & ~broken
  return jnp.where(kept, reward, 0.0), kept.astype(jnp.float32)


def _divided(off, std, normalise, eps):
  if normalise == "mean":
    return off
  return jnp.where(std > 0, off / jnp.where(std > 0, std + eps, 1.0), 0.0)


def _episode_level(reward, mask, over, normalise, eps, singleton):
  """f32[B, K, S]: the episode's advantage at each of its steps."""
  total = jnp.broadcast_to(reward.sum(-1, keepdims=True), mask.shape)
  rows = mask
  if over == "episode":
    first = jnp.cumsum(mask, -1) * mask == 1  # one step stands for its episode
    rows = first.astype(jnp.float32)
  off, std = groups.centred(total * rows, rows, axis=(1, 2))
  off = off.sum(-1, keepdims=True) / jnp.maximum(rows.sum(-1, keepdims=True), 1.0)
  level = jnp.broadcast_to(_divided(off, std, normalise, eps), mask.shape)
  alone = rows.sum((1, 2), keepdims=True) == 1
  return jnp.where(alone, total, level) if singleton == "keep" else level


def _step_level(returns, key, mask, normalise, eps):
  """f32[B, K, S]: each step's return among the steps of its prompt with the same key."""
  shape = returns.shape
  flat = lambda x: x.reshape(shape[0], -1)
  x, key, valid = flat(returns), flat(key), flat(mask)
  same = (key[:, :, None] == key[:, None, :]) * valid[:, :, None] * valid[:, None, :]
  count = same.sum(-1)
  mean = safe_divide((same * x[:, None, :]).sum(-1), count)
  off = (x - mean) * valid
  square = (same * (off**2)[:, None, :]).sum(-1)
  std = jnp.sqrt(safe_divide(square, jnp.maximum(count - 1.0, 0.0)))
  alike = std < groups.EQUAL * jnp.maximum(1.0, jnp.abs(mean))
  off, std = jnp.where(alike, 0.0, off), jnp.where(alike, 0.0, std)
  return _divided(off, std, normalise, eps).reshape(shape)
