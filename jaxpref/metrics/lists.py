"""How well scores rank a list of graded candidates: the metrics of information retrieval.

Places are those by score, largest first; of equal scores the lower index goes first. `top` cuts the
list there (0: the whole list) and is part of the metric's name: `ndcg@5`. Absent candidates take no
place. A candidate with a grade above 0 is relevant. Pairwise agreement is `order_accuracy`.
"""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxpref.numerics import before, places, safe_divide
from jaxpref.types import Refused


def dcg(score, relevance, present, *, top: int = 0):
  r"""Discounted cumulative gain of the order by score.

  .. math:: \sum_i \frac{2^{\psi_i} - 1}{\log_2(1 + \tau_i)}

  Args:
    score: f32[B, K], larger ranks first.
    relevance: f32[B, K], grades `psi`, at least 0.
    present: f32[B, K], 0 for padded candidates.
    top: places that count; 0 for all.

  Returns:
    `dcg` or `dcg@top`, f32[B].

  Example:
    >>> score, grades = jnp.asarray([[3.0, 2.0, 1.0]]), jnp.asarray([[0.0, 2.0, 1.0]])
    >>> print(f'{dcg(score, grades, jnp.ones((1, 3)))["dcg"][0]:.6f}')
    2.392789

  Reference: Jaervelin and Kekaelaeinen, "Cumulated gain-based evaluation of IR techniques" (2002),
  with the exponential gain of Burges et al. (2005). Catalogue 1, section 5.
  """
  gain, place, counted, suffix = _ranked("dcg", score, relevance, present, top)
  return {f"dcg{suffix}": _dcg(gain, place, counted)}


def ndcg(score, relevance, present, *, top: int = 0):
  r"""Discounted cumulative gain, divided by that of the best order.

  .. math:: \mathrm{DCG}(\text{score}) / \mathrm{DCG}(\text{relevance})

  It is 1 for the best order and 0 where no candidate has a gain.

  Args:
    score: f32[B, K], larger ranks first.
    relevance: f32[B, K], grades `psi`, at least 0.
    present: f32[B, K], 0 for padded candidates.
    top: places that count; 0 for all.

  Returns:
    `ndcg` or `ndcg@top`, f32[B].

  Example:
    >>> score, grades = jnp.asarray([[3.0, 2.0, 1.0]]), jnp.asarray([[0.0, 2.0, 1.0]])
    >>> print(f'{ndcg(score, grades, jnp.ones((1, 3)))["ndcg"][0]:.6f}')
    0.659002

  Reference: Jaervelin and Kekaelaeinen, "Cumulated gain-based evaluation of IR techniques" (2002).
  Catalogue 1, section 5; card irpo, section 3.
  """
  gain, place, counted, suffix = _ranked("ndcg", score, relevance, present, top)
  best, last = places(relevance, present), top or score.shape[1]
  ideal = _dcg(gain, best, (present > 0) & (best <= last))
  return {f"ndcg{suffix}": safe_divide(_dcg(gain, place, counted), ideal)}


def reciprocal_rank(score, relevance, present, *, top: int = 0):
  r"""One over the place of the first relevant candidate; its mean is MRR.

  .. math:: 1 / \min \{\tau_i : \psi_i > 0\}

  It is 0 where no relevant candidate is seen.

  Args:
    score: f32[B, K], larger ranks first.
    relevance: f32[B, K], above 0 is relevant.
    present: f32[B, K], 0 for padded candidates.
    top: places that count; 0 for all.

  Returns:
    `reciprocal_rank` or `reciprocal_rank@top`, f32[B].

  Example:
    >>> score, grades = jnp.asarray([[3.0, 2.0, 1.0]]), jnp.asarray([[0.0, 1.0, 1.0]])
    >>> print(reciprocal_rank(score, grades, jnp.ones((1, 3)))["reciprocal_rank"])
    [0.5]

  Reference: Voorhees, "The TREC-8 Question Answering Track Report" (1999). Catalogue 1, section 5.
  """
  _, place, counted, suffix = _ranked("reciprocal_rank", score, relevance, present, top)
  hit = jnp.where(counted & (relevance > 0), 1.0 / place, 0.0)
  return {f"reciprocal_rank{suffix}": hit.max(1)}


def average_precision(score, relevance, present, *, top: int = 0):
  r"""Mean over relevant candidates of the precision at their place; the mean of it is MAP.

  .. math:: \frac{1}{|R|} \sum_{i \in R} \frac{|\{j \in R : \tau_j \le \tau_i\}|}{\tau_i}

  `R` are all relevant candidates, beyond `top` too; 0 where there is none.

  Args:
    score: f32[B, K], larger ranks first.
    relevance: f32[B, K], above 0 is relevant.
    present: f32[B, K], 0 for padded candidates.
    top: places that count; 0 for all.

  Returns:
    `average_precision` or `average_precision@top`, f32[B].

  Example:
    >>> score, grades = jnp.asarray([[3.0, 2.0, 1.0]]), jnp.asarray([[1.0, 0.0, 1.0]])
    >>> found = average_precision(score, grades, jnp.ones((1, 3)))
    >>> print(f'{found["average_precision"][0]:.6f}')
    0.833333

  Reference: Manning et al., "Introduction to Information Retrieval" (2008), section 8.4. Catalogue
  1, section 5.
  """
  _, place, counted, suffix = _ranked("average_precision", score, relevance, present, top)
  good = ((present > 0) & (relevance > 0)).astype(jnp.float32)
  upto = good + (before(score, present) * good[:, :, None]).sum(1)
  total = jnp.where(counted, good * upto / place, 0.0).sum(1)
  return {f"average_precision{suffix}": safe_divide(total, good.sum(1))}


def recall(score, relevance, present, *, top: int = 1):
  r"""Share of the relevant candidates that stand among the first.

  .. math:: |\{i : \psi_i > 0, \tau_i \le \text{top}\}| / |\{i : \psi_i > 0\}|

  It is 0 where no candidate is relevant.

  Args:
    score: f32[B, K], larger ranks first.
    relevance: f32[B, K], above 0 is relevant.
    present: f32[B, K], 0 for padded candidates.
    top: places that count; 0 for all.

  Returns:
    `recall@top`, f32[B].

  Example:
    >>> score, grades = jnp.asarray([[3.0, 2.0, 1.0]]), jnp.asarray([[1.0, 0.0, 1.0]])
    >>> print(recall(score, grades, jnp.ones((1, 3)), top=2)["recall@2"])
    [0.5]

  Reference: Manning et al., "Introduction to Information Retrieval" (2008), section 8.3; card irpo,
  section 3.
  """
  _, _, counted, suffix = _ranked("recall", score, relevance, present, top)
  good = (present > 0) & (relevance > 0)
  return {f"recall{suffix}": safe_divide((good & counted).sum(1), good.sum(1))}


def mean_relevance(score, relevance, present, *, top: int = 1):
  r"""Mean grade of the first candidates.

  .. math:: \mathrm{mean} \{\psi_i : \tau_i \le \text{top}\}

  A list shorter than `top` is averaged over its candidates.

  Args:
    score: f32[B, K], larger ranks first.
    relevance: f32[B, K], grades.
    present: f32[B, K], 0 for padded candidates.
    top: places that count; 0 for all.

  Returns:
    `mean_relevance@top`, f32[B].

  Example:
    >>> score, grades = jnp.asarray([[3.0, 2.0, 1.0]]), jnp.asarray([[2.0, 0.0, 1.0]])
    >>> print(mean_relevance(score, grades, jnp.ones((1, 3)), top=2)["mean_relevance@2"])
    [1.]

  Reference: Wu et al., "In-context Ranking Preference Optimization" (2025); card irpo, section 3.
  """
  _, _, counted, suffix = _ranked("mean_relevance", score, relevance, present, top)
  total = jnp.where(counted, relevance, 0.0).sum(1)
  return {f"mean_relevance{suffix}": safe_divide(total, counted.sum(1))}


def _ranked(name, score, relevance, present, top):
  """Gains and places f32[B, K], which candidates count bool[B, K], and the name's suffix."""
  chex.assert_equal_shape([score, relevance, present])
  chex.assert_rank(score, 2)
  if not top >= 0:
    raise Refused(f"{name} needs top >= 0; it is {top}.")
  place = places(score, present)
  counted = (present > 0) & (place <= (top or score.shape[1]))
  gain = jnp.exp2(jnp.where(present > 0, relevance, 0.0)) - 1.0
  return gain, place, counted, f"@{top}" if top else ""


def _dcg(gain, place, counted):
  return jnp.where(counted, gain / jnp.log2(1.0 + place), 0.0).sum(1)
