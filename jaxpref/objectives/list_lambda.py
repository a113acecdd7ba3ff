"""Losses of ranking models over pairs that weigh by their effect on the ranking, on scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref.numerics import places
from jaxpref.objectives import _lists


def list_lambda_dcg(score, relevance, present):
  r"""LambdaRank: logistic loss of all pairs, weighted by what a swap changes in DCG.

  With `tau` the place by score, largest first

  .. math::
    \ell = \sum_{\psi_i > \psi_j} |2^{\psi_i} - 2^{\psi_j}|
      \left| \frac{1}{\log_2(1+\tau_i)} - \frac{1}{\log_2(1+\tau_j)} \right|
      \log(1 + e^{-(s_i - s_j)})

  It is log 2 times `lipo_lambda` at equal scores. No gradient flows through the weights.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`; larger is better; equal grades are no pair.
    present: f32[B, K], 0 for padded candidates, which are ignored.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = list_lambda_dcg(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.307200

  Reference: Burges, "From RankNet to LambdaRank to LambdaMART: An Overview" (2010). Catalogue 1,
  section 5, golden rax_listwise. That library multiplies by the padded size of the
  list, which we do not.
  """
  _lists.check("list_lambda_dcg", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  weight = _lists.gain_gaps(relevance, present) * _lists.discount_gaps(s, present) * jnp.log(2.0)
  return _lists.logistic(s, relevance, present, weight), _lists.report(s, relevance, present)


def list_lambda_dcg2(score, relevance, present):
  r"""NDCG-Loss2 of the LambdaLoss framework: pairs weigh by the distance of their places.

  With `tau` the place by score, largest first, and `d = |tau_i - tau_j|`

  .. math::
    \ell = \sum_{\psi_i > \psi_j} |2^{\psi_i} - 2^{\psi_j}|
      \left( \frac{1}{\log_2(1+d)} - \frac{1}{\log_2(2+d)} \right) \log(1 + e^{-(s_i - s_j)})

  Neighbours weigh most, wherever they stand. No gradient flows through the weights.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`; larger is better; equal grades are no pair.
    present: f32[B, K], 0 for padded candidates, which are ignored.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = list_lambda_dcg2(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.228053

  Reference: Wang et al., "The LambdaLoss Framework for Ranking Metric Optimization" (2018).
  Catalogue 1, section 5, golden rax_listwise. The library behind them multiplies by the
  padded size of the list, which we do not.
  """
  _lists.check("list_lambda_dcg2", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  place = places(jax.lax.stop_gradient(s), present)
  apart = jnp.maximum(jnp.abs(_lists.ahead(place)), 1.0)
  discount = 1.0 / jnp.log2(1.0 + apart) - 1.0 / jnp.log2(2.0 + apart)
  weight = _lists.gain_gaps(relevance, present) * discount
  return _lists.logistic(s, relevance, present, weight), _lists.report(s, relevance, present)


def list_lambda_labeldiff(score, relevance, present):
  r"""Logistic loss of all pairs, weighted by the difference of their grades.

  .. math:: \ell = \sum_{\psi_i > \psi_j} (\psi_i - \psi_j) \log(1 + e^{-(s_i - s_j)})

  With grades 1 and 0 it is the plain all-pairs loss.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`; larger is better; equal grades are no pair.
    present: f32[B, K], 0 for padded candidates, which are ignored.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = list_lambda_labeldiff(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.834700

  Reference: Jagerman et al., "Rax: Composable Learning-to-Rank Using JAX" (2022). Catalogue 1,
  section 5, golden rax_listwise.
  """
  _lists.check("list_lambda_labeldiff", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  weight = jnp.abs(_lists.ahead(_lists.known(present, relevance)))
  return _lists.logistic(s, relevance, present, weight), _lists.report(s, relevance, present)
