"""Advantages from the rewards of one prompt's group: baseline, and a scale or none."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call, groups
from jaxpref.advantages import whiten as whitening
from jaxpref.numerics import safe_divide


def grpo(reward, present, *, eps: float = 1e-6, ddof: int = 1, singleton: str = "zero"):
  r"""Group-relative advantage: the reward, standardised within the prompt's group.

  .. math:: A_i = \frac{R_i - \mathrm{mean}_j R_j}{\mathrm{std}_j R_j + \epsilon}

  Absent and unscorable (nan) rollouts leave the statistics and get 0. A group without variance
  (std below `1e-6 max(1, |mean|)`) gets exactly 0; so does a rollout without a peer, unless
  `singleton` is `keep`, which gives it its raw reward. Advantages sum to 0 and do not change under
  `R -> a R + b`, `a > 0` (up to `eps`).

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    eps: added to the standard deviation, reward units; published values run from 1e-9 to 1e-2.
    ddof: 1 for the unbiased standard deviation, 0 for that of the population.
    singleton: `zero` or `keep`, for a group of one.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `singleton` is another word.

  Example:
    >>> print(*(f"{a:.3f}" for a in grpo(jnp.asarray([[1.0, 0.0, 0.0, 0.5]]), jnp.ones((1, 4)))[0]))
    1.306 -0.783 -0.783 0.261

  Reference: Shao et al., "DeepSeekMath" (2024), section 4.1. Catalogue 2, section 2, `grpo`.
  """
  call.one_of("grpo", groups.SINGLETONS, singleton=singleton)
  x, valid = _scorable(reward, present)
  advantage = groups.normalised(x, valid, eps, ddof=ddof)
  return jax.lax.stop_gradient(groups.alone(advantage, x, valid, singleton))


def _scorable(reward, present):
  """Rewards `[B, K]` as `groups.scorable` gives them, shapes checked."""
  chex.assert_rank(reward, 2)
  chex.assert_equal_shape([reward, present])
  return groups.scorable(reward, present)


def dr_grpo(reward, present, *, singleton: str = "zero"):
  r"""Group-relative advantage without the division by the standard deviation.

  .. math:: A_i = R_i - \mathrm{mean}_j R_j

  Absent, unscorable and single rollouts, and groups without variance, as in `grpo`.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    singleton: `zero` or `keep` (the raw reward), for a group of one.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `singleton` is another word.

  Example:
    >>> print(dr_grpo(jnp.asarray([[1.0, 0.0, 0.0, 0.5]]), jnp.ones((1, 4))))
    [[ 0.625 -0.375 -0.375  0.125]]

  Reference: Liu et al., "Understanding R1-Zero-Like Training" (2025). Catalogue 2, section 2,
  `dr_grpo`.
  """
  call.one_of("dr_grpo", groups.SINGLETONS, singleton=singleton)
  x, valid = _scorable(reward, present)
  off, _ = groups.centred(x, valid)
  return jax.lax.stop_gradient(groups.alone(off, x, valid, singleton))


def _others(x, valid):
  """Differences to the mean of the other members, those members' number, and the group's."""
  count = valid.sum(-1, keepdims=True)
  off, _ = groups.centred(x, valid)
  return off * safe_divide(count, count - 1.0), jnp.maximum(count - 1.0, 0.0), off


def grpo_loo(reward, present, *, eps: float = 1e-6, singleton: str = "zero"):
  r"""Mean and standard deviation of the *other* rollouts of the group.

  .. math::
    A_i = \frac{R_i - \mathrm{mean}_{j \ne i} R_j}{s_i + \epsilon},\quad
    s_i^2 = \frac{n}{n-1} (\overline{R^2} - \overline{R}^2)_{j \ne i},\quad n = G - 1

  Where the others are all alike (always with two rollouts) `s_i` is 0 and nothing is divided;
  alike means `s_i` below `1e-6 max(1, |mean|)`, so that rounding gives no spikes. Absent,
  unscorable and single rollouts as in `grpo`.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    eps: added to the standard deviation, reward units.
    singleton: `zero` or `keep` (the raw reward), for a group of one.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `singleton` is another word.

  Example:
    >>> print(grpo_loo(jnp.asarray([[1.0, 0.0]]), jnp.ones((1, 2))))
    [[ 1. -1.]]

  Reference: NVIDIA, NeMo-RL (2025), the default estimator of its GRPO. Catalogue 2, section 2,
  `grpo_loo`.
  """
  call.one_of("grpo_loo", groups.SINGLETONS, singleton=singleton)
  x, valid = _scorable(reward, present)
  apart, peers, off = _others(x, valid)
  mean = safe_divide((x * valid).sum(-1, keepdims=True) - x, peers)  # of the others
  shift = safe_divide(-off, peers)  # the others' mean, seen from the group's
  pairs = valid[:, :, None] * valid[:, None, :] * (1.0 - jnp.eye(x.shape[1]))
  square = (pairs * (off[:, None, :] - shift[:, :, None]) ** 2).sum(-1)
  std = jnp.sqrt(safe_divide(square, jnp.maximum(peers - 1.0, 0.0)))
  alike = std < groups.EQUAL * jnp.maximum(1.0, jnp.abs(mean))
  advantage = apart / jnp.where(alike, 1.0, std + eps)
  return jax.lax.stop_gradient(groups.alone(advantage, x, valid, singleton))


def rloo(reward, present, *, whiten: str = "none", eps: float = 1e-4, singleton: str = "zero"):
  r"""Leave-one-out baseline: the reward against the mean of the other rollouts.

  .. math:: A_i = R_i - \frac{1}{G-1} \sum_{j \ne i} R_j = \frac{G}{G-1} (R_i - \mathrm{mean}_j R_j)

  With `whiten='batch'` the advantages of the whole batch are then standardised once more. Absent,
  unscorable and single rollouts, and groups without variance, as in `grpo`.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.
    whiten: `none` or `batch`.
    eps: added to the batch's standard deviation, reward units; read only with `whiten='batch'`.
    singleton: `zero` or `keep` (the raw reward), for a group of one.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `whiten` or `singleton` is another word.

  Example:
    >>> print(*(f"{a:.3f}" for a in rloo(jnp.asarray([[1.0, 0.0, 0.0, 0.5]]), jnp.ones((1, 4)))[0]))
    0.833 -0.500 -0.500 0.167

  Reference: Ahmadian et al., "Back to Basics" (2024). Catalogue 2, section 2, `rloo`.
  """
  call.one_of("rloo", ("none", "batch"), whiten=whiten)
  call.one_of("rloo", groups.SINGLETONS, singleton=singleton)
  x, valid = _scorable(reward, present)
  advantage = groups.alone(_others(x, valid)[0], x, valid, singleton)
  if whiten == "batch":
    advantage = whitening.sequences(advantage, valid, eps=eps)
  return jax.lax.stop_gradient(advantage)


def opo(reward, mask, present, *, singleton: str = "zero"):
  r"""Length-weighted baseline, the one of least variance for independent token gradients.

  .. math:: A_i = R_i - \frac{\sum_j |o_j| R_j}{\sum_j |o_j|}

  Equals `dr_grpo` where all lengths are equal. A group without tokens falls back to the
  mean. Absent, unscorable and single rollouts, and groups without variance, as in `grpo`.

  Args:
    reward: f32[B, K], reward of each rollout; nan where there is none.
    mask: f32[B, K, T], 1 on tokens that count; their number is the length.
    present: f32[B, K], 0 for rollouts that are not there.
    singleton: `zero` or `keep` (the raw reward), for a group of one.

  Returns:
    advantage: f32[B, K], no gradient.

  Raises:
    Refused: `singleton` is another word.

  Example:
    >>> mask = (jnp.arange(4) < jnp.asarray([[1], [2], [3], [4]])).astype(jnp.float32)
    >>> reward = jnp.asarray([[1.0, 0.0, 0.0, 0.5]])
    >>> print(*(f"{a:.3f}" for a in opo(reward, mask[None], jnp.ones((1, 4)))[0]))
    0.700 -0.300 -0.300 0.200

  Reference: Hao et al., "On-Policy RL with Optimal Reward Baseline" (2025). Catalogue 2,
  section 2, `opo`.
  """
  call.one_of("opo", groups.SINGLETONS, singleton=singleton)
  x, valid = _scorable(reward, present)
  off, _ = groups.centred(x, valid)
  length = mask.sum(-1) * valid
  shift = safe_divide((length * off).sum(-1, keepdims=True), length.sum(-1, keepdims=True))
  return jax.lax.stop_gradient(groups.alone((off - shift) * valid, x, valid, singleton))


def maxrl(reward, present):
  r"""Maximum-likelihood scaling for right-or-wrong rewards: divide by the success rate.

  .. math:: A_i = \frac{R_i - \bar R}{\bar R} \text{ if } \bar R > 0 \text{, else } 0

  Maximises `sum_k pass@k / k` up to k = G. Rewards are meant to be 0 or 1, at least to be not
  negative. Absent, unscorable and single rollouts, and groups without variance, get 0.

  Args:
    reward: f32[B, K], 0 or 1; nan where there is none.
    present: f32[B, K], 0 for rollouts that are not there.

  Returns:
    advantage: f32[B, K], no gradient.

  Example:
    >>> print(maxrl(jnp.asarray([[1.0, 1, 0, 0, 0, 0, 0, 0]]), jnp.ones((1, 8)))[0, 1:3])
    [ 3. -1.]

  Reference: Tajwar et al., "Maximum Likelihood Reinforcement Learning" (2026). Catalogue 2,
  section 2, `maxrl`.
  """
  x, valid = _scorable(reward, present)
  off, _ = groups.centred(x, valid)
  mean = safe_divide((x * valid).sum(-1, keepdims=True), valid.sum(-1, keepdims=True))
  return jax.lax.stop_gradient(jnp.where(mean > 0, off / jnp.where(mean > 0, mean, 1.0), 0.0))
