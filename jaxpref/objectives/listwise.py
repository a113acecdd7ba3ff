"""Objectives on lists of responses: Plackett-Luce DPO and noise-contrastive alignment.

Candidates may stand in any order: `relevance` says which are better.
"""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.objectives import _lists


def pl_dpo(logp, ref_logp, relevance, present, *, beta: float = 0.1, top: int = 0):
  r"""Plackett-Luce DPO: the likelihood of a whole order of responses.

  With implicit rewards `r = beta (logp - ref_logp)`, numbered from the best to the worst

  .. math:: \ell = -\sum_{k=1}^{K-1} \Big[ r_k - \log \sum_{j \ge k} e^{r_j} \Big]

  With two responses it is DPO. Of equal grades the lower index counts as better, so break ties
  before. `top = n` keeps the first n terms: only the first n places are explained, the order of
  the rest is left open; `top = 1` is a softmax of the best against all.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    relevance: f32[B, K], grades or an order; larger is better.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    beta: reward units per nat of log-ratio, > 0.
    top: places that count; 0 for all.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, `beta` not above 0, or a negative `top`.

  Example:
    >>> loss, _ = pl_dpo(jnp.asarray([[5.0, 1.0, -4.0]]), jnp.zeros((1, 3)),
    ...   jnp.asarray([[3.0, 2.0, 1.0]]), jnp.ones((1, 3)))
    >>> print(f"{loss[0]:.6f}")
    1.204948

  Reference: Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a
  Reward Model" (2023), appendix A.3. Catalogue 1, section 5, `pl_dpo`.
  """
  call.positive("pl_dpo", beta=beta)
  _lists.at_least_zero("pl_dpo", top=top)
  _lists.check("pl_dpo", logp=logp, ref_logp=ref_logp, relevance=relevance, present=present)
  s = _lists.rewards(logp, ref_logp, present, beta)
  return _lists.plackett_luce(s, relevance, present, top), _lists.report(s, relevance, present)


def infonca(logp, ref_logp, relevance, present, *, beta: float = 0.01, temperature: float = 1.0):
  r"""InfoNCA: cross-entropy of the implicit rewards' softmax against that of the grades.

  With implicit rewards `r = beta (logp - ref_logp)`

  .. math::
    p = \mathrm{softmax}(\text{relevance} / \text{temperature}), \qquad
    \ell = -\sum_i p_i \log \mathrm{softmax}(r)_i

  With two responses and grades far apart it is DPO. Only differences of rewards count.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    relevance: f32[B, K], grades of people or of a reward model.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    beta: reward units per nat of log-ratio, > 0.
    temperature: grades per nat, > 0; smaller makes harder labels.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `beta` or `temperature` not above 0.

  Example:
    >>> loss, _ = infonca(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.asarray([[99.0, 0.0]]), jnp.ones((1, 2)), beta=0.1)
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Chen et al., "Noise Contrastive Alignment of Language Models with Explicit Rewards"
  (2024). Catalogue 1, section 5, `infonca` (its repository adds 0.01 to the first grade, which we
  do not).
  """
  s, label = _soft("infonca", logp, ref_logp, relevance, present, beta, temperature)
  return _lists.cross_entropy(s, label, present), _lists.report(s, relevance, present)


def nca(logp, ref_logp, relevance, present, *, beta: float = 0.01, temperature: float = 1.0):
  r"""NCA: lifts good responses and keeps every response from being lifted without bound.

  With implicit rewards `r = beta (logp - ref_logp)` and `p` the softmax of the grades

  .. math::
    \ell = -\sum_i p_i \log \sigma(r_i) - \frac{1}{K} \sum_i \log \sigma(-r_i)

  Rewards themselves count, not only their differences: unlike in `infonca` the likelihood of good
  responses does not fall. With two responses and grades far apart it is `nca_pair`.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    relevance: f32[B, K], grades of people or of a reward model.
    present: f32[B, K], 0 for padded candidates, which are ignored; K counts the others.
    beta: reward units per nat of log-ratio, > 0.
    temperature: grades per nat, > 0; smaller makes harder labels.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `beta` or `temperature` not above 0.

  Example:
    >>> loss, _ = nca(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.asarray([[99.0, 0.0]]), jnp.ones((1, 2)), beta=0.1)
    >>> print(f"{loss[0]:.6f}")
    1.350825

  Reference: Chen et al., "Noise Contrastive Alignment of Language Models with Explicit Rewards"
  (2024). Catalogue 1, section 5, `nca` (its repository adds 0.01 to the first grade, which we do
  not).
  """
  s, label = _soft("nca", logp, ref_logp, relevance, present, beta, temperature)
  lifted = (label * jax.nn.softplus(-s)).sum(1)
  held = _lists.masked_mean(jax.nn.softplus(s), present, 1)
  return lifted + held, _lists.report(s, relevance, present)


def _soft(name, logp, ref_logp, relevance, present, beta, temperature):
  """Implicit rewards and the softmax of the grades, f32[B, K] each."""
  call.positive(name, beta=beta, temperature=temperature)
  _lists.check(name, logp=logp, ref_logp=ref_logp, relevance=relevance, present=present)
  s = _lists.rewards(logp, ref_logp, present, beta)
  return s, _lists.shares(relevance / temperature, present)
