"""Which tokens to learn from."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call, groups
from jaxpref.numerics import masked_mean


def top_entropy(entropy, mask, *, share: float = 0.2):
  r"""Keeps the tokens of highest entropy of the whole batch.

  .. math:: keep_{it} = [H_{it} \ge Q_{1-\rho}(H)]

  with the quantile over all counted tokens, linearly interpolated. With `share = 1` all are kept,
  without a counted token none. Denominators stay those of the mask unless you multiply it in.

  Args:
    entropy: f32[B, K, T], entropy of the prediction of each token, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    share: `rho`, share of the tokens to keep, above 0 to 1.

  Returns:
    keep: f32[B, K, T], zeros and ones, 0 outside the mask.

  Raises:
    Refused: `share` is not above 0.

  Example:
    >>> print(top_entropy(jnp.asarray([[[0.1, 2.0, 0.5, 1.0]]]), jnp.ones((1, 1, 4)), share=0.5))
    [[[0. 1. 0. 1.]]]

  Reference: Wang et al., "Beyond the 80/20 Rule" (2025). Catalogue 2, section 4.
  """
  call.positive("top_entropy", share=share)
  chex.assert_equal_shape([entropy, mask])
  counted = mask > 0
  size = counted.sum()
  ordered = jnp.sort(jnp.where(counted, entropy, jnp.inf).ravel())
  place = (1.0 - share) * jnp.maximum(size - 1, 0).astype(jnp.float32)
  low = jnp.floor(place).astype(jnp.int32)
  high = jnp.minimum(low + 1, jnp.maximum(size - 1, 0))
  left, right = ordered[low], ordered[high]
  part = place - low
  threshold = jnp.where(part > 0, left + part * (right - left), left)
  return jax.lax.stop_gradient((counted & (entropy >= threshold)).astype(jnp.float32))


def opsm(advantage, old_token_logp, token_logp, mask, *, delta: float = 0.05):
  r"""Off-policy sequence mask: drops bad tokens of sequences that the policy has left.

  .. math:: keep_{it} = 1 - [A_{it} < 0] \cdot
    \Big[\tfrac{1}{|o_i|} \sum_t (\log\pi_{old} - \log\pi) > \delta\Big]

  An empty response has mean 0. Denominators stay those of the mask.

  Args:
    advantage: f32[B, K, T], after spreading.
    old_token_logp: f32[B, K, T], under the policy that sampled, nats.
    token_logp: f32[B, K, T], under the policy now, nats; no gradient flows.
    mask: f32[B, K, T], 1 on tokens that count.
    delta: nats per token.

  Returns:
    keep: f32[B, K, T], zeros and ones, 0 outside the mask.

  Example:
    >>> one = jnp.ones((1, 2, 1))
    >>> print(opsm(jnp.asarray([[[1.0], [-1.0]]]), -one, -2.0 * one, one)[0, :, 0])
    [1. 0.]

  Reference: DeepSeek-AI, "DeepSeek-V3.2" (2025), section 3.1. Catalogue 2, section 4.
  """
  chex.assert_equal_shape([advantage, old_token_logp, token_logp, mask])
  drift = masked_mean(old_token_logp - token_logp, mask, axis=-1)[..., None]
  dropped = (advantage < 0) & (drift > delta)
  return jax.lax.stop_gradient(((mask > 0) & ~dropped).astype(jnp.float32))


def m2po(token_logp, old_token_logp, mask, *, threshold: float = 0.04):
  r"""Drops the tokens that moved most until the mean square of the rest is below a threshold.

  .. math:: \min k:\ \frac{1}{n-k} \sum_{j > k} m_{(j)} < \tau, \quad
    m = (\log\pi - \log\pi_{old})^2,\ m_{(1)} \ge m_{(2)} \ge \dots

  over all counted tokens of the batch. If no rest is below, the one token that moved least is
  kept.

  Args:
    token_logp: f32[B, K, T], under the policy now, nats; no gradient flows.
    old_token_logp: f32[B, K, T], under the policy that sampled, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    threshold: `tau`, nats squared, > 0.

  Returns:
    keep: f32[B, K, T], zeros and ones, 0 outside the mask.

  Raises:
    Refused: `threshold` is not above 0.

  Example:
    >>> moved = jnp.asarray([[[0.0, 0.1, 1.0]]])
    >>> print(m2po(moved, jnp.zeros((1, 1, 3)), jnp.ones((1, 1, 3))))
    [[[1. 1. 0.]]]

  Reference: Zheng et al., "Prosperity before Collapse: M2PO" (2025). Catalogue 2, section 4.
  """
  call.positive("m2po", threshold=threshold)
  chex.assert_equal_shape([token_logp, old_token_logp, mask])
  valid = (mask > 0).astype(jnp.float32).ravel()
  moved = jnp.where(valid > 0, (token_logp - old_token_logp).ravel() ** 2, 0.0)
  rank = groups.ranks(moved, valid)
  ordered = jnp.zeros_like(moved).at[rank].set(moved)  # largest first, invalid ones are 0, last
  rest = jnp.cumsum(ordered[::-1])[::-1]
  left = valid.sum() - jnp.arange(moved.size)
  fine = (left > 0) & (rest < threshold * left)
  dropped = jnp.where(fine.any(), jnp.argmax(fine), jnp.maximum(valid.sum() - 1, 0))
  kept = jnp.where(rank >= dropped, valid, 0.0)
  return jax.lax.stop_gradient(kept.reshape(mask.shape))
