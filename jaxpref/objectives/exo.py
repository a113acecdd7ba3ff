"""Efficient exact optimisation on lists, and its forward counterpart DPO-rw."""

from __future__ import annotations

import jax.numpy as jnp

from jaxpref import call
from jaxpref.objectives import _lists


def exo(logp, ref_logp, relevance, present, *, beta: float = 0.1, temperature: float = 1.0):
  r"""Efficient exact optimisation: reverse KL divergence from the policy's shares to the grades'.

  With implicit rewards `r = beta (logp - ref_logp)`

  .. math::
    q = \mathrm{softmax}(r), \qquad p = \mathrm{softmax}(\text{relevance} / \text{temperature}),
    \qquad \ell = \sum_i q_i (\log q_i - \log p_i)

  It is 0 where both agree. Being mode-seeking it prefers to leave good responses out over lifting
  bad ones; `dpo_rw` is the forward direction. With two responses and grades `(log(1-e), log(e))`
  it is `exo_pair`.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    relevance: f32[B, K], grades of people or of a reward model.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    beta: reward units per nat of log-ratio, > 0 (the paper's beta_pi).
    temperature: grades per nat, > 0 (the paper's beta_r).

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `beta` or `temperature` not above 0.

  Example:
    >>> loss, _ = exo(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.log(jnp.asarray([[0.999, 0.001]])), jnp.ones((1, 2)))
    >>> print(f"{loss[0]:.4f}")
    2.5055

  Reference: Ji et al., "Towards Efficient Exact Optimization of Language Model Alignment" (2024),
  eq. 16. Catalogue 1, section 5, `exo`.
  """
  s, grade = _both("exo", logp, ref_logp, relevance, present, beta, temperature)
  own = _lists.log_shares(s, present)
  loss = (_lists.known(present, jnp.exp(own)) * (own - _lists.log_shares(grade, present))).sum(1)
  return loss, _lists.report(s, relevance, present)


def dpo_rw(logp, ref_logp, relevance, present, *, beta: float = 0.1, temperature: float = 1.0):
  r"""DPO on grades: forward cross-entropy between the grades' and the policy's shares.

  With implicit rewards `r = beta (logp - ref_logp)`

  .. math::
    \ell = -\sum_i p_i \log \mathrm{softmax}(r)_i, \qquad
    p = \mathrm{softmax}(\text{relevance} / \text{temperature})

  It is the baseline that `exo` was compared with, and the formula of `infonca` with another
  default for `beta`. With two responses and grades far apart it is DPO.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    relevance: f32[B, K], grades of people or of a reward model.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    beta: reward units per nat of log-ratio, > 0.
    temperature: grades per nat, > 0.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B]; the latter two are means over pairs of different grades.

  Raises:
    Refused: fewer than two candidates, or `beta` or `temperature` not above 0.

  Example:
    >>> loss, _ = dpo_rw(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.asarray([[99.0, 0.0]]), jnp.ones((1, 2)))
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Ji et al., "Towards Efficient Exact Optimization of Language Model Alignment" (2024).
  Catalogue 1, section 5, `dpo-rw`.
  """
  s, grade = _both("dpo_rw", logp, ref_logp, relevance, present, beta, temperature)
  loss = _lists.cross_entropy(s, _lists.shares(grade, present), present)
  return loss, _lists.report(s, relevance, present)


def _both(name, logp, ref_logp, relevance, present, beta, temperature):
  """Implicit rewards and grades in nats, f32[B, K] each."""
  call.positive(name, beta=beta, temperature=temperature)
  _lists.check(name, logp=logp, ref_logp=ref_logp, relevance=relevance, present=present)
  return _lists.rewards(logp, ref_logp, present, beta), relevance / temperature
