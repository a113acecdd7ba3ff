"""Losses of reward models: scores of responses against people's choices."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import pair_rewards
from jaxpref.types import Refused


def bradley_terry(score, *, center: float = 0.0):
  r"""Bradley-Terry: the log-loss of the score margin, with an optional pull towards zero.

  With scores `r_0` (preferred) and `r_1`

  .. math:: \ell = -\log \sigma(r_0 - r_1) + c\,(r_0 + r_1)^2

  It is log 2 at a tie. Without the second term a constant added to both scores changes nothing;
  with it the scores of a pair are drawn to a mean of 0.

  Args:
    score: f32[B, 2], score of each response, preferred first, reward units.
    center: `c`, strength of the pull, at least 0; 0.01 where it is used (Eisenstein et al.).

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with the score as reward.

  Raises:
    Refused: not two candidates, or a negative `center`.

  Example:
    >>> loss, _ = bradley_terry(jnp.asarray([[1.0, 0.2]]))
    >>> print(f"{loss[0]:.6f}")
    0.371101

  Reference: Bradley and Terry, "Rank Analysis of Incomplete Block Designs" (1952); Ouyang et al.,
  "Training language models to follow instructions with human feedback" (2022), eq. 1 with K = 2;
  for `center` Eisenstein et al., "Helping or Herding?" (2023). Catalogue 1, section 7, `rm_bt` and
  `rm_center`.
  """
  margin = _margin("bradley_terry", score, center)
  return jax.nn.softplus(-margin) + _pull(score, center), pair_rewards(score)


def bradley_terry_margin(
  score, strength, *, scale: float = 1.0, label_smoothing: float = 0.0, center: float = 0.0
):
  r"""Bradley-Terry that asks for a margin: stronger preferences are to be further apart.

  With the margin `z = r_0 - r_1 - s m` of scores, `m` the strength of the preference

  .. math:: \ell = -(1 - e) \log \sigma(z) - e \log \sigma(-z) + c\,(r_0 + r_1)^2

  It is `bradley_terry` at `m = 0`. A negative strength (a pair that other reward models doubt)
  relaxes the pair.

  Args:
    score: f32[B, 2], score of each response, preferred first, reward units.
    strength: f32[B], `m`: a rating gap, or a mean score difference of other models; no gradient.
    scale: `s`, reward units per unit of strength, at least 0.
    label_smoothing: `e`, share of labels that are taken for wrong, in [0, 1].
    center: `c`, strength of the pull towards zero, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with the score as reward, without the margin.

  Raises:
    Refused: not two candidates, or a knob out of its range.

  Example:
    >>> loss, _ = bradley_terry_margin(jnp.asarray([[1.0, 0.2]]), jnp.asarray([0.5]))
    >>> print(f"{loss[0]:.6f}")
    0.554355

  Reference: Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models" (2023), eq. 2;
  with a measured strength and smoothing Wang et al., "Secrets of RLHF in Large Language Models Part
  II: Reward Modeling" (2024), section 3. Catalogue 1, section 7, `rm_bt_margin`.
  """
  call.at_least("bradley_terry_margin", 0, scale=scale)
  call.fraction("bradley_terry_margin", label_smoothing=label_smoothing)
  margin = _margin("bradley_terry_margin", score, center)
  margin = margin - scale * jax.lax.stop_gradient(strength)
  return _soft(margin, 1.0 - label_smoothing) + _pull(score, center), pair_rewards(score)


def bradley_terry_smooth(score, *, label_smoothing: float = 0.1, center: float = 0.0):
  r"""Bradley-Terry for labels of which a known share is wrong.

  .. math:: \ell = -(1 - e) \log \sigma(z) - e \log \sigma(-z) + c\,(r_0 + r_1)^2

  with `z = r_0 - r_1`; least where `z = log((1 - e) / e)`, so margins stay bounded. It is
  `bradley_terry` at `e = 0`.

  Args:
    score: f32[B, 2], score of each response, preferred first, reward units.
    label_smoothing: `e`, share of labels that are taken for wrong, in [0, 1].
    center: `c`, strength of the pull towards zero, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with the score as reward.

  Raises:
    Refused: not two candidates, or a knob out of its range.

  Example:
    >>> loss, _ = bradley_terry_smooth(jnp.asarray([[1.0, 0.2]]))
    >>> print(f"{loss[0]:.6f}")
    0.451101

  Reference: Wang et al., "Secrets of RLHF in Large Language Models Part II: Reward Modeling"
  (2024), section 3.2 (card: papers/secrets_rm.md, equation 3).
  """
  call.fraction("bradley_terry_smooth", label_smoothing=label_smoothing)
  margin = _margin("bradley_terry_smooth", score, center)
  return _soft(margin, 1.0 - label_smoothing) + _pull(score, center), pair_rewards(score)


def bradley_terry_soft(score, label, *, center: float = 0.0):
  r"""Bradley-Terry with a probability as label, one per pair.

  With `p` the probability that candidate 0 is the preferred one and `z = r_0 - r_1`

  .. math:: \ell = -p \log \sigma(z) - (1 - p) \log \sigma(-z) + c\,(r_0 + r_1)^2

  A label of 1 is `bradley_terry`, 0 the same of the swapped pair, 0.5 draws both scores together.

  Args:
    score: f32[B, 2], score of each response, reward units.
    label: f32[B], `p`, e.g. the share of annotators who prefer candidate 0; no gradient.
    center: `c`, strength of the pull towards zero, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with the score as reward; candidate 0 counts as the chosen one.

  Raises:
    Refused: not two candidates, or a negative `center`.

  Example:
    >>> loss, _ = bradley_terry_soft(jnp.asarray([[1.0, 0.2]]), jnp.asarray([0.5]))
    >>> print(f"{loss[0]:.6f}")
    0.771101

  Reference: Wang et al., "Secrets of RLHF in Large Language Models Part II: Reward Modeling"
  (2024), section 3.2 (card: papers/secrets_rm.md, equation 3, one share per pair).
  """
  margin = _margin("bradley_terry_soft", score, center)
  return _soft(margin, jax.lax.stop_gradient(label)) + _pull(score, center), pair_rewards(score)


def bradley_terry_soft_margin(score, label, strength, *, scale: float = 1.0, center: float = 0.0):
  r"""Bradley-Terry with a probability as label and a margin, both of each pair.

  With `p` the label and `z = r_0 - r_1 - s m`, `m` the strength of the preference

  .. math:: \ell = -p \log \sigma(z) - (1 - p) \log \sigma(-z) + c\,(r_0 + r_1)^2

  It is `bradley_terry_soft` at `m = 0` and `bradley_terry_margin` at `p = 1`.

  Args:
    score: f32[B, 2], score of each response, reward units.
    label: f32[B], `p`, probability that candidate 0 is preferred; no gradient.
    strength: f32[B], `m`, of the preference for candidate 0, negative where doubted; no gradient.
    scale: `s`, reward units per unit of strength, at least 0.
    center: `c`, strength of the pull towards zero, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with the score as reward; candidate 0 counts as the chosen one.

  Raises:
    Refused: not two candidates, or a knob out of its range.

  Example:
    >>> loss, _ = bradley_terry_soft_margin(
    ...   jnp.asarray([[1.0, 0.2]]), jnp.asarray([1.0]), jnp.asarray([0.5]))
    >>> print(f"{loss[0]:.6f}")
    0.554355

  Reference: Wang et al., "Secrets of RLHF in Large Language Models Part II: Reward Modeling"
  (2024), section 3.2, "soft label + margin" (card: papers/secrets_rm.md).
  """
  call.at_least("bradley_terry_soft_margin", 0, scale=scale)
  margin = _margin("bradley_terry_soft_margin", score, center)
  margin = margin - scale * jax.lax.stop_gradient(strength)
  return _soft(margin, jax.lax.stop_gradient(label)) + _pull(score, center), pair_rewards(score)


def bradley_terry_scaled(score, strength, *, center: float = 0.0):
  r"""Bradley-Terry weighted by how strongly the response is preferred.

  With `m` the strength of the preference

  .. math:: \ell = -m \log \sigma(r_0 - r_1) + c\,(r_0 + r_1)^2

  Unlike a margin the strength does not move the optimum, only how much a pair counts.

  Args:
    score: f32[B, 2], score of each response, preferred first, reward units.
    strength: f32[B], `m`, at least 0; 1 slightly, 2 clearly, 3 much better; no gradient.
    center: `c`, strength of the pull towards zero, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with the score as reward.

  Raises:
    Refused: not two candidates, or a negative `center`.

  Example:
    >>> loss, _ = bradley_terry_scaled(jnp.asarray([[1.0, 0.2]]), jnp.asarray([3.0]))
    >>> print(f"{loss[0]:.6f}")
    1.113302

  Reference: Wang et al., "HelpSteer2-Preference: Complementing Ratings with Preferences" (2024),
  scaled Bradley-Terry. Catalogue 1, section 7, `rm_scaled_bt`.
  """
  margin = _margin("bradley_terry_scaled", score, center)
  loss = jax.lax.stop_gradient(strength) * jax.nn.softplus(-margin)
  return loss + _pull(score, center), pair_rewards(score)


def bradley_terry_floored(score, *, floor: float = 1e-5):
  r"""Bradley-Terry with a floor under the probability: pairs that are very wrong lose their pull.

  .. math:: \ell = -\log(\sigma(r_0 - r_1) + f)

  The loss is at most `-log f` and its gradient vanishes far on the wrong side, so mislabelled pairs
  count little. At `f = 0` it is `bradley_terry`.

  Args:
    score: f32[B, 2], score of each response, preferred first, reward units.
    floor: `f`, a probability, > 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with the score as reward.

  Raises:
    Refused: not two candidates, or `floor` not above 0.

  Example:
    >>> loss, _ = bradley_terry_floored(jnp.zeros((1, 2)))
    >>> print(f"{loss[0]:.6f}")
    0.693127

  Reference: Wang et al., "Secrets of RLHF in Large Language Models Part II: Reward Modeling"
  (2024), its public code (card: papers/secrets_rm.md, "Public code against paper").
  """
  call.positive("bradley_terry_floored", floor=floor)
  margin = _margin("bradley_terry_floored", score, 0.0)
  return -jnp.log(jax.nn.sigmoid(margin) + floor), pair_rewards(score)


def score_spread(score):
  r"""How far the scores of one prompt's responses are apart: what MetaRM's inner step raises.

  Over the K responses of a prompt

  .. math:: J = \frac{2}{K^2} \sum_{i < j} \sigma(|r_i - r_j|)

  It lies in `[(K-1)/(2K), (K-1)/K)`. As an inner objective of the update rule `look_ahead` it gets
  a negative `term_weight`, since it is to rise. Equal scores have no gradient.

  Args:
    score: f32[B, K], score of each response, reward units; K at least 2.

  Returns:
    loss: f32[B], `J` of each prompt, not reduced.
    metrics: `rewards/spread` f32[B], the same without gradient.

  Raises:
    Refused: fewer than two candidates.

  Example:
    >>> print(score_spread(jnp.zeros((1, 4)))[0])
    [0.375]

  Reference: Wang et al., "Secrets of RLHF in Large Language Models Part II: Reward Modeling"
  (2024), section 4, MetaRM (card: papers/secrets_rm.md, equation 9).
  """
  chex.assert_rank(score, 2)
  k = score.shape[1]
  if k < 2:
    raise Refused("score_spread compares responses of one prompt; it needs at least 2, not 1.")
  gap = score[:, :, None] - score[:, None, :]
  gap = gap * jnp.sign(jax.lax.stop_gradient(gap))  # jnp.abs has gradient 1 at 0
  loss = (jax.nn.sigmoid(gap) * jnp.triu(jnp.ones((k, k)), 1)).sum((1, 2)) * 2 / k**2
  return loss, {"rewards/spread": jax.lax.stop_gradient(loss)}


def _margin(name, score, center):
  """`r_0 - r_1`, after the checks that all share."""
  call.at_least(name, 0, center=center)
  call.candidates(name, 2, score=score)
  return score[:, 0] - score[:, 1]


def _pull(score, center):
  return center * (score[:, 0] + score[:, 1]) ** 2


def _soft(margin, p):
  """Cross-entropy of a margin against the probability `p` of the first."""
  return p * jax.nn.softplus(-margin) + (1.0 - p) * jax.nn.softplus(margin)
