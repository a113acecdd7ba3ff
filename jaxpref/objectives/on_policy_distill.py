"""Distillation from sampled tokens: only their log-probabilities are read, no whole vocabulary."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import safe_divide


def sampled_rkl(token_logp, teacher_token_logp, mask):
  r"""Reverse divergence from the student's own samples, as a policy gradient.

  With student `q` and teacher `p` of the token that was sampled, `sg` without gradient

  .. math:: \ell_t = sg(\log q_t - \log p_t) \log q_t

  Its gradient, averaged over tokens that the student samples, is that of `KL(q || p)` per token;
  its value means nothing: look at `distill/gap`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the student, nats.
    teacher_token_logp: f32[B, K, T], the same under the teacher; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.

  Returns:
    loss: f32[B, K, T], 0 where the mask is 0; not reduced.
    metrics: `distill/gap` f32[B, K, T], `log q - log p`, nats: its mean over samples of the
      student is the divergence.

  Example:
    >>> loss, _ = sampled_rkl(
    ...   jnp.full((1, 1, 1), -1.0), jnp.full((1, 1, 1), -3.0), jnp.ones((1, 1, 1)))
    >>> print(loss)
    [[[-2.]]]

  Reference: Agarwal et al., "On-Policy Distillation of Language Models: Learning from
  Self-Generated Mistakes" (2023). Catalogue 1, section 8, `sampled token`.
  """
  chex.assert_equal_shape([token_logp, teacher_token_logp, mask])
  gap = jax.lax.stop_gradient(token_logp - teacher_token_logp)
  return jnp.where(mask > 0, gap * token_logp, 0.0), {"distill/gap": gap}


def iw_opd(
  token_logp,
  sampler_token_logp,
  teacher_token_logp,
  mask,
  *,
  gamma: float = 1.0,
  epsilon: float = 1e-8,
):
  r"""On-policy distillation that weighs early tokens more: errors there decide what follows.

  With advantage `A_t = log p_t - log s_t` of teacher over sampler, without gradient, and `P_t` the
  sum of `|A|` over the tokens before `t`

  .. math:: \ell_t = -w_t A_t \log q_t, \quad w_t = 1 + \gamma \left(1 - \frac{P_t}{P_T + \epsilon}
    \right)

  At `gamma = 0` all tokens weigh the same. Where teacher and sampler agree the loss is 0.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the student, nats.
    sampler_token_logp: f32[B, K, T], the same under what sampled it; no gradient flows.
    teacher_token_logp: f32[B, K, T], the same under the teacher; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    gamma: extra weight of the first token, at least 0.
    epsilon: added to the total, nats, > 0.

  Returns:
    loss: f32[B, K, T], 0 where the mask is 0; not reduced.
    metrics: `distill/gap` f32[B, K, T], `log s - log p`, nats.

  Raises:
    Refused: a knob out of its range.

  Example:
    >>> ones = jnp.ones((1, 1, 2))
    >>> loss, _ = iw_opd(-ones, -ones, -2 * ones, ones)
    >>> print(loss)
    [[[-2.  -1.5]]]

  Reference: importance-weighted on-policy distillation as TRL 1.16 has it (2025). Catalogue 1,
  section 8, `iw_opd`.
  """
  call.at_least("iw_opd", 0, gamma=gamma)
  call.positive("iw_opd", epsilon=epsilon)
  chex.assert_equal_shape([token_logp, sampler_token_logp, teacher_token_logp, mask])
  gain = jax.lax.stop_gradient(teacher_token_logp - sampler_token_logp)
  size = jnp.where(mask > 0, jnp.abs(gain), 0.0)
  before = jnp.cumsum(size, -1) - size
  weight = 1.0 + gamma * (1.0 - before / (size.sum(-1, keepdims=True) + epsilon))
  return jnp.where(mask > 0, -weight * gain * token_logp, 0.0), {"distill/gap": -gain}


def minillm(token_logp, teacher_token_logp, mask, *, gamma: float = 1.0):
  r"""Reverse divergence of whole responses: each token answers for what comes after it.

  With reward `R_t = log p_t - log q_t` of teacher over student, without gradient

  .. math:: \ell_t = -A_t \log q_t, \quad A_t = \sum_{i \ge t} \gamma^{i - t} R_i

  over the tokens that count. At `gamma = 0` it is `sampled_rkl`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the student, nats.
    teacher_token_logp: f32[B, K, T], the same under the teacher; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    gamma: discount per token, in [0, 1].

  Returns:
    loss: f32[B, K, T], 0 where the mask is 0; not reduced.
    metrics: `distill/gap` f32[B, K, T], `log q - log p`, nats.

  Raises:
    Refused: `gamma` out of its range.

  Example:
    >>> ones = jnp.ones((1, 1, 2))
    >>> print(minillm(-ones, -2 * ones, ones)[0])
    [[[-2. -1.]]]

  Reference: Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models" (2024), eq. 4.
  Catalogue 1, section 8, `minillm`; section 10.9 on the exponent.
  """
  call.fraction("minillm", gamma=gamma)
  chex.assert_equal_shape([token_logp, teacher_token_logp, mask])
  gap = jax.lax.stop_gradient(token_logp - teacher_token_logp)
  togo = _to_go(-gap, mask > 0, gamma)
  return jnp.where(mask > 0, -togo * token_logp, 0.0), {"distill/gap": gap}


def minillm_normalised(token_logp, teacher_token_logp, mask, *, gamma: float = 1.0):
  r"""MiniLLM with rewards to come averaged, so that long responses are not drawn to be short.

  .. math:: \ell_t = -A_t \log q_t, \quad
    A_t = \frac{\sum_{i \ge t} \gamma^{i - t} R_i}{\sum_{i \ge t} \gamma^{i - t}}

  over the tokens that count, with `R` as in `minillm`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the student, nats.
    teacher_token_logp: f32[B, K, T], the same under the teacher; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    gamma: discount per token, in [0, 1].

  Returns:
    loss: f32[B, K, T], 0 where the mask is 0; not reduced.
    metrics: `distill/gap` f32[B, K, T], `log q - log p`, nats.

  Raises:
    Refused: `gamma` out of its range.

  Example:
    >>> ones = jnp.ones((1, 1, 2))
    >>> print(minillm_normalised(-ones, -2 * ones, ones)[0])
    [[[-1. -1.]]]

  Reference: Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models" (2024), section
  2.2, length normalisation. Catalogue 1, section 8, `minillm`.
  """
  call.fraction("minillm_normalised", gamma=gamma)
  chex.assert_equal_shape([token_logp, teacher_token_logp, mask])
  gap = jax.lax.stop_gradient(token_logp - teacher_token_logp)
  togo, count = (_to_go(x, mask > 0, gamma) for x in (-gap, jnp.ones_like(gap)))
  return jnp.where(mask > 0, -safe_divide(togo, count) * token_logp, 0.0), {"distill/gap": gap}


def _to_go(reward, counts, gamma):
  """Discounted sum from each token that counts to the end; other tokens are skipped over."""

  def step(later, now):
    value, here = now
    total = jnp.where(here, value + gamma * later, later)
    return total, total

  along = lambda x: jnp.moveaxis(x, -1, 0)
  start = jnp.zeros(reward.shape[:-1])
  _, out = jax.lax.scan(step, start, (along(reward), along(counts)), reverse=True)
  return jnp.moveaxis(out, 0, -1)
