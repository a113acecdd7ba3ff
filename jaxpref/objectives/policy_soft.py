"""Policy losses without a hard clip: a soft gate, or a square of the log-ratio."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.objectives import ratio


def sapo(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  temperature_pos: float = 1.0,
  temperature_neg: float = 1.05,
):
  r"""Soft adaptive policy optimisation: a sigmoid gate in place of the clip.

  With `rho = exp(token_logp - old_token_logp)` and `t` the temperature of the advantage's sign

  .. math:: \ell = -A\, \frac{4}{t}\, \sigma(t (\rho - 1))

  At ratio 1 its gradient is that of `ppo_clip`; away from it the gradient fades on both sides and
  never quite ends. The loss's value there is `-2 A / t`, not `-A`. A larger temperature fades
  faster. Published reduction: `sequence`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    temperature_pos: where the advantage is above 0, > 0.
    temperature_neg: where it is not, > 0.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean` and `kl/old` (`old - new`, nats).

  Raises:
    Refused: a temperature not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> loss, _ = sapo(-one, jnp.asarray([[[-1.0, -2.0]]]), one, one)
    >>> print(f"{loss[0, 0, 0]:.6f} {loss[0, 0, 1]:.6f}")
    -2.000000 -3.391629

  Reference: Gao et al., "Soft Adaptive Policy Optimization" (2025), arXiv 2511.20347. Catalogue
  2, section 4, `sapo`.
  """
  call.positive("sapo", temperature_pos=temperature_pos, temperature_neg=temperature_neg)
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  log_ratio = ratio.bounded(logp - old)
  t = jnp.where(advantage > 0, temperature_pos, temperature_neg)
  loss = -advantage * (4.0 / t) * jax.nn.sigmoid(t * (jnp.exp(log_ratio) - 1.0))
  return ratio.finish(loss, mask), ratio.token_report(log_ratio)


def dro(token_logp, old_token_logp, advantage, mask, *, beta: float = 0.1):
  r"""Direct reward optimisation, per token: REINFORCE and a square that pulls to the old policy.

  With `d = token_logp - old_token_logp`

  .. math:: \ell = -\big(A \log \pi - \tfrac{\beta}{2} d^2\big)

  It is smallest at `d = A / beta`: no sampling correction is needed. Published reduction: `token`;
  `beta` has no published default.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    beta: reward units per nat, > 0; larger stays nearer to the old policy.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean` and `kl/old` (`old - new`, nats).

  Raises:
    Refused: `beta` not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 1))
    >>> print(dro(-one, -3 * one, one, one, beta=0.5)[0])
    [[[2.]]]

  Reference: Richemond et al., "Offline Regularised Reinforcement Learning for Large Language
  Models Alignment" (2024). Catalogue 2, section 4, `dro`.
  """
  call.positive("dro", beta=beta)
  return _squared(token_logp, old_token_logp, advantage, mask, beta)


def _squared(token_logp, old_token_logp, advantage, mask, strength):
  """`-A log pi + strength / 2 * (log-ratio)^2` and its metrics."""
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  d = logp - old
  loss = -advantage * logp + 0.5 * strength * jnp.square(d)
  return ratio.finish(loss, mask), ratio.report(d, ratio.bounded(d))


def kimi15(token_logp, old_token_logp, advantage, mask, *, tau: float = 0.1):
  r"""Kimi k1.5's policy loss: REINFORCE and a square of the log-ratio.

  With `d = token_logp - old_token_logp`

  .. math:: \ell = -A \log \pi + \tfrac{\tau}{2} d^2

  Per token it is `dro` under another name. Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    tau: reward units per nat, > 0; larger stays nearer to the old policy.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean` and `kl/old` (`old - new`, nats).

  Raises:
    Refused: `tau` not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 1))
    >>> print(kimi15(-one, -3 * one, one, one, tau=0.5)[0])
    [[[2.]]]

  Reference: Kimi Team, "Kimi k1.5: Scaling Reinforcement Learning with LLMs" (2025), section 2.3.2.
  Catalogue 2, section 4, `kimi15`.
  """
  call.positive("kimi15", tau=tau)
  return _squared(token_logp, old_token_logp, advantage, mask, tau)
