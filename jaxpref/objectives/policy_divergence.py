"""DPPO: the trust region is a divergence of probabilities instead of a ratio."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.objectives import ratio

TINY = 1e-30  # smallest probability whose log is taken


def dppo_tv(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 0.15,
  epsilon_high: float = 0.15,
  max_ratio: float = 20.0,
):
  r"""Divergence PPO, total variation: tokens stop where their probability has moved by epsilon.

  With `p` and `q` the token's probability now and when sampled, `rho = p / q` and `sg` a value
  without gradient

  .. math::
    \ell = -A\, \mathrm{sg}(\min(\rho, c)) \log \pi \cdot M, \qquad
    M = \begin{cases} [p - q \le e_{high}] & A > 0 \\ [p - q \ge -e_{low}] & \text{else}
    \end{cases}

  Rare tokens, whose ratio changes fast, are no longer clipped first. Tokens outside stay in the
  denominator. Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far a probability may fall, > 0.
    epsilon_high: how far it may rise, > 0.
    max_ratio: `c`, largest weight of a token, > 0.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean`, `kl/old` (`old - new`, nats), and 1
      outside the trust region: `ratio/clip_low`, `ratio/clip_high`, `ratio/clip`.

  Raises:
    Refused: a knob not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> logp, old = (jnp.log(jnp.asarray([[x]])) for x in ([0.5, 0.02], [0.3, 0.01]))
    >>> loss, _ = dppo_tv(logp, old, one, one)
    >>> print(f"{loss[0, 0, 0]:.6f} {loss[0, 0, 1]:.6f}")
    0.000000 7.824046

  Reference: "Rethinking the Trust Region in LLM Reinforcement Learning" (2026), arXiv 2602.04879.
  Catalogue 2, section 4, `dppo_tv`.
  """
  knobs = {"epsilon_low": epsilon_low, "epsilon_high": epsilon_high}
  call.positive("dppo_tv", **knobs, max_ratio=max_ratio)
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  moved = _probability(logp) - _probability(old)
  high = (advantage > 0) & (moved > epsilon_high)
  low = (advantage <= 0) & (moved < -epsilon_low)
  return _inside(logp, old, advantage, mask, low, high, max_ratio)


def dppo_kl(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 0.05,
  epsilon_high: float = 0.05,
  max_ratio: float = 20.0,
):
  r"""Divergence PPO, binary KL: tokens stop where the KL of token against rest exceeds epsilon.

  With `p` and `q` the token's probability now and when sampled, `rho = p / q` and `sg` a value
  without gradient

  .. math::
    \ell = -A\, \mathrm{sg}(\min(\rho, c)) \log \pi \cdot M, \qquad
    D = q \log\frac{q}{p} + (1-q) \log\frac{1-q}{1-p}

  M is 0 where `D > e_high`, A > 0 and p > q, or where `D > e_low`, A <= 0 and p < q, else 1:
  a token that moves back to where it was sampled always learns. Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: nats, bound for tokens that become less likely, > 0.
    epsilon_high: nats, bound for tokens that become more likely, > 0.
    max_ratio: `c`, largest weight of a token, > 0.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: those of `dppo_tv`.

  Raises:
    Refused: a knob not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> logp, old = (jnp.log(jnp.asarray([[x]])) for x in ([0.9, 0.02], [0.3, 0.01]))
    >>> loss, _ = dppo_kl(logp, old, one, one)
    >>> print(f"{loss[0, 0, 0]:.6f} {loss[0, 0, 1]:.6f}")
    0.000000 7.824046

  Reference: "Rethinking the Trust Region in LLM Reinforcement Learning" (2026), arXiv 2602.04879.
  Catalogue 2, section 4, `dppo_kl`.
  """
  knobs = {"epsilon_low": epsilon_low, "epsilon_high": epsilon_high}
  call.positive("dppo_kl", **knobs, max_ratio=max_ratio)
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  p, q = _probability(logp), _probability(old)
  rest = (1 - q) * (_log_rest(old) - _log_rest(logp))
  divergence = q * (jnp.minimum(old, 0.0) - jnp.minimum(jax.lax.stop_gradient(logp), 0.0)) + rest
  high = (advantage > 0) & (divergence > epsilon_high) & (p > q)
  low = (advantage <= 0) & (divergence > epsilon_low) & (p < q)
  return _inside(logp, old, advantage, mask, low, high, max_ratio)


def _probability(logp):
  """exp, at most 1, without gradient."""
  return jnp.exp(jnp.minimum(jax.lax.stop_gradient(logp), 0.0))


def _log_rest(logp):
  """Log-probability of all other tokens, without gradient; at least log 1e-30."""
  rest = -jnp.expm1(jnp.minimum(jax.lax.stop_gradient(logp), 0.0))
  return jnp.log(jnp.maximum(rest, TINY))


def _inside(logp, old, advantage, mask, low, high, max_ratio):
  """The weighted policy gradient on tokens inside the trust region, and metrics."""
  log_ratio = jax.lax.stop_gradient(ratio.bounded(logp - old))
  low, high = (ratio.finish(x.astype(jnp.float32), mask) for x in (low, high))
  weight = jnp.minimum(jnp.exp(log_ratio), max_ratio) * (1 - low - high)
  metrics = ratio.token_report(log_ratio) | {"ratio/clip": low + high}
  metrics |= {"ratio/clip_low": low, "ratio/clip_high": high}
  return ratio.finish(-weight * advantage * logp, mask), metrics
