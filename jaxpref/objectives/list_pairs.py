"""Losses of ranking models over all pairs of a list, on scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref.objectives import _lists


def rm_all_pairs(score, relevance, present, *, pairs: str = "mean"):
  r"""Bradley-Terry over all pairs of a list, the form of InstructGPT.

  .. math::
    \ell = \frac{1}{|P|} \sum_{(i, j) \in P} \log(1 + e^{-(s_i - s_j)}), \quad
    P = \{(i, j): \psi_i > \psi_j\}

  With a full order of K candidates there are K(K-1)/2 pairs, so lists of all sizes weigh the
  same. With two candidates it is `bradley_terry`. `pairs="sum"` is the all-pairs logistic loss
  (RankNet) of learning to rank. A list of equal grades has loss 0.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`; larger is better; equal grades are no pair.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    pairs: `"mean"` over the pairs of a list, or their `"sum"`.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or an unknown word for `pairs`.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = rm_all_pairs(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.442749

  Reference: Ouyang et al., "Training language models to follow instructions with human feedback"
  (2022), eq. 1; Burges et al., "Learning to Rank using Gradient Descent" (2005). Catalogue 1,
  section 7, `rm_pl`.
  """
  _lists.choice("rm_all_pairs", "pairs", pairs, _lists.PAIRS)
  _lists.check("rm_all_pairs", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  return _lists.logistic(s, relevance, present, how=pairs), _lists.report(s, relevance, present)


def list_hinge(score, relevance, present, *, pairs: str = "sum"):
  r"""Pairwise hinge loss over all pairs of different grades.

  .. math:: \ell = \sum_{\psi_i > \psi_j} \max(0, 1 - (s_i - s_j))

  A pair apart by 1 or more has no gradient.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`; larger is better; equal grades are no pair.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    pairs: `"mean"` over the pairs of a list, or their `"sum"`.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or an unknown word for `pairs`.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = list_hinge(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    1.200000

  Reference: Joachims, "Optimizing Search Engines using Clickthrough Data" (2002). Catalogue 1,
  section 5, golden rax_listwise.
  """
  _lists.choice("list_hinge", "pairs", pairs, _lists.PAIRS)
  _lists.check("list_hinge", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  loss = jnp.maximum(0.0, 1.0 + _lists.ahead(s))
  loss = _lists.over(loss, _lists.better(relevance, present), pairs)
  return loss, _lists.report(s, relevance, present)


def list_zero_one(score, relevance, present, *, pairs: str = "sum"):
  r"""Soft zero-one loss: how many pairs stand in the wrong order, made smooth.

  .. math:: \ell = \sum_{\psi_i > \psi_j} \sigma(-(s_i - s_j))

  It is half the number of pairs at equal scores and bounded: a pair far in the wrong order gives
  no gradient either, so outliers do not dominate.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`; larger is better; equal grades are no pair.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    pairs: `"mean"` over the pairs of a list, or their `"sum"`.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or an unknown word for `pairs`.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = list_zero_one(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    1.067904

  Reference: Jagerman et al., "Rax: Composable Learning-to-Rank Using JAX" (2022). Catalogue 1,
  section 5, golden rax_listwise.
  """
  _lists.choice("list_zero_one", "pairs", pairs, _lists.PAIRS)
  _lists.check("list_zero_one", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  loss = jax.nn.sigmoid(_lists.ahead(s))
  loss = _lists.over(loss, _lists.better(relevance, present), pairs)
  return loss, _lists.report(s, relevance, present)


def list_mse(score, relevance, present, *, pairs: str = "sum"):
  r"""Pairwise squared error: score differences should be the differences of the grades.

  .. math:: \ell = \sum_{i, j} \big((s_i - s_j) - (\psi_i - \psi_j)\big)^2

  over all ordered pairs of present candidates, equal grades too. `"mean"` divides by the
  square of their number, so the pairs of a candidate with itself count. It is 0 where scores are
  grades plus a constant.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`, in the units of the score.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    pairs: `"mean"` over the pairs of a list, or their `"sum"`.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or an unknown word for `pairs`.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = list_mse(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.040000

  Reference: Jagerman et al., "Rax: Composable Learning-to-Rank Using JAX" (2022). Catalogue 1,
  section 5, golden rax_listwise.
  """
  _lists.choice("list_mse", "pairs", pairs, _lists.PAIRS)
  _lists.check("list_mse", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  there = present > 0
  gap = _lists.ahead(s) - _lists.ahead(_lists.known(present, relevance))
  loss = _lists.over(gap**2, there[:, :, None] & there[:, None, :], pairs)
  return loss, _lists.report(s, relevance, present)
