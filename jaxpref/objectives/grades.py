"""Losses of reward models on grades: of single responses, of attributes, of steps."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref.numerics import masked_mean
from jaxpref.types import Refused


def regression(score_parts, aspects):
  r"""Regression on several attributes at once; grades that are missing are left out.

  With score `s_{km}` of attribute `m` and its grade `g_{km}`, over the attributes that have one

  .. math:: \ell_k = \mathrm{mean}_m\, (s_{km} - g_{km})^2

  A response without any grade has loss 0.

  Args:
    score_parts: f32[B, K, M], predicted grade of each attribute.
    aspects: f32[B, K, M], the grade, such as 0 to 4; NaN where there is none. No gradient.

  Returns:
    loss: f32[B, K], mean squared error of each response, squared grades; not reduced.
    metrics: `mse` f32[B, K, M] as `(value, count)`: its mean is over all grades that exist.

  Raises:
    Refused: another number of attributes than the model has parts.

  Example:
    >>> loss, _ = regression(jnp.asarray([[[1.0, 3.0]]]), jnp.asarray([[[2.0, jnp.nan]]]))
    >>> print(loss)
    [[1.]]

  Reference: Wang et al., "HelpSteer: Multi-attribute Helpfulness Dataset for SteerLM" (2023).
  Catalogue 1, section 7, `rm_regression`.
  """
  chex.assert_rank([score_parts, aspects], 3)
  if score_parts.shape != aspects.shape:
    raise Refused(
      f"regression: the model has {score_parts.shape[2]} parts but the data have "
      f"{aspects.shape[2]} attributes (shapes {score_parts.shape} and {aspects.shape}); set "
      f"config.model.parts={aspects.shape[2]}."
    )
  aspects = jax.lax.stop_gradient(aspects)
  there = (~jnp.isnan(aspects)).astype(jnp.float32)
  square = jnp.where(there > 0, score_parts - jnp.where(there > 0, aspects, 0.0), 0.0) ** 2
  each = jax.lax.stop_gradient(masked_mean(square, there, axis=-1)), there.max(-1)
  return masked_mean(square, there, axis=-1), {"mse": each}


def ordinal(score, relevance, *, thresholds: str = "-1.5,-0.5,0.5,1.5"):
  r"""Ordered grades by cumulative logits: the grade is where the score falls between thresholds.

  With thresholds `t_1 < ... < t_{n}` and grades 0 to n

  .. math:: P(g \le k \mid r) = \sigma(t_{k+1} - r), \quad \ell_k = -\log P(g_k \mid r_k)

  The thresholds are fixed: the score is free to stretch, so only their relative distances matter.
  Unlike a regression this does not take grades for equally far apart.

  Args:
    score: f32[B, K], score of each response, reward units.
    relevance: f32[B, K], grade of each response, a whole number from 0 to n; others are rounded
      and clipped. No gradient.
    thresholds: the n thresholds, increasing, separated by commas, reward units.

  Returns:
    loss: f32[B, K], negative log-likelihood of each grade, nats; not reduced.
    metrics: `grade/accuracy` f32[B, K], 1 where the likeliest grade is the right one.

  Raises:
    Refused: thresholds that are no numbers or do not increase.

  Example:
    >>> loss, _ = ordinal(jnp.zeros((1, 3)), jnp.asarray([[0.0, 1.0, 2.0]]), thresholds="-1,1")
    >>> print(jnp.round(loss, 6))
    [[1.313262 0.771937 1.313262]]

  Reference: McCullagh, "Regression Models for Ordinal Data" (1980). Catalogue 1, section 7,
  `rm_ordinal`.
  """
  chex.assert_equal_shape([score, relevance])
  cuts = jnp.asarray(_cuts(thresholds), jnp.float32)
  grade = jnp.clip(jnp.round(jax.lax.stop_gradient(relevance)), 0, len(cuts)).astype(jnp.int32)
  # log(s(a) - s(b)) = ls(a) + ls(-b) + log(1 - exp(b - a)) for a > b: no difference of near numbers
  above = jax.nn.log_sigmoid(cuts - score[..., None])  # log P(g <= k)
  below = jax.nn.log_sigmoid(score[..., None] - cuts)  # log P(g > k)
  gap = jnp.log(-jnp.expm1(cuts[:-1] - cuts[1:]))
  middle = above[..., 1:] + below[..., :-1] + gap
  logp = jnp.concatenate([above[..., :1], middle, below[..., -1:]], -1)
  right = (jnp.argmax(logp, -1) == grade).astype(jnp.float32)
  return -jnp.take_along_axis(logp, grade[..., None], -1)[..., 0], {"grade/accuracy": right}


def _cuts(thresholds):
  try:
    cuts = [float(t) for t in thresholds.split(",")]
  except ValueError:
    cuts = []
  if not cuts or any(not b > a for a, b in zip(cuts[:-1], cuts[1:], strict=True)):
    raise Refused(
      f"ordinal needs thresholds that increase, such as '-1.5,-0.5,0.5,1.5'; got {thresholds!r}."
    )
  return cuts


def classify(score, relevance):
  r"""Good or bad: the score is the logit that a response is good.

  With `y` 1 for good and 0 for bad

  .. math:: \ell_k = -y_k \log \sigma(r_k) - (1 - y_k) \log \sigma(-r_k)

  Responses do not compare with each other, so the scores have an absolute meaning.

  Args:
    score: f32[B, K], score of each response, a logit.
    relevance: f32[B, K], `y`, 0 to 1; no gradient.

  Returns:
    loss: f32[B, K], nats, not reduced.
    metrics: `outcome/accuracy` f32[B, K], 1 where score and outcome are on the same side (a score
      of 0 is on neither).

  Example:
    >>> loss, _ = classify(jnp.asarray([[2.0, 2.0]]), jnp.asarray([[1.0, 0.0]]))
    >>> print(jnp.round(loss, 6))
    [[0.126928 2.126928]]

  Reference: binary cross-entropy; as a reward model Cobbe et al., "Training Verifiers to Solve Math
  Word Problems" (2021). Catalogue 1, section 7, `rm_classify`.
  """
  chex.assert_equal_shape([score, relevance])
  relevance = jax.lax.stop_gradient(relevance)
  return _entropy(score, relevance), {"outcome/accuracy": _same_side(score, relevance)}


def orm(token_score, relevance, mask):
  r"""Outcome reward model: was the answer right, judged at the last token of the response.

  With `t_k` the last token of response `k` that counts and `y_k` its outcome

  .. math:: \ell_k = -y_k \log \sigma(r_{k t_k}) - (1 - y_k) \log \sigma(-r_{k t_k})

  It is `classify` of a model whose score is read there. An empty response has loss 0.

  Args:
    token_score: f32[B, K, T], score at each token, a logit.
    relevance: f32[B, K], `y`, 1 for a right answer, 0 for a wrong one; no gradient.
    mask: f32[B, K, T], 1 on response tokens that count.

  Returns:
    loss: f32[B, K], nats, not reduced.
    metrics: `outcome/accuracy` f32[B, K] as `(value, count)`, without empty responses.

  Example:
    >>> loss, _ = orm(jnp.asarray([[[5.0, 2.0, 9.0]]]), jnp.ones((1, 1)),
    ...   jnp.asarray([[[1.0, 1.0, 0.0]]]))
    >>> print(jnp.round(loss, 6))
    [[0.126928]]

  Reference: Cobbe et al., "Training Verifiers to Solve Math Word Problems" (2021); Lightman et al.,
  "Let's Verify Step by Step" (2023), section 2.5. Catalogue 1, section 7, `orm`.
  """
  chex.assert_equal_shape([token_score, mask])
  chex.assert_shape(relevance, token_score.shape[:2])
  relevance = jax.lax.stop_gradient(relevance)
  there = (mask > 0).any(-1).astype(jnp.float32)
  last = token_score.shape[2] - 1 - jnp.argmax((mask > 0)[..., ::-1], -1)
  score = jnp.take_along_axis(token_score, last[..., None], -1)[..., 0]
  right = _same_side(score, relevance), there
  return jnp.where(there > 0, _entropy(score, relevance), 0.0), {"outcome/accuracy": right}


def prm(token_score, step_label):
  r"""Process reward model: is each step good, judged at the token where the step ends.

  Over the `n_k` places of response `k` where a step ends, with label `y` in 0 to 1

  .. math:: \ell_k = \frac{1}{n_k} \sum_t -y_t \log \sigma(r_t) - (1 - y_t) \log \sigma(-r_t)

  All other tokens have no loss. A response without steps has loss 0. Two classes of a token
  classifier are one logit: their difference.

  Args:
    token_score: f32[B, K, T], score at each token, a logit.
    step_label: f32[B, K, T], `y` at the last token of each step, -1 elsewhere; no gradient.

  Returns:
    loss: f32[B, K], mean over the steps of a response, nats; not reduced.
    metrics: `step/accuracy` f32[B, K] as `(value, count)`: the share of steps whose score is on
      the side of the label, counted by steps.

  Example:
    >>> loss, _ = prm(jnp.asarray([[[2.0, 7.0, 2.0]]]), jnp.asarray([[[1.0, -1.0, 0.0]]]))
    >>> print(jnp.round(loss, 6))
    [[1.126928]]

  Reference: Lightman et al., "Let's Verify Step by Step" (2023); Uesato et al., "Solving Math Word
  Problems with Process- and Outcome-Based Feedback" (2022). Catalogue 1, section 7, `prm`.
  """
  chex.assert_equal_shape([token_score, step_label])
  chex.assert_rank(token_score, 3)
  label = jax.lax.stop_gradient(step_label)
  ends = (label >= 0).astype(jnp.float32)
  loss = masked_mean(_entropy(token_score, jnp.maximum(label, 0.0)), ends, axis=-1)
  right = masked_mean(_same_side(token_score, label), ends, axis=-1)
  return loss, {"step/accuracy": (right, ends.sum(-1))}


def _entropy(logit, p):
  """Cross-entropy of a logit against the probability `p`."""
  return p * jax.nn.softplus(-logit) + (1.0 - p) * jax.nn.softplus(logit)


def _same_side(logit, p):
  logit = jax.lax.stop_gradient(logit)
  return ((logit > 0) == (p > 0.5)).astype(jnp.float32) * (logit != 0)
