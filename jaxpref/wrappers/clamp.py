"""Token log-ratios kept within what a person would notice, around any objective of sums."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import steady_sum, true_logps
from jaxpref.types import Refused
from jaxpref.wrappers.desensitize import tokens_for_sums


def humanline(base, *, lower: float = -1.5, upper: float = 1.0):
  r"""Clamps the log-ratio of every token before it is summed.

  With `u_t = log pi(y_t) - log pi_ref(y_t)` of tokens that count, the base sees

  .. math:: \log \pi'(y) = \log \pi_{ref}(y) + \sum_t \min(\max(u_t, lower), upper)

  in place of `logp`. Tokens outside the bounds get no gradient. Around a base that reads no
  `ref_logp` the reference is 0: log-probabilities themselves are clamped. Where no token is
  outside, it is the base. The `baseline` of `kto` stays that of unclamped sums.

  Args:
    base: an objective that reads `logp`, perhaps `ref_logp`.
    lower: least log-ratio of a token, nats.
    upper: greatest log-ratio of a token, nats, above `lower`.

  Returns:
    The objective; it reads `token_logp`, `ref_token_logp` f32[B, K, T] and `mask` in place of
    `logp` and `ref_logp`. Rewards are those of the clamped sums, `logps/*` the plain sums;
    `humanline/clamped` f32[B, K, T] is 1 on clamped tokens.

  Raises:
    Refused: `lower` not below `upper`, or a base that reads no `logp`.

  Example:
    >>> from jaxpref.objectives import dpo
    >>> ref, mask = jnp.zeros((1, 2, 2)), jnp.ones((1, 2, 2))
    >>> loss, _ = humanline(dpo)(jnp.asarray([[[-0.5, -9.0], [-1.0, -1.0]]]), ref, mask)
    >>> print(f"{loss[0]:.6f}")   # a = -0.5 - 1.5, b = -2: log 2
    0.693147

  Reference: Liu et al., "Humanline: Online Alignment as Perceptual Loss" (2025), and the HALOs
  repository, whose defaults these are. Catalogue 1, section 4, humanline.
  """
  if not lower < upper:
    raise Refused(f"humanline needs lower < upper; they are {lower} and {upper}.")
  names = tokens_for_sums("humanline", base)

  def objective(inner, arrays):
    token_logp, counted = arrays["token_logp"], arrays["mask"] > 0
    ref = jax.lax.stop_gradient(arrays.get("ref_token_logp", jnp.zeros_like(token_logp)))
    ratio = token_logp - ref
    sums = lambda x: steady_sum(jnp.where(counted, x, 0.0))
    seen = {"logp": sums(ref + jnp.clip(ratio, lower, upper))}
    if "ref_token_logp" in arrays:
      seen["ref_logp"] = sums(ref)
    loss, metrics = call.feed(inner, arrays | seen)
    outside = ((ratio < lower) | (ratio > upper)).astype(jnp.float32)
    return loss, true_logps(metrics, sums(token_logp)) | {
      "humanline/clamped": jnp.where(counted, outside, 0.0)
    }

  return call.wrapped(base, objective, names)
