"""REINFORCE and its off-policy forms: a weight without gradient times `-A log pi`."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.objectives import ratio
from jaxpref.types import Refused

SMALLEST = math.log(1e-8)  # nats; VESPO's smallest log-weight


def reinforce(token_logp, advantage, mask):
  r"""REINFORCE, the policy gradient without a ratio; also the loss of GPG.

  .. math:: \ell = -A \log \pi(y_t \mid x, y_{<t})

  Its gradient is the policy gradient only on the batch's first step. On that step every clipped
  loss has the same gradient. Published reductions: `sequence_sum` (REINFORCE), `token` (GPG).

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: `logps/token_mean` f32[B, K, T], nats.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> loss, _ = reinforce(jnp.asarray([[[-0.5, -2.0]]]), 2 * one, one)
    >>> print(loss)
    [[[1. 4.]]]

  Reference: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist
  Reinforcement Learning" (1992); Chu et al., "GPG: A Simple and Strong Reinforcement Learning
  Baseline for Model Reasoning" (2025). Catalogue 2, section 4, `gpg`/`reinforce`.
  """
  logp, advantage = ratio.counted(mask, token_logp, advantage)
  return ratio.finish(-advantage * logp, mask), {"logps/token_mean": jax.lax.stop_gradient(logp)}


def cispo(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  cap_low: float = 0.0,
  cap_high: float = 5.0,
):
  r"""CISPO: the ratio is clipped and then only a weight, so every token keeps its gradient.

  With `rho = exp(token_logp - old_token_logp)` and `sg` a value without gradient

  .. math:: \ell = -\mathrm{sg}(\mathrm{clip}(\rho, c_{low}, c_{high}))\, A \log \pi

  The caps are the ratios themselves, not distances from 1: libraries that clip at
  `[1 - e_low, 1 + e_high]` have caps `1 - e_low` and `1 + e_high`. The published method has no
  lower cap. Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    cap_low: smallest weight; 0 or below for none.
    cap_high: largest weight, > `cap_low`.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean`, `kl/old` (`old - new`, nats),
      `ratio/clip`, 1 where a cap acts, and `ratio/clip_low`, `ratio/clip_high`,
      where it acts on the side that the advantage pushes to.

  Raises:
    Refused: `cap_high` not above `cap_low`.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> loss, _ = cispo(jnp.asarray([[[-1.0, -1.0]]]), jnp.asarray([[[-1.0, -5.0]]]), one, one)
    >>> print(loss)
    [[[1. 5.]]]

  Reference: MiniMax, "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention"
  (2025), eq. 4 and 5. Catalogue 2, section 4, `cispo`.
  """
  return _capped("cispo", token_logp, old_token_logp, advantage, mask, cap_low, cap_high)


def _capped(name, token_logp, old_token_logp, advantage, mask, cap_low, cap_high, unified=False):
  """`-sg(clip(rho)) A log pi`; where `unified`, 0 beyond a cap on the improving side."""
  if not cap_high > cap_low:
    raise Refused(f"{name} needs cap_high > cap_low = {cap_low}; it is {cap_high}.")
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  log_ratio = jax.lax.stop_gradient(ratio.bounded(logp - old))
  rho = jnp.exp(log_ratio)
  weight = jnp.clip(rho, cap_low, cap_high)
  low = (rho < cap_low) & (advantage < 0)
  high = (rho > cap_high) & (advantage > 0)
  acts = ratio.finish((rho != weight).astype(jnp.float32), mask)
  metrics = ratio.token_report(log_ratio) | {"ratio/clip": acts}
  named = {"ratio/clip_low": low, "ratio/clip_high": high}
  metrics |= {k: v.astype(jnp.float32) for k, v in named.items()}
  weight = jnp.where(low | high, 0.0, weight) if unified else weight
  return ratio.finish(-weight * advantage * logp, mask), metrics


def cispo_unified(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  cap_low: float = 0.8,
  cap_high: float = 1.2,
):
  r"""CISPO with PPO's trust region: tokens beyond a cap on the improving side have no gradient.

  With `rho = exp(token_logp - old_token_logp)` and `sg` a value without gradient

  .. math::
    \ell = -\mathrm{sg}(\mathrm{clip}(\rho, c_{low}, c_{high}))\, A \log \pi \cdot M, \qquad
    M = \begin{cases} 0 & A > 0,\ \rho > c_{high} \\ 0 & A < 0,\ \rho < c_{low} \\
                      1 & \text{else} \end{cases}

  The masked tokens stay in the denominator. Published reduction: `token`. The defaults are those
  of PPO's clip; the paper gives none for this form.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    cap_low: smallest weight; 0 or below for none.
    cap_high: largest weight, > `cap_low`.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: those of `cispo`.

  Raises:
    Refused: `cap_high` not above `cap_low`.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> old = jnp.asarray([[[-1.0, -5.0]]])
    >>> loss, _ = cispo_unified(jnp.asarray([[[-1.0, -1.0]]]), old, one, one)
    >>> print(loss)
    [[[1. 0.]]]

  Reference: MiniMax, "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention"
  (2025), eq. 6 and 7. Catalogue 2, section 4, `cispo`.
  """
  arrays = (token_logp, old_token_logp, advantage, mask)
  return _capped("cispo_unified", *arrays, cap_low, cap_high, unified=True)


def tis_pg(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  cap_low: float = 0.0,
  cap_high: float = 1.0,
):
  r"""Policy gradient with truncated importance sampling.

  With `rho = exp(token_logp - old_token_logp)` and `sg` a value without gradient

  .. math:: \ell = -\mathrm{sg}(\mathrm{clip}(\rho, c_{low}, c_{high}))\, A \log \pi

  It is `cispo` with other caps: with the default no token weighs more than on policy.
  Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    cap_low: smallest weight; 0 or below for none.
    cap_high: largest weight, > `cap_low`.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: those of `cispo`.

  Raises:
    Refused: `cap_high` not above `cap_low`.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> loss, _ = tis_pg(jnp.asarray([[[-1.0, -1.0]]]), jnp.asarray([[[-1.0, -5.0]]]), one, one)
    >>> print(loss)
    [[[1. 1.]]]

  Reference: Ionides, "Truncated Importance Sampling" (2008); as a token loss in ROLL (2025).
  Catalogue 2, section 4, `tis_pg`.
  """
  return _capped("tis_pg", token_logp, old_token_logp, advantage, mask, cap_low, cap_high)


def topr(
  token_logp,
  old_token_logp,
  reward,
  advantage,
  mask,
  *,
  level: str = "product",
):
  r"""Tapered off-policy REINFORCE: good responses unweighted, bad ones with a truncated ratio.

  With the response's reward `R` and `rho` the ratio at `level`, `sg` a value without gradient

  .. math::
    \ell = \begin{cases} -A \log \pi & R > 0 \\
      -\mathrm{sg}(\min(\rho, 1))\, A \log \pi & R \le 0 \end{cases}

  A good response is learned however unlikely it has become; a bad one is pushed down no further
  once the policy avoids it. Published reduction: `sequence_sum`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    reward: f32[B, K]; only its sign counts, 0 is bad.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    level: `product`, ratio of whole responses (the paper); `token` (ROLL); `sequence`, geometric
      mean.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean`, `kl/old` (`old - new`, nats), and
      `ratio/clip`, 1 where a bad response's ratio is truncated.

  Raises:
    Refused: an unknown level.

  Example:
    >>> one = jnp.ones((1, 2, 1))
    >>> logp = jnp.full((1, 2, 1), -2.0)
    >>> loss, _ = topr(logp, logp + 20.0, jnp.asarray([[1.0, 0.0]]), one, one)
    >>> print(jnp.round(loss, 6).ravel())
    [2. 0.]

  Reference: Le Roux et al., "Tapered Off-Policy REINFORCE" (2025), eq. 8. Catalogue 2, section 4,
  `topr`.
  """
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  log_ratio = jax.lax.stop_gradient(ratio.at_level("topr", level, logp - old, mask))
  good = (reward > 0)[..., None]
  weight = jnp.where(good, 1.0, jnp.exp(jnp.minimum(log_ratio, 0.0)))
  truncated = (~good & (log_ratio > 0)).astype(jnp.float32)
  metrics = ratio.report(logp - old, log_ratio) | {"ratio/clip": truncated}
  return ratio.finish(-weight * advantage * logp, mask), metrics


def vespo(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  k_pos: float = 2.0,
  lambda_pos: float = 3.0,
  k_neg: float = 3.0,
  lambda_neg: float = 2.0,
):
  r"""Variational sequence-level soft policy optimisation: a smooth weight of the sequence ratio.

  With `w` the ratio of the responses' probabilities, `log w` between log 1e-8 and 20

  .. math:: \phi(w) = e^{\lambda} w^{k} e^{-\lambda w}, \qquad \ell = -\phi(w)\, A \log \pi

  where `phi` has no gradient and `(k, lambda)` depend on the sign of the advantage. `phi(1) = 1`;
  it falls to 0 on both sides, so neither stale nor outlying responses are hard-clipped. Where the
  batch came from another engine than `old_token_logp`, give that engine's log-probabilities as
  the old ones. Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    k_pos: power of the weight where the advantage is at least 0, > 0.
    lambda_pos: rate of its decay there, > 0; the weight is largest at `k / lambda`.
    k_neg: power where the advantage is below 0, > 0.
    lambda_neg: decay there, > 0.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean`, `kl/old` (`old - new`, nats), and
      `ratio/weight`, phi.

  Raises:
    Refused: a knob not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> loss, _ = vespo(-one, jnp.asarray([[[-1.0, -1.5]]]), one, one)
    >>> print(f"{loss[0, 0, 0]:.6f}")
    0.388228

  Reference: "VESPO: Variational Sequence-Level Soft Policy Optimization for Stable Off-Policy LLM
  Training" (2026), arXiv 2602.10693. Catalogue 2, section 4, `vespo`.
  """
  knobs = {"k_pos": k_pos, "lambda_pos": lambda_pos, "k_neg": k_neg, "lambda_neg": lambda_neg}
  call.positive("vespo", **knobs)
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  d = jax.lax.stop_gradient(logp - old)
  total = (ratio.bounded(d) * mask).sum(-1, keepdims=True)
  log_w = jnp.broadcast_to(jnp.clip(total, SMALLEST, ratio.BOUND), d.shape)
  k = jnp.where(advantage >= 0, k_pos, k_neg)
  rate = jnp.where(advantage >= 0, lambda_pos, lambda_neg)
  weight = jax.lax.stop_gradient(jnp.exp(rate + k * log_w - rate * jnp.exp(log_w)))
  metrics = ratio.report(d, log_w) | {"ratio/weight": weight}
  return ratio.finish(-weight * advantage * logp, mask), metrics
