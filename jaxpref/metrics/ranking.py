r"""Whether a policy's own likelihoods rank responses as people do, and how hard that is to learn.

Per pair, preferred response first, with log-probabilities in nats:
`d = logp_0 - logp_1` and `c = ref_logp_1 - ref_logp_0`. Positive `c` means that the reference ranks
the pair wrongly. A policy that equals its reference has `d = -c`.

Reference of the whole file: Chen et al., "Preference Learning Algorithms Do Not Learn Preference
Rankings" (2024). Card: papers/pref_ranking.md; equation numbers below are the card's.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref.numerics import average_logp, pair_rewards, safe_divide


def _right(first, second):
  """1 where the first is at least as large as the second."""
  return (first >= second).astype(jnp.float32)


def ranking_accuracy(logp, length):
  r"""Ranking accuracy of the policy's likelihoods, plain and per token.

  .. math::
    R = 1[\log\pi(y_w) \ge \log\pi(y_l)], \qquad
    \tilde R = 1[\log\pi(y_w)/|y_w| \ge \log\pi(y_l)/|y_l|]

  As in the paper a tie counts as right (equation 1); an empty response has 0 nats per token. This
  is not `reward_accuracy`, which compares with the reference.

  Args:
    logp: f32[B, 2], summed log-probability, preferred response first, nats.
    length: f32[B, 2], tokens that count.

  Returns:
    `ranking_accuracy` and `ranking_accuracy_normalised`, f32[B] of 0 or 1.

  Example:
    >>> right = ranking_accuracy(jnp.asarray([[-9.0, -4.0]]), jnp.asarray([[9.0, 2.0]]))
    >>> print(right["ranking_accuracy"], right["ranking_accuracy_normalised"])
    [0.] [1.]

  Reference: Chen et al. (2024); card, equation 1.
  """
  chex.assert_equal_shape([logp, length])
  chex.assert_shape(logp, (None, 2))
  mean = average_logp(logp, length)
  return {
    "ranking_accuracy": _right(logp[:, 0], logp[:, 1]),
    "ranking_accuracy_normalised": _right(mean[:, 0], mean[:, 1]),
  }


def reward_accuracy(logp, ref_logp):
  r"""Accuracy of the implicit reward, what trainers of the DPO family log.

  .. math:: 1[\log\pi(y_w) - \log\pi_0(y_w) > \log\pi(y_l) - \log\pi_0(y_l)] = 1[d + c > 0]

  Strict, so it is 0 where the policy equals the reference; such ties are counted apart. Any
  positive `beta` gives the same.

  Args:
    logp: f32[B, 2], preferred response first, nats.
    ref_logp: f32[B, 2], the same under the reference.

  Returns:
    `reward_accuracy` and `reward_ties`, f32[B] of 0 or 1.

  Example:
    >>> right = reward_accuracy(jnp.zeros((1, 2)), jnp.zeros((1, 2)))
    >>> print(right["reward_accuracy"], right["reward_ties"])
    [0.] [1.]

  Reference: Chen et al. (2024); card, equation 4.
  """
  chex.assert_equal_shape([logp, ref_logp])
  chex.assert_shape(logp, (None, 2))
  ratio = logp - ref_logp
  return {
    "reward_accuracy": (ratio[:, 0] > ratio[:, 1]).astype(jnp.float32),
    "reward_ties": (ratio[:, 0] == ratio[:, 1]).astype(jnp.float32),
  }


def pair_accuracy(logp, ref_logp, length, *, beta: float = 0.1):
  r"""What a run reports on held-out pairs: rewards, likelihoods and both accuracies.

  With reward `r = beta (logp - ref_logp)`: `rewards/accuracies = 1[r_0 > r_1]`, strict;
  `logps/accuracies = 1[logp_0 >= logp_1]`, the ranking accuracy, a tie being right.
  `logps/minus_ref` is the mean of `logp - ref_logp` over the two given responses: how far the
  policy has moved on this text. It is no KL divergence, as neither model sampled the text.

  Args:
    logp: f32[B, 2], preferred response first, nats.
    ref_logp: f32[B, 2], the same under the reference.
    length: f32[B, 2], tokens that count.
    beta: reward units per nat, > 0; take the objective's to compare with its metrics.

  Returns:
    dict of f32[B]: `rewards/{chosen,rejected,margins,accuracies}` in reward units,
    `logps/{chosen,rejected,minus_ref}` in nats, `logps/{accuracies,accuracies_normalised}`.

  Example:
    >>> held = pair_accuracy(
    ...   jnp.asarray([[-8.0, -7.0]]), jnp.asarray([[-9.0, -6.0]]), jnp.ones((1, 2)))
    >>> print(held["rewards/accuracies"], held["logps/accuracies"], held["logps/minus_ref"])
    [1.] [0.] [0.]

  Reference: Chen et al. (2024); card, equations 1 and 4; names as other trainers log them.
  """
  chex.assert_equal_shape([logp, ref_logp, length])
  ranked = ranking_accuracy(logp, length)
  return pair_rewards(beta * (logp - ref_logp)) | {
    "logps/chosen": logp[:, 0],
    "logps/rejected": logp[:, 1],
    "logps/minus_ref": (logp - ref_logp).mean(1),
    "logps/accuracies": ranked["ranking_accuracy"],
    "logps/accuracies_normalised": ranked["ranking_accuracy_normalised"],
  }


def _ideal(gap, label, beta, floor):
  """1 where the ideal policy ranks as most raters do; `gap` is the reference's d, f32[B]."""
  votes = jnp.log(jnp.maximum(label, floor)) - jnp.log(jnp.maximum(1.0 - label, floor))
  best = gap + votes / beta
  return jnp.where(label >= 0.5, best > 0, best < 0).astype(jnp.float32)


def ideal_accuracy(ref_logp, label, *, beta: float = 0.1, floor: float = 0.001):
  r"""Ranking accuracy that a perfectly optimised DPO or RLHF policy would reach.

  .. math:: R^* = 1\left[-c + \frac{1}{\beta} \log \frac{\alpha}{1 - \alpha} > 0\right]

  with `alpha` the share of raters that prefers response 0. Where `alpha < 0.5` the response that
  most raters prefer is the second, and the inequality turns around. With `alpha = 0.5` it is the
  reference's own (strict) ranking. Shares below `floor` are raised to it on both sides, as a
  unanimous vote has no finite optimum: 1 against 0 counts as 1000 to 1.

  The authors' code multiplies the votes with a ratio of log-probabilities instead and has a band
  of 5% that counts as a tie; we follow the paper's formula (card, "Code against paper").

  Args:
    ref_logp: f32[B, 2], summed log-probability under the reference, nats.
    label: f32[B], share of raters that prefers response 0, in [0, 1].
    beta: reward units per nat, > 0.
    floor: smallest share of raters, in (0, 0.5).

  Returns:
    `ideal_accuracy`, f32[B] of 0 or 1.

  Example:
    >>> ref = jnp.asarray([[-10.0, 0.0], [-12.0, 0.0]])   # c = 10 and 12; logit(0.75) / 0.1 = 10.99
    >>> print(ideal_accuracy(ref, jnp.asarray([0.75, 0.75]))["ideal_accuracy"])
    [1. 0.]

  Reference: Chen et al. (2024); card, equations 7 and 8 (Theorem 3.1, Corollary 3.3).
  """
  chex.assert_shape(ref_logp, (None, 2))
  chex.assert_shape(label, (ref_logp.shape[0],))
  return {"ideal_accuracy": _ideal(ref_logp[:, 0] - ref_logp[:, 1], label, beta, floor)}


def ideal_accuracy_normalised(ref_logp, length, label, *, beta: float = 0.1, floor: float = 0.001):
  r"""`ideal_accuracy` with log-probabilities per token in place of sums.

  .. math::
    \tilde R^* = 1\left[\frac{\log\pi_0(y_w)}{|y_w|} - \frac{\log\pi_0(y_l)}{|y_l|}
      + \frac{1}{\beta} \log \frac{\alpha}{1 - \alpha} > 0\right]

  Args:
    ref_logp: f32[B, 2], summed log-probability under the reference, nats.
    length: f32[B, 2], tokens that count.
    label: f32[B], share of raters that prefers response 0, in [0, 1].
    beta: reward units per nat per token, > 0.
    floor: smallest share of raters, in (0, 0.5).

  Returns:
    `ideal_accuracy_normalised`, f32[B] of 0 or 1.

  Example:
    >>> one = jnp.ones((1, 2))
    >>> print(ideal_accuracy_normalised(-one, one, 0.9 * one[:, 0]))
    {'ideal_accuracy_normalised': Array([1.], dtype=float32)}

  Reference: Chen et al. (2024); card, equation 8 with the length-normalised gap.
  """
  chex.assert_equal_shape([ref_logp, length])
  mean = average_logp(ref_logp, length)
  right = ideal_accuracy(mean, label, beta=beta, floor=floor)
  return {"ideal_accuracy_normalised": right["ideal_accuracy"]}


def difficulty(ref_logp, *, beta: float = 0.1, gamma: float = 1.0):
  r"""How far DPO's loss must fall before a pair is ranked rightly; needs no training.

  .. math:: d \ge 0 \iff \ell \le -\log\sigma(\beta\gamma c)

  where the loss is `dpo`'s with the same `beta` and `gamma`. Pairs with large `c` are hard.

  Args:
    ref_logp: f32[B, 2], preferred response first, nats.
    beta: reward units per nat, > 0.
    gamma: how much of the reference the objective subtracts; 1 is DPO.

  Returns:
    `difficulty/gap`, f32[B]: `c` in nats; `difficulty/threshold`, f32[B]: the loss at which the
    ranking flips, log 2 where `c` or `gamma` is 0.

  Example:
    >>> print(f'{difficulty(jnp.asarray([[-5.0, 0.0]]))["difficulty/threshold"][0]:.6f}')
    0.474077

  Reference: Chen et al. (2024); card, equation 10 (Theorem 4.1).
  """
  chex.assert_shape(ref_logp, (None, 2))
  gap = ref_logp[:, 1] - ref_logp[:, 0]
  threshold = jax.nn.softplus(-beta * gamma * gap)
  return {"difficulty/gap": gap, "difficulty/threshold": threshold}


def flip_groups(logp, ref_logp):
  r"""Which pairs training turned right, turned wrong, or left as they were.

  A pair is right under the reference where `c <= 0` and now where `d >= 0`, ties being right as in
  `ranking_accuracy`, so an untrained policy has flipped nothing. (The card writes `c < 0`, under
  which a tie would count as flipped before the first step.)

  Args:
    logp: f32[B, 2], preferred response first, nats.
    ref_logp: f32[B, 2], the same under the reference, the policy at step 0.

  Returns:
    `flips/{right_right,right_wrong,wrong_right,wrong_wrong}`, f32[B] of 0 or 1: before, after.
    Exactly one of them is 1.

  Example:
    >>> groups = flip_groups(jnp.asarray([[-1.0, -2.0]]), jnp.asarray([[-3.0, -2.0]]))
    >>> print(groups["flips/wrong_right"])
    [1.]

  Reference: Chen et al. (2024); card, equation 12.
  """
  chex.assert_equal_shape([logp, ref_logp])
  chex.assert_shape(logp, (None, 2))
  was, now = _right(ref_logp[:, 0], ref_logp[:, 1]), _right(logp[:, 0], logp[:, 1])
  return {
    "flips/right_right": was * now,
    "flips/right_wrong": was * (1.0 - now),
    "flips/wrong_right": (1.0 - was) * now,
    "flips/wrong_wrong": (1.0 - was) * (1.0 - now),
  }


def order_accuracy(logp, length, relevance):
  r"""For several graded responses: whether likelihoods order all of them as people do.

  .. math:: \prod_{i,j:\, \text{relevance}_i > \text{relevance}_j} 1[\log\pi(y_i) \ge \log\pi(y_j)]

  Without ties that is the exact match of two permutations, of which a random policy reaches 1/K!;
  with K = 2 it is `ranking_accuracy`. Equal grades ask for no order; with all grades equal the
  exact match is 1 and the share of pairs 0.

  Args:
    logp: f32[B, K], summed log-probability, nats.
    length: f32[B, K], tokens that count.
    relevance: f32[B, K], grades; larger is better.

  Returns:
    dict of f32[B]: `order_accuracy` and `order_accuracy_normalised` (all pairs right; per token),
    `order_pairs` and `order_pairs_normalised` (share of pairs that are right).

  Example:
    >>> right = order_accuracy(
    ...   jnp.asarray([[-1.0, -3.0, -2.0]]), jnp.ones((1, 3)), jnp.asarray([[3.0, 2.0, 1.0]]))
    >>> print(right["order_accuracy"], f'{right["order_pairs"][0]:.3f}')
    [0.] 0.667

  Reference: Chen et al. (2024); card, equation 3.
  """
  chex.assert_equal_shape([logp, length, relevance])
  asked = (relevance[:, :, None] > relevance[:, None, :]).astype(jnp.float32)
  out = {}
  for suffix, value in (("", logp), ("_normalised", average_logp(logp, length))):
    right = asked * _right(value[:, :, None], value[:, None, :])
    out[f"order_accuracy{suffix}"] = _right(right.sum((1, 2)), asked.sum((1, 2)))
    out[f"order_pairs{suffix}"] = safe_divide(right.sum((1, 2)), asked.sum((1, 2)))
  return out
