"""Terms beside a policy loss: KL to the reference per token, and entropy."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import k3
from jaxpref.objectives import ratio
from jaxpref.types import Refused

ESTIMATORS = ("k1", "k2", "k3", "abs", "k1+", "k3+")


def kl_penalty(
  token_logp,
  ref_token_logp,
  mask,
  *,
  estimator: str = "k3",
  max_log_ratio: float = 20.0,
  max_kl: float = 0.0,
):
  r"""KL to the reference, estimated on sampled tokens.

  With `d = token_logp - ref_token_logp`

  .. math:: k_1 = d, \quad k_2 = \tfrac{1}{2} d^2, \quad k_3 = e^{-d} - 1 + d, \quad |d|

  As values `k1` and `k3` are unbiased. As losses they are not what they seem: on policy the mean
  gradient of `k1` is 0, that of `k2` is the gradient of the reverse KL, that of `k3` of the
  forward KL. `k1+` and `k3+` have the value of `k1`, `k3` and the gradient of `k2`; see
  `kl_corrected` for the form that is right off policy. The coefficient is the term's weight.
  Published reduction: that of the policy loss.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    ref_token_logp: f32[B, K, T], the same under the reference; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    estimator: `k1`, `k2`, `k3`, `abs`, `k1+` or `k3+`.
    max_log_ratio: nats at which `d` is cut within `k3`, > 0; beyond it the gradient is 0.
    max_kl: nats at which the estimate is cut, on both sides; 0 for no bound. Its gradient is 0
      beyond.

  Returns:
    loss: f32[B, K, T], nats, not reduced; 0 on tokens that do not count.
    metrics: `kl/ref` f32[B, K, T], the same without gradient.

  Raises:
    Refused: an unknown estimator, `max_log_ratio` not above 0, or `max_kl` below 0.

  Example:
    >>> logp, ref, one = jnp.zeros((1, 1, 2)), jnp.asarray([[[0.0, -0.5]]]), jnp.ones((1, 1, 2))
    >>> loss, _ = kl_penalty(logp, ref, one)
    >>> print(f"{loss[0, 0, 0]:.6f} {loss[0, 0, 1]:.6f}")
    0.000000 0.106531

  Reference: Schulman, "Approximating KL divergence" (2020); Shao et al., "DeepSeekMath" (2024),
  eq. 4. Catalogue 2, section 5.
  """
  logp, ref = ratio.counted(mask, token_logp, ref_token_logp)
  loss = estimate("kl_penalty", logp - ref, estimator, max_log_ratio, max_kl)
  return ratio.finish(loss, mask), {"kl/ref": jax.lax.stop_gradient(loss)}


def estimate(name, d, estimator, max_log_ratio, max_kl):
  """Estimate of KL(policy || reference) from `d = log pi - log ref` of sampled tokens."""
  if estimator not in ESTIMATORS:
    raise Refused(
      f"{name} has no estimator {estimator!r}. {call.nearest(estimator, ESTIMATORS)}"
      f"It has: {ESTIMATORS}."
    )
  call.positive(name, max_log_ratio=max_log_ratio)
  if not max_kl >= 0:
    raise Refused(f"{name} needs max_kl >= 0 (0: no bound); it is {max_kl}.")
  forms = {
    "k1": lambda: d,
    "k2": lambda: 0.5 * jnp.square(d),
    "k3": lambda: k3(jnp.clip(-d, -max_log_ratio, max_log_ratio)),
    "abs": lambda: ratio.absolute(d),
  }
  cut = lambda x: jnp.clip(x, -max_kl, max_kl) if max_kl else x
  value = cut(forms[estimator.removesuffix("+")]())
  if estimator.endswith("+"):
    slope = forms["k2"]()
    return jax.lax.stop_gradient(value - slope) + slope
  return value


def kl_corrected(
  token_logp,
  old_token_logp,
  ref_token_logp,
  mask,
  *,
  estimator: str = "k3",
  max_log_ratio: float = 20.0,
  max_kl: float = 0.0,
):
  r"""KL to the reference, corrected for sampling: the ratio to the old policy times an estimate.

  With `rho = exp(token_logp - old_token_logp)`, which has its gradient, and an estimate `k` of
  `kl_penalty`

  .. math:: \ell = \rho\, k(\log \pi - \log \pi_{ref})

  For `k1` and `k3`, value and gradient are unbiased for the reverse KL, also when the batch is
  not from the present policy. The ratio is that of the token even where the policy loss uses the
  sequence's. The coefficient is the term's weight. Published reduction: that of the policy loss.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    ref_token_logp: f32[B, K, T], the same under the reference; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    estimator: `k1`, `k2`, `k3`, `abs`, `k1+` or `k3+`.
    max_log_ratio: nats at which the log-ratio to the reference is cut within `k3`, > 0.
    max_kl: nats at which the estimate is cut, on both sides; 0 for no bound.

  Returns:
    loss: f32[B, K, T], nats, not reduced; 0 on tokens that do not count.
    metrics: `kl/ref` f32[B, K, T], the same without gradient.

  Raises:
    Refused: an unknown estimator, `max_log_ratio` not above 0, or `max_kl` below 0.

  Example:
    >>> logp, ref, one = jnp.zeros((1, 1, 1)), jnp.full((1, 1, 1), -0.5), jnp.ones((1, 1, 1))
    >>> loss, _ = kl_corrected(logp, logp - 0.1, ref, one)
    >>> print(f"{loss[0, 0, 0]:.6f}")
    0.117735

  Reference: DeepSeek-AI, "DeepSeek-V3.2" (2025), section 3.1, unbiased KL estimate. Catalogue 2,
  section 5.
  """
  logp, old, ref = ratio.counted(mask, token_logp, old_token_logp, ref_token_logp)
  value = estimate("kl_corrected", logp - ref, estimator, max_log_ratio, max_kl)
  loss = jnp.exp(ratio.bounded(logp - old)) * value
  return ratio.finish(loss, mask), {"kl/ref": jax.lax.stop_gradient(loss)}


def entropy_bonus(entropy, mask):
  r"""Entropy bonus: the negative entropy of each prediction.

  .. math:: \ell = -H_t

  Lower loss is higher entropy; the coefficient is the term's weight. Published reduction: `token`,
  whatever the policy loss uses.

  Args:
    entropy: f32[B, K, T], entropy of the prediction of each token that counts, nats.
    mask: f32[B, K, T], 1 on response tokens that count.

  Returns:
    loss: f32[B, K, T], nats, not reduced; 0 on tokens that do not count.
    metrics: `entropy` f32[B, K, T], nats.

  Example:
    >>> print(entropy_bonus(jnp.asarray([[[0.5, 2.0]]]), jnp.asarray([[[1.0, 0.0]]]))[0])
    [[[-0.5 -0. ]]]

  Reference: Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning" (2016), section 4.
  Catalogue 2, section 7.
  """
  chex.assert_rank(entropy, 3)
  chex.assert_equal_shape([entropy, mask])
  kept = ratio.finish(entropy, mask)
  return -kept, {"entropy": jax.lax.stop_gradient(kept)}
