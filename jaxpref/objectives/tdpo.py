"""Token-level DPO: the margin less how far the policy has drifted along each response."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards


def tdpo1(logp, ref_logp, logits, ref_logits, mask, *, beta: float = 0.1):
  r"""Token-level DPO, first form: DPO's margin less the difference of the sequential KLs.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1` and
  `K = sum_t KL(ref || policy)` over the predictions of the tokens that count

  .. math:: \ell = -\log \sigma(\beta ((a - b) - (K_1 - K_0)))

  Where the policy equals the reference both K are 0 and it is `dpo`.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    logits: f32[B, 2, T, V], scores from which each token was predicted.
    ref_logits: f32[B, 2, T, V], the same under the reference; no gradient flows.
    mask: f32[B, 2, T], 1 on response tokens that count.
    beta: reward units per nat of log-ratio, > 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, `logps/*` of f32[B],
      nats, and the sequential KLs `kl/chosen` and `kl/rejected` of f32[B], nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> same = jnp.zeros((1, 2, 3, 4))
    >>> loss, _ = tdpo1(logp, ref_logp, same, same, jnp.ones((1, 2, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Zeng et al., "Token-level Direct Preference Optimization" (2024), eq. 14. Catalogue 1,
  section 2, `tdpo1`.
  """
  reward, kl, metrics = _pair("tdpo1", logp, ref_logp, logits, ref_logits, mask, beta)
  margin = reward[:, 0] - reward[:, 1] - beta * (kl[:, 1] - kl[:, 0])
  return jax.nn.softplus(-margin), metrics


def tdpo2(logp, ref_logp, logits, ref_logits, mask, *, beta: float = 0.1, alpha: float = 0.5):
  r"""Token-level DPO, second form: the preferred response's KL is a baseline without gradient.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1`,
  `K = sum_t KL(ref || policy)` over the predictions of the tokens that count and `sg` without
  gradient

  .. math:: \ell = -\log \sigma(\beta ((a - b) - \alpha (K_1 - \mathrm{sg}\,K_0)))

  Where the policy equals the reference, or at `alpha = 0`, it is `dpo`.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    logits: f32[B, 2, T, V], scores from which each token was predicted.
    ref_logits: f32[B, 2, T, V], the same under the reference; no gradient flows.
    mask: f32[B, 2, T], 1 on response tokens that count.
    beta: reward units per nat of log-ratio, > 0.
    alpha: weight of the sequential KLs.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, `logps/*` of f32[B],
      nats, and the sequential KLs `kl/chosen` and `kl/rejected` of f32[B], nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> same = jnp.zeros((1, 2, 3, 4))
    >>> loss, _ = tdpo2(logp, ref_logp, same, same, jnp.ones((1, 2, 3)))
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Zeng et al., "Token-level Direct Preference Optimization" (2024), eq. 15. Catalogue 1,
  section 2, `tdpo2`.
  """
  reward, kl, metrics = _pair("tdpo2", logp, ref_logp, logits, ref_logits, mask, beta)
  drift = kl[:, 1] - jax.lax.stop_gradient(kl[:, 0])
  margin = reward[:, 0] - reward[:, 1] - beta * alpha * drift
  return jax.nn.softplus(-margin), metrics


def sequential_kl(logits, ref_logits, mask):
  r"""Sum over tokens of `KL(ref || policy)` between the predictions of a sequence.

  Args:
    logits: f32[..., T, V], scores under the policy.
    ref_logits: f32[..., T, V], under the reference; no gradient flows.
    mask: f32[..., T], 1 on tokens that count.

  Returns:
    f32[...], nats.
  """
  logq = jax.nn.log_softmax(logits)
  logp = jax.nn.log_softmax(jax.lax.stop_gradient(ref_logits))
  each = (jnp.exp(logp) * (logp - logq)).sum(-1)
  return jnp.where(mask > 0, each, 0.0).sum(-1)


def _pair(name, logp, ref_logp, logits, ref_logits, mask, beta):
  """Rewards and sequential KLs, f32[B, 2] each, and the metrics."""
  call.positive(name, beta=beta)
  call.candidates(name, 2, logp=logp, ref_logp=ref_logp, logits=logits, mask=mask)
  chex.assert_equal_shape([logp, ref_logp])
  chex.assert_equal_shape([logits, ref_logits])
  reward = beta * (logp - jax.lax.stop_gradient(ref_logp))
  kl = sequential_kl(logits, ref_logits, mask)
  shown = jax.lax.stop_gradient(kl)
  kls = {"kl/chosen": shown[:, 0], "kl/rejected": shown[:, 1]}
  return reward, kl, pair_rewards(reward) | pair_logps(logp) | kls
