"""Clipped policy losses: PPO and GRPO, dual and two-sided clips, segments, a decoupled proximal."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.objectives import ratio
from jaxpref.types import Refused


def ppo_clip(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 0.2,
  epsilon_high: float = 0.2,
  level: str = "token",
):
  r"""Clipped policy loss of PPO and GRPO.

  With `rho = exp(token_logp - old_token_logp)`

  .. math:: \ell = -\min(\rho A,\; \mathrm{clip}(\rho, 1 - e_{low}, 1 + e_{high}) A)

  The gradient is 0 where the ratio has left the trust region on the side that the advantage
  pushes to. Where the policy is still the old one the ratio is 1, the loss `-A` and the gradient
  `-A grad log pi`: a loss of 0 does not say that nothing is learned. `epsilon_high = 0.28` is
  DAPO's clip-higher. Published reductions: `sequence` (GRPO), `token` (DAPO),
  `sequence_sum_constant` (Dr. GRPO).

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.
    level: `token`; `sequence`, one geometric-mean ratio per response (GSPO); `product`, one
      ratio of whole responses, which explodes for long ones.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: f32[B, K, T], `ratio/mean`, `kl/old` (`old - new`, nats), and 1
      where clipping acts: `ratio/clip_low`, `ratio/clip_high`, `ratio/clip`.

  Raises:
    Refused: an epsilon not above 0, or an unknown level.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> loss, _ = ppo_clip(jnp.log(jnp.asarray([[[0.5, 0.3]]])), jnp.log(0.25 * one), one, one)
    >>> print(loss)
    [[[-1.2 -1.2]]]

  Reference: Schulman et al., "Proximal Policy Optimization Algorithms" (2017), eq. 7; Shao et
  al., "DeepSeekMath" (2024), eq. 3; Yu et al., "DAPO" (2025), eq. 8 for `epsilon_high`.
  Catalogue 2, section 4, `ppo_clip`, `clip_higher`.
  """
  call.positive("ppo_clip", epsilon_low=epsilon_low, epsilon_high=epsilon_high)
  arrays = (token_logp, old_token_logp, advantage, mask)
  plain, cut, _, metrics = at_ratio("ppo_clip", *arrays, level, epsilon_low, epsilon_high)
  return ratio.finish(jnp.maximum(plain, cut), mask), metrics


def at_ratio(name, token_logp, old_token_logp, advantage, mask, level, epsilon_low, epsilon_high):
  """The two losses before the pessimistic choice, log-ratio and metrics of a clipped loss."""
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  log_ratio = ratio.at_level(name, level, logp - old, mask)
  plain, cut = ratio.clipped(log_ratio, advantage, epsilon_low, epsilon_high)
  metrics = ratio.report(log_ratio if level == "token" else logp - old, log_ratio)
  metrics |= ratio.clip_report(log_ratio, advantage, epsilon_low, epsilon_high)
  return plain, cut, log_ratio, metrics


def dual_clip(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 0.2,
  epsilon_high: float = 0.2,
  dual: float = 3.0,
  level: str = "token",
):
  r"""Dual-clip PPO: where the advantage is negative, the loss is bounded as well.

  With `rho = exp(token_logp - old_token_logp)` and `p` the loss of `ppo_clip`

  .. math::
    \ell = \begin{cases} \min(p, -c A) & A < 0 \\ p & \text{else} \end{cases}

  A token whose probability has risen a lot since sampling and which turns out bad would otherwise
  have an unbounded loss; beyond `rho = c` it has no gradient. Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.
    dual: `c`, the ratio beyond which a bad token is left alone, > 1.
    level: `token`, `sequence` or `product`, as in `ppo_clip`.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: those of `ppo_clip`, and `ratio/clip_dual`, 1 where `c` acts.

  Raises:
    Refused: an epsilon not above 0, `dual` not above 1, or an unknown level.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> loss, _ = dual_clip(jnp.log(jnp.asarray([[[0.5, 0.05]]])), jnp.log(0.1 * one), -one, one)
    >>> print(loss)
    [[[3.  0.8]]]

  Reference: Ye et al., "Mastering Complex Control in MOBA Games with Deep Reinforcement Learning"
  (2020), eq. 5. Catalogue 2, section 4, `dual_clip`.
  """
  call.positive("dual_clip", epsilon_low=epsilon_low, epsilon_high=epsilon_high)
  if not dual > 1:
    raise Refused(f"dual_clip needs dual > 1; it is {dual}.")
  arrays = (token_logp, old_token_logp, advantage, mask)
  plain, cut, log_ratio, metrics = at_ratio("dual_clip", *arrays, level, epsilon_low, epsilon_high)
  advantage = ratio.finish(jax.lax.stop_gradient(advantage), mask)
  loss = jnp.maximum(plain, cut)
  loss = jnp.where(advantage < 0, jnp.minimum(loss, -dual * advantage), loss)
  beyond = (jax.lax.stop_gradient(jnp.exp(log_ratio)) > dual) & (advantage < 0)
  metrics |= {"ratio/clip_dual": beyond.astype(jnp.float32)}
  return ratio.finish(loss, mask), metrics


def two_sided(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 0.2,
  epsilon_high: float = 0.2,
  delta: float = 4.0,
  level: str = "token",
):
  r"""Two-sided clip: the ratio of the unclipped branch has a cap of its own.

  With `rho = exp(token_logp - old_token_logp)`

  .. math:: \ell = -\min(\min(\rho, \delta) A,\; \mathrm{clip}(\rho, 1-e_{low}, 1+e_{high}) A)

  It bounds the loss of bad tokens whose ratio is large, as `dual_clip` does; with positive
  advantages it is `ppo_clip`. Published reduction: `sequence`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.
    delta: cap of the unclipped ratio, > 1 + `epsilon_high`.
    level: `token`, `sequence` or `product`, as in `ppo_clip`.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: those of `ppo_clip`, and `ratio/clip_dual`, 1 where `delta` acts.

  Raises:
    Refused: an epsilon not above 0, `delta` not above `1 + epsilon_high`, or an unknown level.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> loss, _ = two_sided(jnp.log(jnp.asarray([[[0.5, 0.05]]])), jnp.log(0.1 * one), -one, one)
    >>> print(loss)
    [[[4.  0.8]]]

  Reference: Prime Intellect, "INTELLECT-2" (2025), section 3.4. Catalogue 2, section 4,
  `two_sided`.
  """
  call.positive("two_sided", epsilon_low=epsilon_low, epsilon_high=epsilon_high)
  if not delta > 1 + epsilon_high:
    raise Refused(f"two_sided needs delta > 1 + epsilon_high = {1 + epsilon_high}; it is {delta}.")
  arrays = (token_logp, old_token_logp, advantage, mask)
  _, cut, log_ratio, metrics = at_ratio("two_sided", *arrays, level, epsilon_low, epsilon_high)
  advantage = ratio.finish(jax.lax.stop_gradient(advantage), mask)
  loss = jnp.maximum(-jnp.minimum(jnp.exp(log_ratio), delta) * advantage, cut)
  beyond = (jax.lax.stop_gradient(jnp.exp(log_ratio)) > delta) & (advantage < 0)
  metrics |= {"ratio/clip_dual": beyond.astype(jnp.float32)}
  return ratio.finish(loss, mask), metrics


def segment_clip(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  segment,
  *,
  epsilon_low: float = 0.06,
  epsilon_high: float = 0.08,
):
  r"""Clipped policy loss with one ratio per segment: Rank-GRPO, or turns and sentences.

  With segment `s` of a response, `|s|` tokens that count and `d = token_logp - old_token_logp`

  .. math::
    w_s = \exp\Big(\frac{1}{|s|} \sum_{t \in s} d_t\Big), \qquad
    \ell_t = -\min(w_s A_t,\; \mathrm{clip}(w_s, 1-e_{low}, 1+e_{high}) A_t)

  With one token per segment it is `ppo_clip`, with one segment per response `gspo`. Tokens outside
  every segment (-1) that count share one ratio. Published reduction: `segment`, in which each
  segment has one vote whatever its length; the paper's code averages over tokens.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    segment: i32[B, K, T], segment of each token counted from 0, -1 outside.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: those of `ppo_clip`.

  Raises:
    Refused: an epsilon not above 0.

  Example:
    >>> old, one = jnp.zeros((1, 1, 3)), jnp.ones((1, 1, 3))
    >>> logp = jnp.asarray([[[0.3, -0.1, 0.0]]])
    >>> loss, _ = segment_clip(logp, old, one, one, jnp.asarray([[[0, 0, 1]]]))
    >>> print(loss)
    [[[-1.08 -1.08 -1.  ]]]

  Reference: "Rank-GRPO: Training LLM-based Conversational Recommender Systems with Reinforcement
  Learning" (2025); card papers/rank_grpo.md, "Rank ratio" and "Objective".
  """
  call.positive("segment_clip", epsilon_low=epsilon_low, epsilon_high=epsilon_high)
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  log_ratio = ratio.at_segments(logp - old, mask, segment)
  loss = jnp.maximum(*ratio.clipped(log_ratio, advantage, epsilon_low, epsilon_high))
  metrics = ratio.report(logp - old, log_ratio)
  metrics |= ratio.clip_report(log_ratio, advantage, epsilon_low, epsilon_high)
  return ratio.finish(loss, mask), metrics


def decoupled_ppo(
  token_logp,
  old_token_logp,
  sampler_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 0.2,
  epsilon_high: float = 0.2,
  cap: float = 5.0,
  beyond: str = "mask",
):
  r"""Decoupled PPO: the trust region is around a proximal policy, not around the one that sampled.

  With `rho = exp(token_logp - old_token_logp)`, where old is the proximal policy, and
  `w = exp(old_token_logp - sampler_token_logp)` without gradient

  .. math::
    \ell = -w\,\min(\rho A,\; \mathrm{clip}(\rho, 1-e_{low}, 1+e_{high}) A)

  Where both old policies are the same it is `ppo_clip`. `w` above `cap` is set to `cap`, or such
  tokens are left out of the numerator. Where `sampler_token_logp` is NaN the weight is 1.
  Published reduction: `token`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the proximal policy; no gradient flows.
    sampler_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.
    cap: largest weight, > 0.
    beyond: what happens above it: `mask` or `cap`.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: those of `ppo_clip`, and f32[B, K, T] `ratio/behave_weight`.

  Raises:
    Refused: an epsilon or `cap` not above 0, or an unknown `beyond`.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> sampler = jnp.log(jnp.asarray([[[0.2, 0.05]]]))
    >>> logp = jnp.log(0.4 * one)
    >>> loss, _ = decoupled_ppo(logp, logp, sampler, one, one)
    >>> print(jnp.round(loss, 3))
    [[[-2. -0.]]]

  Reference: Hilton et al., "Batch size-invariance for policy optimization" (2022), eq. 2; Fu et
  al., "AReaL" (2025), section 5.2. Catalogue 2, section 4, `decoupled_ppo`.
  """
  call.positive("decoupled_ppo", epsilon_low=epsilon_low, epsilon_high=epsilon_high, cap=cap)
  if beyond not in ("mask", "cap"):
    raise Refused(f"decoupled_ppo needs beyond='mask' or 'cap'; it is {beyond!r}.")
  arrays = (token_logp, old_token_logp, advantage, mask)
  plain, cut, _, metrics = at_ratio("decoupled_ppo", *arrays, "token", epsilon_low, epsilon_high)
  _, old, sampler = ratio.counted(mask, token_logp, old_token_logp, sampler_token_logp)
  weight = jnp.exp(ratio.bounded(jnp.where(jnp.isnan(sampler), 0.0, old - sampler)))
  weight = jnp.where(weight > cap, cap if beyond == "cap" else 0.0, weight)
  metrics |= {"ratio/behave_weight": weight}
  return ratio.finish(weight * jnp.maximum(plain, cut), mask), metrics
