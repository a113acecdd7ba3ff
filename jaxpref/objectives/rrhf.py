"""Rank responses to align human feedback."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import safe_divide


def rrhf(logp, length, relevance, present, *, length_penalty: float = 1.0):
  r"""Ranking part of RRHF: every worse response must be less likely than every better one.

  With `p = logp / length^length_penalty` and grade `r` of each response, over ordered pairs

  .. math:: \ell = \sum_{i, j:\ r_i < r_j} \max(0, p_i - p_j)

  It is 0 where the likelihoods order the responses as the grades do; equal grades ask for nothing.
  An empty response has `p = 0`. RRHF adds the negative log-likelihood of the best response: the
  mix `rrhf`.

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    length: f32[B, K], response tokens that count.
    relevance: f32[B, K], grades; only their order matters.
    present: f32[B, K], 0 for padded candidates.
    length_penalty: power of the length, > 0; 1 takes averages per token.

  Returns:
    loss: f32[B], the sum over the pairs of a situation, nats per token, not reduced.
    metrics: `ranking/accuracy` f32[B], a pair `(value, count)`: the share of the pairs of different
      grade that the likelihoods order rightly (a tie is not right), over situations that have any.

  Raises:
    Refused: `length_penalty` not above 0.

  Example:
    >>> one = jnp.ones((1, 3))
    >>> loss, _ = rrhf(jnp.asarray([[-1.0, -0.5, -2.0]]), one, jnp.asarray([[2.0, 1.0, 0.0]]), one)
    >>> print(loss)
    [0.5]

  Reference: Yuan et al., "RRHF: Rank Responses to Align Language Models with Human Feedback without
  tears" (2023), eq. 2. Catalogue 1, section 3, `rrhf`.
  """
  call.positive("rrhf", length_penalty=length_penalty)
  chex.assert_equal_shape([logp, length, relevance, present])
  p = safe_divide(logp, length**length_penalty)
  gap = p[:, :, None] - p[:, None, :]  # [B, worse i, better j]
  both = (present[:, :, None] > 0) & (present[:, None, :] > 0)
  counted = (relevance[:, :, None] < relevance[:, None, :]) & both
  loss = jnp.where(counted, jax.nn.relu(gap), 0.0).sum((1, 2))
  number = counted.sum((1, 2)).astype(jnp.float32)
  right = (counted & (gap < 0)).sum((1, 2)).astype(jnp.float32)
  share = (safe_divide(right, number), (number > 0).astype(jnp.float32))
  return loss, {"ranking/accuracy": jax.lax.stop_gradient(share)}
