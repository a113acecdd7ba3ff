"""RankList: between comparisons of neighbours and of whole lists, on scores.

No code and no full text of the paper could be had: the formulas are a reconstruction from its
abstract (card ranklist), with its parts as knobs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref.numerics import before, masked_mean, places
from jaxpref.objectives import _lists

FAR = ("lse", "pairs")


def ranklist(
  score,
  relevance,
  present,
  *,
  far: str = "lse",
  far_weight: float = 1.0,
  skip: int = 0,
  margin: float = 0.0,
):
  r"""RankList: local comparisons of neighbours plus non-local ones of everything farther down.

  With candidates numbered from the best to the worst grade

  .. math::
    \ell = \sum_i \log(1 + e^{s_{i+1} - s_i})
      + \lambda \sum_i \log\Big(1 + \sum_{j \ge i+2} e^{s_j - s_i}\Big)

  where `far="pairs"` takes one term `log(1 + exp(s_j - s_i))` per pair instead of the second sum;
  then `far_weight = 1` is the loss of all pairs, and `far_weight = 0` is neighbours only. With two
  candidates it is RankNet. Reconstructed; the paper's own approximation may differ. The
  log-sum-exp over all `j > i`, neighbours included, is `plackett_luce`.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades; larger is better; a pair of equal grades has no term.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    far: `"lse"`, or `"pairs"`: how candidates two or more places apart are compared.
    far_weight: `lambda`, at least 0.
    skip: largest distance of places that is compared; 0 for all. Raise it over training.
    margin: smallest difference of grades that is compared (the paper's W).

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, an unknown `far`, or another knob below 0.

  Example:
    >>> loss, _ = ranklist(jnp.asarray([[2.0, 1.0, 0.0]]), jnp.asarray([[3.0, 2.0, 1.0]]),
    ...   jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.753451

  Reference: Naini, Diaz and Busso, "RankList: A Listwise Preference Learning Framework for
  Predicting Subjective Preferences" (2025); card ranklist, equations 2 to 4.
  """
  _lists.choice("ranklist", "far", far, FAR)
  _lists.at_least_zero("ranklist", far_weight=far_weight, skip=skip, margin=margin)
  _lists.check("ranklist", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  apart, compared = _compared(relevance, present, margin)
  compared &= (apart <= skip) | (skip == 0)
  each = jax.nn.softplus(_lists.ahead(s))
  near, rest = compared & (apart == 1), compared & (apart > 1)
  local = _lists.over(each, near, "sum")
  if far == "pairs":
    beyond = _lists.over(each, rest, "sum")
  else:
    beyond = _lists.losing(_lists.ahead(s), rest).sum(1)
  return local + far_weight * beyond, _lists.report(s, relevance, present)


def ranklist_skip(score, relevance, present, *, skip: int = 1, margin: float = 0.0):
  r"""RankList's skip-wise comparisons: the mean loss of each distance up to a largest one.

  With candidates numbered from the best to the worst grade

  .. math:: \ell = \sum_{k=1}^{\text{skip}} \mathrm{mean}_i \log(1 + e^{s_{i+k} - s_i})

  Every distance weighs the same, however many pairs it has. `skip` is to grow over training, from
  neighbours to the whole list. Reconstructed.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades; larger is better; a pair of equal grades has no term.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    skip: largest distance of places that is compared; 0 for all.
    margin: smallest difference of grades that is compared (the paper's W).

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or a knob below 0.

  Example:
    >>> loss, _ = ranklist_skip(jnp.asarray([[2.0, 1.0, 0.0]]), jnp.asarray([[3.0, 2.0, 1.0]]),
    ...   jnp.ones((1, 3)), skip=2)
    >>> print(f"{loss[0]:.6f}")
    0.440190

  Reference: Naini, Diaz and Busso, "RankList: A Listwise Preference Learning Framework for
  Predicting Subjective Preferences" (2025); card ranklist, equation 5.
  """
  _lists.at_least_zero("ranklist_skip", skip=skip, margin=margin)
  _lists.check("ranklist_skip", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  apart, compared = _compared(relevance, present, margin)
  each = jax.nn.softplus(_lists.ahead(s))
  most = score.shape[1] - 1
  steps = range(1, (min(skip, most) if skip else most) + 1)
  means = [masked_mean(each, (compared & (apart == k)).astype(jnp.float32), (1, 2)) for k in steps]
  return sum(means), _lists.report(s, relevance, present)


def _compared(relevance, present, margin):
  """How many places the rival is below, f32[B, K, K], and which pairs are compared."""
  grade = _lists.known(present, relevance)
  gap = -_lists.ahead(grade)
  allowed = before(grade, present) & (gap > 0) & (gap >= margin)
  return _lists.ahead(places(grade, present)), allowed
