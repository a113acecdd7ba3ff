"""Listwise preference optimisation (LiPO): learning-to-rank losses on implicit rewards.

ListMLE is `pl_dpo`. The same losses on scores of a reward model, and more of them, are in
`list_pairs`, `list_softmax` and `list_lambda`.
"""

from __future__ import annotations

import jax.numpy as jnp

from jaxpref import call
from jaxpref.objectives import _lists


def lipo_lambda(logp, ref_logp, relevance, present, *, beta: float = 0.1):
  r"""LiPO-lambda: logistic loss of all pairs, weighted by what a swap costs in ranking quality.

  With implicit rewards `s = beta (logp - ref_logp)` and `tau` the place by `s`, largest first

  .. math::
    \ell = \sum_{\psi_i > \psi_j} |2^{\psi_i} - 2^{\psi_j}|
      \left| \frac{1}{\log(1+\tau_i)} - \frac{1}{\log(1+\tau_j)} \right|
      \log(1 + e^{-(s_i - s_j)})

  with the natural logarithm. No gradient flows through the weights. Of equal rewards, as where the
  policy equals the reference, the lower index has the better place.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    relevance: f32[B, K], grades `psi`, in [0, 1] in the paper; equal grades are no pair.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    beta: reward units per nat of log-ratio, > 0.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = lipo_lambda(jnp.asarray([[5.0, 1.0, -4.0]]), jnp.zeros((1, 3)),
    ...   jnp.asarray([[1.0, 0.5, 0.0]]), jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.443195

  Reference: Liu et al., "LiPO: Listwise Preference Optimization through Learning-to-Rank" (2024).
  Catalogue 1, section 5, `lipo_lambda`.
  """
  s = _scores("lipo_lambda", logp, ref_logp, relevance, present, beta)
  weight = _lists.gain_gaps(relevance, present) * _lists.discount_gaps(s, present)
  return _lists.logistic(s, relevance, present, weight), _lists.report(s, relevance, present)


def lipo_logistic(logp, ref_logp, relevance, present, *, beta: float = 0.1):
  r"""LiPO's pairwise logistic loss: DPO summed over all pairs of different grades.

  With implicit rewards `s = beta (logp - ref_logp)`

  .. math:: \ell = \sum_{\psi_i > \psi_j} \log(1 + e^{-(s_i - s_j)})

  With two responses it is DPO; a list of equal grades has loss 0. Lists with more pairs weigh more.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    relevance: f32[B, K], grades `psi`; larger is better; equal grades are no pair.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    beta: reward units per nat of log-ratio, > 0.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = lipo_logistic(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.asarray([[1.0, 0.0]]), jnp.ones((1, 2)))
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Liu et al., "LiPO: Listwise Preference Optimization through Learning-to-Rank" (2024).
  Catalogue 1, section 5, `lipo_lambda`.
  """
  s = _scores("lipo_logistic", logp, ref_logp, relevance, present, beta)
  return _lists.logistic(s, relevance, present), _lists.report(s, relevance, present)


def lipo_hinge(logp, ref_logp, relevance, present, *, beta: float = 0.1):
  r"""LiPO's pairwise hinge loss, summed over all pairs of different grades.

  With implicit rewards `s = beta (logp - ref_logp)`

  .. math:: \ell = \sum_{\psi_i > \psi_j} \max(0, 1 - (s_i - s_j))

  A pair apart by 1 or more has no gradient.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    relevance: f32[B, K], grades `psi`; larger is better; equal grades are no pair.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    beta: reward units per nat of log-ratio, > 0.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = lipo_hinge(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.asarray([[1.0, 0.0]]), jnp.ones((1, 2)))
    >>> print(f"{loss[0]:.2f}")
    0.85

  Reference: Liu et al., "LiPO: Listwise Preference Optimization through Learning-to-Rank" (2024).
  Catalogue 1, section 5, `lipo_lambda`.
  """
  s = _scores("lipo_hinge", logp, ref_logp, relevance, present, beta)
  loss = jnp.maximum(0.0, 1.0 + _lists.ahead(s))
  total = _lists.over(loss, _lists.better(relevance, present), "sum")
  return total, _lists.report(s, relevance, present)


def lipo_softmax(logp, ref_logp, relevance, present, *, beta: float = 0.1):
  r"""LiPO's softmax loss: grades times the log-softmax of the implicit rewards.

  With implicit rewards `s = beta (logp - ref_logp)`

  .. math:: \ell = -\sum_i \psi_i \log \mathrm{softmax}(s)_i

  Grades are not normalised, so a list of larger grades weighs more; grades of 0 only appear as
  rivals. `infonca` takes the softmax of the grades instead.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    relevance: f32[B, K], grades `psi`, at least 0.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    beta: reward units per nat of log-ratio, > 0.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = lipo_softmax(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.asarray([[1.0, 0.0]]), jnp.ones((1, 2)))
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Liu et al., "LiPO: Listwise Preference Optimization through Learning-to-Rank" (2024).
  Catalogue 1, section 5, `lipo_lambda`.
  """
  s = _scores("lipo_softmax", logp, ref_logp, relevance, present, beta)
  return _lists.cross_entropy(s, relevance, present), _lists.report(s, relevance, present)


def _scores(name, logp, ref_logp, relevance, present, beta):
  """Implicit rewards f32[B, K]; refuses what is not a list."""
  call.positive(name, beta=beta)
  _lists.check(name, logp=logp, ref_logp=ref_logp, relevance=relevance, present=present)
  return _lists.rewards(logp, ref_logp, present, beta)
