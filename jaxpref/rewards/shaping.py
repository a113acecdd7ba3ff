"""Rewards made gentler: length, truncation, scale, range."""

from __future__ import annotations

import jax.numpy as jnp

from jaxpref import call


def overlong_penalty(
  reward, mask, *, longest: int = 16_384, buffer: int = 4096, factor: float = 1.0
):
  r"""Takes off reward as a response runs into the last tokens before the limit.

  .. math:: R_i + \min\Big(0,\ -\frac{|o_i| - (L_{max} - b)}{b}\, f\Big)

  Lengths are counted tokens. Up to the limit at most `factor` is taken off; beyond it, more. Nan
  rewards stay nan.

  Args:
    reward: f32[B, K], reward of each rollout.
    mask: f32[B, K, T], 1 on tokens that count.
    longest: `L_max`, tokens, > 0.
    buffer: `b`, tokens, > 0.
    factor: `f`, reward units.

  Returns:
    reward: f32[B, K].

  Raises:
    Refused: `longest` or `buffer` not above 0.

  Example:
    >>> mask = (jnp.arange(10) < jnp.asarray([[8], [9], [10]])).astype(jnp.float32)[None]
    >>> print(overlong_penalty(jnp.zeros((1, 3)), mask, longest=10, buffer=2))
    [[ 0.  -0.5 -1. ]]

  Reference: Yu et al., "DAPO" (2025), eq. 13. Catalogue 2, section 7.
  """
  call.positive("overlong_penalty", longest=longest, buffer=buffer)
  over = mask.sum(-1) - (longest - buffer)
  return reward - jnp.maximum(over, 0.0) / buffer * factor


def stop_penalty(reward, terminated, *, coefficient: float = 0.5):
  r"""Lowers the reward of responses that were cut off.

  .. math:: R_i \leftarrow c R_i \text{ if } c \ge 0, \text{ else } c
    \qquad\text{for cut responses}

  Nan rewards stay nan.

  Args:
    reward: f32[B, K], reward of each rollout.
    terminated: f32[B, K], 1 where the response ended by itself.
    coefficient: `c`: 0 to 1 scales the reward, below 0 replaces it.

  Returns:
    reward: f32[B, K].

  Example:
    >>> print(stop_penalty(jnp.ones((1, 2)), jnp.asarray([[1.0, 0.0]])))
    [[1.  0.5]]

  Reference: Liu et al., "ProRL" (2025). Catalogue 2, section 7.
  """
  replaced = jnp.where(jnp.isnan(reward), reward, coefficient)
  cut = coefficient * reward if coefficient >= 0 else replaced
  return jnp.where(terminated > 0, reward, cut)


def clipped(reward, *, low: float = -1.0, high: float = 1.0):
  r"""The reward within bounds.

  .. math:: \min(\max(R_i, low), high)

  Nan rewards stay nan.

  Args:
    reward: f32[B, K], reward of each rollout.
    low: smallest reward.
    high: largest reward.

  Returns:
    reward: f32[B, K].

  Example:
    >>> print(clipped(jnp.asarray([[-3.0, 0.5]])))
    [[-1.   0.5]]

  Reference: Ahmadian et al., "Back to Basics" (2024). Catalogue 2, section 7.
  """
  return jnp.clip(reward, low, high)


def scaled(reward, *, bias: float = 0.0, scale: float = 1.0):
  r"""The reward moved and scaled.

  .. math:: (R_i + b)\, s

  Nan rewards stay nan.

  Args:
    reward: f32[B, K], reward of each rollout.
    bias: `b`, added first, reward units.
    scale: `s`.

  Returns:
    reward: f32[B, K].

  Example:
    >>> print(scaled(jnp.asarray([[0.0, 1.0]]), bias=-0.5, scale=10.0))
    [[-5.  5.]]

  Reference: Fu et al., "AReaL" (2025). Catalogue 2, section 7.
  """
  return (reward + bias) * scale
