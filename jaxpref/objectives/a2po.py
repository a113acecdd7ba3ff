"""A*-PO: regression of the policy's log-ratio on the advantage over an optimal value."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import masked_logsumexp
from jaxpref.objectives import _lists


def a2po(logp, ref_logp, reward, baseline, *, beta: float = 1e-3):
  r"""A*-PO: squared error between log-ratio and advantage, for samples of the policy.

  With reward `r` and `V = baseline`, the value of the prompt, prepared from samples of the
  reference (`optimal_value`)

  .. math:: \ell = (\beta (\log \pi(y) - \log \pi_0(y)) - (r - V))^2

  It is 0 at the optimum of the KL-regularised problem, for every response: no clipping, no group
  of samples per prompt is needed.

  Args:
    logp: f32[B, K], summed log-probability under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    reward: f32[B, K], reward of the response.
    baseline: f32[B], optimal value of the prompt, reward units; no gradient flows.
    beta: reward units per nat of log-ratio, > 0 (the paper's beta_2).

  Returns:
    loss: f32[B, K], one value per response, not reduced.
    metrics: `a2po/advantage` f32[B, K], `r - V`; `rewards/mean` f32[B, K], the implicit reward
      `beta * (logp - ref_logp)`.

  Raises:
    Refused: `beta` not above 0.

  Example:
    >>> loss, _ = a2po(jnp.asarray([[-10.0]]), jnp.asarray([[-11.0]]), jnp.ones((1, 1)),
    ...   jnp.asarray([0.5]), beta=0.1)
    >>> print(f"{loss[0, 0]:.2f}")
    0.16

  Reference: Brantley et al., "Accelerating RL for LLM Reasoning with Optimal Advantage Regression"
  (2025). Catalogue 1, section 6, `a2po`.
  """
  call.positive("a2po", beta=beta)
  chex.assert_equal_shape([logp, ref_logp, reward])
  chex.assert_shape(baseline, logp.shape[:1])
  implicit = beta * (logp - jax.lax.stop_gradient(ref_logp))
  return _regression(implicit, reward - jax.lax.stop_gradient(baseline)[:, None])


def a2po_offline(logp, ref_logp, reward, present, *, beta: float = 1e-3, value_beta: float = 0.5):
  r"""A*-PO on the reference's own samples: the value comes from the list of the situation.

  The K candidates were sampled from the reference; with `N` of them present

  .. math::
    V = \beta_1 \left(\log \sum_i e^{r_i / \beta_1} - \log N\right), \qquad
    \ell_i = (\beta (\log \pi(y_i) - \log \pi_0(y_i)) - (r_i - V))^2

  The optimum is that of `a2po`, without sampling from the policy. Absent candidates have loss 0
  and do not enter the value.

  Args:
    logp: f32[B, K], summed log-probability under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    reward: f32[B, K], reward of each sample.
    present: f32[B, K], 0 for padded candidates.
    beta: reward units per nat of log-ratio, > 0 (the paper's beta_2).
    value_beta: temperature of the value, reward units, > 0 (the paper's beta_1).

  Returns:
    loss: f32[B, K], one value per response, not reduced.
    metrics: `a2po/advantage` f32[B, K], `r - V`; `rewards/mean` f32[B, K], the implicit reward.

  Raises:
    Refused: fewer than two candidates, or `beta` or `value_beta` not above 0.

  Example:
    >>> loss, metrics = a2po_offline(jnp.zeros((1, 2)), jnp.zeros((1, 2)),
    ...   jnp.asarray([[1.0, 0.0]]), jnp.ones((1, 2)))
    >>> print(f"{metrics['a2po/advantage'][0, 0]:.6f}")
    0.283110

  Reference: Brantley et al., "Accelerating RL for LLM Reasoning with Optimal Advantage Regression"
  (2025). Catalogue 1, section 6, `a2po`.
  """
  call.positive("a2po_offline", beta=beta, value_beta=value_beta)
  _lists.check("a2po_offline", logp=logp, ref_logp=ref_logp, reward=reward, present=present)
  value = optimal_value(reward, present, beta=value_beta)
  implicit = _lists.rewards(logp, ref_logp, present, beta)
  return _regression(implicit, _lists.known(present, reward - value[:, None]))


def optimal_value(reward, present, *, beta: float = 0.5):
  r"""Value of a prompt under the optimal policy, from rewards of the reference's samples.

  .. math:: V = \beta \left(\log \sum_i e^{r_i / \beta} - \log N\right)

  It lies between the mean and the maximum of the rewards: `beta` to infinity gives the mean,
  `beta` to 0 the maximum. Without samples it is 0.

  Args:
    reward: f32[B, K], rewards of samples of the reference.
    present: f32[B, K], 0 for padded candidates.
    beta: temperature, reward units, > 0.

  Returns:
    f32[B], reward units.

  Example:
    >>> print(f"{optimal_value(jnp.asarray([[1.0, 0.0]]), jnp.ones((1, 2)))[0]:.6f}")
    0.716890

  Reference: Brantley et al., "Accelerating RL for LLM Reasoning with Optimal Advantage Regression"
  (2025). Catalogue 1, section 6, `a2po`.
  """
  call.positive("optimal_value", beta=beta)
  count = (present > 0).sum(1)
  return beta * (masked_logsumexp(reward / beta, present) - jnp.log(jnp.maximum(count, 1)))


def _regression(implicit, advantage):
  """Squared error and metrics."""
  metrics = {"a2po/advantage": advantage, "rewards/mean": implicit}
  return (implicit - advantage) ** 2, jax.lax.stop_gradient(metrics)
