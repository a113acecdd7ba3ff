"""Losses of ranking models that compare a candidate with the rest of its list, on scores."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import places, safe_divide
from jaxpref.objectives import _lists


def plackett_luce(score, relevance, present, *, top: int = 0):
  r"""Plackett-Luce (ListMLE): the likelihood of a whole order of candidates under their scores.

  With scores `r` numbered from the best to the worst candidate

  .. math:: \ell = -\sum_{k=1}^{K-1} \Big[ r_k - \log \sum_{j \ge k} e^{r_j} \Big]

  With two candidates it is `bradley_terry`. A constant added to all scores changes nothing. Of
  equal grades the lower index counts as better. `rm_all_pairs` is the form of InstructGPT.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades or an order; larger is better.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    top: places that count; 0 for all.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or a negative `top`.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[3.0, 2.0, 1.0]])
    >>> loss, _ = plackett_luce(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    1.204948

  Reference: Plackett, "The Analysis of Permutations" (1975); Xia et al., "Listwise Approach to
  Learning to Rank" (2008). Catalogue 1, section 7, `rm_pl`.
  """
  _lists.at_least_zero("plackett_luce", top=top)
  _lists.check("plackett_luce", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  return _lists.plackett_luce(s, relevance, present, top), _lists.report(s, relevance, present)


def list_net(score, relevance, present, *, temperature: float = 1.0):
  r"""ListNet: cross-entropy between the softmax of the grades and that of the scores.

  .. math::
    \ell = -\sum_i p_i \log \mathrm{softmax}(s)_i, \qquad
    p = \mathrm{softmax}(\text{relevance} / \text{temperature})

  It is smallest where scores are the grades over the temperature, plus a constant.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades; larger is better.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    temperature: grades per nat, > 0; smaller makes harder labels.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `temperature` not above 0.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = list_net(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    1.021441

  Reference: Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach" (2007);
  card ranklist, equation 7.
  """
  call.positive("list_net", temperature=temperature)
  _lists.check("list_net", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  label = _lists.shares(relevance / temperature, present)
  return _lists.cross_entropy(s, label, present), _lists.report(s, relevance, present)


def list_softmax(score, relevance, present):
  r"""Softmax loss: grades times the log-softmax of the scores.

  .. math:: \ell = -\sum_i \psi_i \log \mathrm{softmax}(s)_i

  Grades are not normalised: a list of larger grades weighs more, one of zeros has loss 0.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`, at least 0.
    present: f32[B, K], 0 for padded candidates, which are ignored.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = list_softmax(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    1.296307

  Reference: Bruch et al., "An Analysis of the Softmax Cost Function for Learning to Rank"
  (2019). Catalogue 1, section 5, golden rax_listwise.
  """
  _lists.check("list_softmax", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  return _lists.cross_entropy(s, relevance, present), _lists.report(s, relevance, present)


def list_unique_softmax(score, relevance, present):
  r"""Unique softmax: every candidate against the worse ones only, weighted by its gain.

  .. math::
    \ell = \sum_i (2^{\psi_i} - 1) \log\Big(1 + \sum_{\psi_j < \psi_i} e^{s_j - s_i}\Big)

  Candidates of equal grades do not compete. A candidate without worse ones has no term.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`, at least 0.
    present: f32[B, K], 0 for padded candidates, which are ignored.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = list_unique_softmax(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.927241

  Reference: Zhu and Klabjan, "Listwise Learning to Rank by Exploring Unique Ratings" (2020).
  Catalogue 1, section 5, golden rax_listwise.
  """
  _lists.check("list_unique_softmax", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  lost = _lists.losing(_lists.ahead(s), _lists.better(relevance, present))
  return (_lists.gains(relevance, present) * lost).sum(1), _lists.report(s, relevance, present)


def approx_ndcg(score, relevance, present, *, temperature: float = 1.0):
  r"""ApproxNDCG: minus the normalised discounted cumulative gain, with smooth places.

  .. math::
    \tau_i = 1 + \sum_{j \ne i} \sigma\big((s_j - s_i) / \text{temperature}\big), \qquad
    \ell = -\frac{1}{Z} \sum_i \frac{2^{\psi_i} - 1}{\log_2(1 + \tau_i)}

  with `Z` the sum in the best order. It lies between -1 and 0 and is 0 where no candidate has a
  gain. As the temperature falls it tends to minus NDCG.

  Args:
    score: f32[B, K], score of each candidate, reward units.
    relevance: f32[B, K], grades `psi`, at least 0.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    temperature: score difference at which a place counts as half gained, > 0.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `temperature` not above 0.

  Example:
    >>> score, grades = jnp.asarray([[0.5, 0.1, -0.4]]), jnp.asarray([[1.0, 0.5, 0.0]])
    >>> loss, _ = approx_ndcg(score, grades, jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    -0.763968

  Reference: Qin et al., "A General Approximation Framework for Direct Optimization of
  Information Retrieval Measures" (2010); card ranklist, equation 7.
  """
  call.positive("approx_ndcg", temperature=temperature)
  _lists.check("approx_ndcg", score=score, relevance=relevance, present=present)
  s = _lists.known(present, score)
  near = jax.nn.sigmoid(_lists.ahead(s) / temperature)
  place = 1.0 + jnp.where(_lists.others(present), near, 0.0).sum(2)
  gain = _lists.gains(relevance, present)
  best = (gain / jnp.log2(1.0 + places(relevance, present))).sum(1)
  loss = -safe_divide((gain / jnp.log2(1.0 + place)).sum(1), best)
  return loss, _lists.report(s, relevance, present)
