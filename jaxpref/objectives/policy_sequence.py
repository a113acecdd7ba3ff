"""Policy losses whose ratio belongs to a whole response: GSPO, LUSPO, GMPO, RLOO."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.objectives import policy_clip, ratio


def gspo(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 3e-4,
  epsilon_high: float = 4e-4,
):
  r"""Group sequence policy optimisation: one clipped ratio per response.

  With `d = token_logp - old_token_logp` and `|o|` tokens that count

  .. math::
    s = \exp\Big(\frac{1}{|o|} \sum_t d_t\Big), \qquad
    \ell = -\min(s A,\; \mathrm{clip}(s, 1 - e_{low}, 1 + e_{high}) A)

  The geometric mean does not grow with length, so the trust region is far narrower than that of
  token ratios. The loss stands at every token of its response: with the published reduction,
  `sequence`, each response has one vote; with `token` it counts as often as it has tokens.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.

  Returns:
    loss: f32[B, K, T], the response's value at each of its tokens, not reduced.
    metrics: those of `ppo_clip`.

  Raises:
    Refused: an epsilon not above 0.

  Example:
    >>> old, one = jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 2))
    >>> loss, _ = gspo(jnp.asarray([[[0.3, -0.1]]]), old, -one, one)
    >>> print(f"{loss[0, 0, 0]:.5f} {loss[0, 0, 1]:.5f}")
    1.10517 1.10517

  Reference: Zheng et al., "Group Sequence Policy Optimization" (2025), eq. 5 to 7. Catalogue 2,
  section 4, `gspo`.
  """
  call.positive("gspo", epsilon_low=epsilon_low, epsilon_high=epsilon_high)
  return _clip("gspo", (token_logp, old_token_logp, advantage, mask), epsilon_low, epsilon_high)


def _clip(name, arrays, epsilon_low, epsilon_high, level="sequence"):
  """The clipped loss with one ratio per response."""
  plain, cut, _, metrics = policy_clip.at_ratio(name, *arrays, level, epsilon_low, epsilon_high)
  return ratio.finish(jnp.maximum(plain, cut), arrays[-1]), metrics


def gspo_token(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 3e-4,
  epsilon_high: float = 4e-4,
  max_log_ratio: float = 10.0,
):
  r"""GSPO with advantages per token: the response's ratio as value, the token's gradient.

  With `s` the ratio of `gspo` and `sg` a value without gradient

  .. math::
    s_t = \mathrm{sg}(s)\, \frac{\pi_t}{\mathrm{sg}(\pi_t)}, \qquad
    \ell_t = -\min(s_t A_t,\; \mathrm{clip}(s_t, 1 - e_{low}, 1 + e_{high}) A_t)

  Loss values are those of `gspo`; so are the gradients with the published reduction, `sequence`,
  where the advantage is the same along a response.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.
    max_log_ratio: nats; larger log-ratios are cut here and have no gradient, > 0.

  Returns:
    loss: f32[B, K, T], one value per token, not reduced; 0 on tokens that do not count.
    metrics: those of `ppo_clip`.

  Raises:
    Refused: a knob not above 0.

  Example:
    >>> old, one = jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 2))
    >>> loss, _ = gspo_token(jnp.asarray([[[0.3, -0.1]]]), old, -one, one)
    >>> print(f"{loss[0, 0, 0]:.5f} {loss[0, 0, 1]:.5f}")
    1.10517 1.10517

  Reference: Zheng et al., "Group Sequence Policy Optimization" (2025), eq. 13 and 14. Catalogue
  2, section 4, `gspo_token`.
  """
  knobs = {"epsilon_low": epsilon_low, "epsilon_high": epsilon_high}
  call.positive("gspo_token", **knobs, max_log_ratio=max_log_ratio)
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  sequence = jax.lax.stop_gradient(ratio.mean(logp - old, mask))
  log_ratio = sequence + (logp - jax.lax.stop_gradient(logp))
  log_ratio = jnp.minimum(ratio.bounded(log_ratio), max_log_ratio)
  loss = jnp.maximum(*ratio.clipped(log_ratio, advantage, epsilon_low, epsilon_high))
  metrics = ratio.report(logp - old, log_ratio)
  metrics |= ratio.clip_report(log_ratio, advantage, epsilon_low, epsilon_high)
  return ratio.finish(loss, mask), metrics


def luspo(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 3e-4,
  epsilon_high: float = 4e-4,
):
  r"""Length-unbiased sequence policy optimisation: GSPO's loss, weighted by length.

  With `s` the ratio of `gspo` and `|o|` tokens that count

  .. math:: \ell = -\min(s A,\; \mathrm{clip}(s, 1 - e_{low}, 1 + e_{high}) A)
     \quad\text{at each of the } |o| \text{ tokens}

  Per token it is `gspo`; what differs is the published reduction, `sequence_sum`, in which the
  sum over a response's tokens is `|o|` times its loss. The defaults are GSPO's: our sources do
  not give the paper's.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.

  Returns:
    loss: f32[B, K, T], the response's value at each of its tokens, not reduced.
    metrics: those of `ppo_clip`.

  Raises:
    Refused: an epsilon not above 0.

  Example:
    >>> old, one = jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 2))
    >>> loss, _ = luspo(jnp.asarray([[[0.3, -0.1]]]), old, -one, one)
    >>> print(f"{loss.sum():.5f}")
    2.21034

  Reference: "Length-Unbiased Sequence Policy Optimization" (2026), arXiv 2602.05261. Catalogue 2,
  section 4, `luspo`.
  """
  call.positive("luspo", epsilon_low=epsilon_low, epsilon_high=epsilon_high)
  return _clip("luspo", (token_logp, old_token_logp, advantage, mask), epsilon_low, epsilon_high)


def rloo_loss(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 0.2,
  epsilon_high: float = 0.2,
):
  r"""The loss that goes with RLOO: a clipped ratio of whole responses' probabilities.

  With `d = token_logp - old_token_logp`

  .. math::
    s = \exp\Big(\sum_t d_t\Big), \qquad
    \ell = -\min(s A,\; \mathrm{clip}(s, 1 - e_{low}, 1 + e_{high}) A)

  The sum grows with length, so long responses leave the trust region at once: for off-policy
  batches prefer `gspo` or `ppo_clip`. On the first step its gradient is that of `reinforce` with
  sums over tokens. Published reduction: `sequence`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: how far below 1 the ratio may fall, > 0.
    epsilon_high: how far above 1 the ratio may rise, > 0.

  Returns:
    loss: f32[B, K, T], the response's value at each of its tokens, not reduced.
    metrics: those of `ppo_clip`.

  Raises:
    Refused: an epsilon not above 0.

  Example:
    >>> old, one = jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 2))
    >>> loss, _ = rloo_loss(jnp.asarray([[[0.3, -0.1]]]), old, -one, one)
    >>> print(f"{loss[0, 0, 0]:.5f}")
    1.22140

  Reference: Ahmadian et al., "Back to Basics: Revisiting REINFORCE Style Optimization for
  Learning from Human Feedback in LLMs" (2024), section 3; the clipped form is TRL's. Catalogue 2,
  section 4, `rloo_loss`.
  """
  call.positive("rloo_loss", epsilon_low=epsilon_low, epsilon_high=epsilon_high)
  arrays = (token_logp, old_token_logp, advantage, mask)
  return _clip("rloo_loss", arrays, epsilon_low, epsilon_high, level="product")


def gmpo(
  token_logp,
  old_token_logp,
  advantage,
  mask,
  *,
  epsilon_low: float = 0.4,
  epsilon_high: float = 0.4,
):
  r"""Geometric-mean policy optimisation: clipped log-ratios, averaged, then exponentiated.

  With `d = token_logp - old_token_logp`, `|o|` tokens that count and the response's advantage `A`

  .. math::
    \ell = -A \exp\Big(\frac{1}{|o|} \sum_t c(d_t)\Big), \qquad
    c(d) = \begin{cases} \min(d, e_{high}) & A > 0 \\ \max(d, -e_{low}) & A < 0 \end{cases}

  Clipping is per token and in log space, so one outlier neither decides the ratio nor removes the
  gradient of the others. Published reduction: `sequence`.

  Args:
    token_logp: f32[B, K, T], log-probability of each token under the policy, nats.
    old_token_logp: f32[B, K, T], the same under the policy that sampled; no gradient flows.
    advantage: f32[B, K, T], reward units; the sign is taken per token, the factor is the mean over
      the response; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    epsilon_low: nats by which a log-ratio may fall below 0, > 0.
    epsilon_high: nats by which it may rise above 0, > 0.

  Returns:
    loss: f32[B, K, T], the response's value at each of its tokens, not reduced.
    metrics: f32[B, K, T], `ratio/mean`, `kl/old` (`old - new`, nats), and 1
      where a token is clipped: `ratio/clip_low`, `ratio/clip_high`, `ratio/clip`.

  Raises:
    Refused: an epsilon not above 0.

  Example:
    >>> old, one = jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 2))
    >>> loss, _ = gmpo(jnp.asarray([[[0.6, -0.6]]]), old, one, one)
    >>> print(f"{loss[0, 0, 0]:.6f}")
    -0.904837

  Reference: Zhao et al., "Geometric-Mean Policy Optimization" (2025), eq. 4. Catalogue 2,
  section 4, `gmpo`.
  """
  call.positive("gmpo", epsilon_low=epsilon_low, epsilon_high=epsilon_high)
  logp, old, advantage = ratio.counted(mask, token_logp, old_token_logp, advantage)
  d = logp - old
  cut = jnp.where(advantage < 0, jnp.maximum(d, -epsilon_low), jnp.minimum(d, epsilon_high))
  log_ratio = jnp.broadcast_to(ratio.bounded(ratio.mean(cut, mask)), d.shape)
  loss = -ratio.mean(advantage, mask) * jnp.exp(log_ratio)
  metrics = ratio.report(d, log_ratio) | _log_clip(d, advantage, epsilon_low, epsilon_high)
  return ratio.finish(loss, mask), metrics


def _log_clip(d, advantage, epsilon_low, epsilon_high):
  """Which tokens GMPO clips."""
  d = jax.lax.stop_gradient(d)
  low = ((d < -epsilon_low) & (advantage < 0)).astype(jnp.float32)
  high = ((d > epsilon_high) & (advantage > 0)).astype(jnp.float32)
  named = {"ratio/clip_low": low, "ratio/clip_high": high}
  return named | {"ratio/clip": low + high}
