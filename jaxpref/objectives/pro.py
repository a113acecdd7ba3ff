"""Preference ranking optimisation: every response against all that are worse, without reference."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref.numerics import average_logp, before
from jaxpref.objectives import _lists


def pro(logp, length, relevance, present, *, sft_weight: float = 0.05):
  r"""Preference ranking optimisation: contrasts whose temperatures are differences of grades.

  With `p = logp / length`, candidates numbered from the best to the worst grade `g`,
  `T_kj = g_k - g_j` and `t_k = max_j T_kj`

  .. math::
    \ell = \sum_{k=1}^{K-1} \Big[ \log\Big( e^{p_k t_k} + \sum_{j>k} e^{p_j T_{kj}} \Big)
      - p_k t_k \Big] - \text{sft\_weight}\,(K-1)^2 \log \pi(y_1)

  Scale the grades: their differences multiply log-probabilities. Candidates of equal grades do not
  order each other, but each still counts as a rival of temperature 0 for the earlier one. The last
  term sums the log-probability of the best response, as the authors' code does, while `p`
  averages. Their `1e-10` inside the logarithm is not needed here.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    length: f32[B, K], response tokens that count.
    relevance: f32[B, K], grades; larger is better; of equal ones the lower index goes first.
    present: f32[B, K], 0 for padded candidates, which are ignored; K counts the others.
    sft_weight: weight of the likelihood of the best response, at least 0.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B], with `p`, nats per token, as reward; `nll` f32[B], minus the summed log-probability
      of the best response, nats.

  Raises:
    Refused: fewer than two candidates, or a negative `sft_weight`.

  Example:
    >>> one = jnp.ones((1, 2))
    >>> loss, _ = pro(jnp.asarray([[-1.0, -2.0]]), one, jnp.asarray([[1.0, 0.0]]), one)
    >>> print(f"{loss[0]:.6f}")
    0.363262

  Reference: Song et al., "Preference Ranking Optimization for Human Alignment" (2023). Catalogue 1,
  section 5, `pro`; default of `sft_weight` from the authors' scripts.
  """
  _lists.at_least_zero("pro", sft_weight=sft_weight)
  _lists.check("pro", logp=logp, length=length, relevance=relevance, present=present)
  logp, length, grade = (_lists.known(present, x) for x in (logp, length, relevance))
  p = average_logp(logp, length)
  worse = before(grade, present)
  gap = jnp.where(worse, -_lists.ahead(grade), 0.0)
  lead = p[:, None, :] * gap - (p * gap.max(2))[:, :, None]
  best = (present > 0) & (worse.sum(1) == 0)
  nll = -jnp.where(best, logp, 0.0).sum(1)
  rivals = jnp.maximum(present.sum(1) - 1.0, 0.0)
  loss = _lists.losing(lead, worse).sum(1) + sft_weight * rivals**2 * nll
  return loss, _lists.report(p, relevance, present) | {"nll": jax.lax.stop_gradient(nll)}
