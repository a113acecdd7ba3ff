"""Advantages for the best of several rollouts."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call, groups
from jaxpref.numerics import safe_divide


def grpo_passk(reward, present, *, eps: float = 1e-6, scale: str = "std"):
  r"""Only the best rollout of a group gets an advantage: its lead over the second best.

  .. math:: A_{i^*} = \frac{R_{i^*} - \max_{j \ne i^*} R_j}{\mathrm{std}_j R_j + \epsilon},
    \quad i^* = \arg\max_i R_i

  All others get 0. If the two best are equal, all are 0; so is a group without variance, and a
  single rollout. Absent and unscorable rollouts get 0 and do not count.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    eps: added to the standard deviation, reward units.
    scale: `std` or `none`, for no division.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `scale` is another word.

  Example:
    >>> print(grpo_passk(jnp.asarray([[1.0, 0.0, 0.5]]), jnp.ones((1, 3)), scale="none"))
    [[0.5 0.  0. ]]

  Reference: Tang et al., "Optimizing Language Models for Inference Time Objectives using
  Reinforcement Learning" (2025). Catalogue 2, section 2, `grpo_passk`.
  """
  call.one_of("grpo_passk", ("std", "none"), scale=scale)
  x, valid = groups.scorable(reward, present)
  off, std = groups.centred(x, valid)
  low = jnp.where(valid > 0, off, -jnp.inf)
  best = jnp.arange(x.shape[1]) == jnp.argmax(low, axis=-1)[:, None]
  second = jnp.where(best, -jnp.inf, low).max(-1, keepdims=True)
  peers = valid.sum(-1, keepdims=True) > 1
  lead = jnp.where(best & peers, off - jnp.where(peers, second, 0.0), 0.0)
  divisor = jnp.where(std > 0, std + eps, 1.0) if scale == "std" else 1.0
  return jax.lax.stop_gradient(lead / divisor)


def _choose_ratio(over, under, k):
  """`C(over, k) / C(under, k)` for `over <= under`; 0 where either has fewer than `k`."""
  ratio = 1.0
  for j in range(k):
    ratio = ratio * safe_divide(jnp.maximum(over - j, 0.0), jnp.maximum(under - j, 0.0))
  return ratio


def passk_analytic(reward, present, *, k: int = 4, eps: float = 1e-6):
  r"""The advantage of right and wrong rollouts for pass@k, over all subsets of k.

  With `c` right ones among `N`

  .. math::
    \mu = 1 - \frac{\binom{N-c}{k}}{\binom{N}{k}},\ s = \sqrt{\mu (1-\mu)},\
    A_+ = \frac{1 - \mu}{s + \epsilon},\
    A_- = \frac{1 - \mu - \binom{N-c-1}{k-1} / \binom{N-1}{k-1}}{s + \epsilon}

  Rewards above 0.5 are right. No right one, fewer than k wrong ones (then pass@k is certain) or
  fewer rollouts than k: all 0. `k = 1` is `grpo` with the population's standard deviation. Absent
  and unscorable rollouts get 0 and do not count.

  Args:
    reward: f32[B, K], 1 for right, 0 for wrong; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    k: size of the subsets, > 0.
    eps: added to `s`.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `k` is not above 0.

  Example:
    >>> reward = jnp.asarray([[1.0, 0, 0, 0, 0, 0, 0, 0]])
    >>> print(*(f"{a:.3f}" for a in passk_analytic(reward, jnp.ones((1, 8)), k=2)[0, :2]))
    1.732 -0.247

  Reference: Chen et al., "Pass@k Training for Adaptively Balancing Exploration and Exploitation of
  Large Reasoning Models" (2025). Catalogue 2, section 2, `passk_analytic`.
  """
  call.positive("passk_analytic", k=k)
  x, valid = groups.scorable(reward, present)
  right = (x > 0.5) * valid
  count, good = valid.sum(-1, keepdims=True), right.sum(-1, keepdims=True)
  fail = _choose_ratio(count - good, count, k)  # 1 - mu
  fail_with = _choose_ratio(count - good - 1.0, count - 1.0, k - 1)
  mixed = (good > 0) & (fail > 0)
  scale = jnp.sqrt(fail * (1.0 - fail)) + eps
  advantage = jnp.where(right > 0, fail, fail - fail_with) / scale
  return jax.lax.stop_gradient(jnp.where(mixed & (valid > 0), advantage, 0.0))
