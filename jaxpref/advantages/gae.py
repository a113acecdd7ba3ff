"""Generalised advantage estimates: token rewards against a value function."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.advantages import whiten as whitening
from jaxpref.advantages.returns import scored_mask

INPUT = 20.0  # nats; log-ratios are clamped at this


def estimate(token_reward, value, mask, discount, decay, ratio=1.0):
  """The recursion that all functions here share; masked tokens are stepped over.

  `A_t = ratio (r_t + discount_t V_t' - V_t + discount_t decay A_t')`, where `t'` is the next
  counted token and beyond the last one V and A are 0.

  Args:
    token_reward: f32[B, K, T].
    value: f32[B, K, T].
    mask: f32[B, K, T].
    discount: f32[...] broadcast to [B, K, T].
    decay: lambda, broadcast to [B, K, T].
    ratio: truncated importance ratio, broadcast to [B, K, T].

  Returns:
    f32[B, K, T], 0 outside the mask.
  """

  def step(after, here):
    value_after, advantage_after = after
    r, v, m, g, d, w = here
    now = w * (r + g * value_after - v + g * d * advantage_after)
    kept = (jnp.where(m > 0, v, value_after), jnp.where(m > 0, now, advantage_after))
    return kept, jnp.where(m > 0, now, 0.0)

  clean = [jnp.where(mask > 0, x, 0.0) for x in (token_reward, value)]
  rest = [jnp.broadcast_to(jnp.asarray(x, jnp.float32), mask.shape) for x in (discount, decay)]
  ratio = jnp.broadcast_to(jnp.asarray(ratio, jnp.float32), mask.shape)
  rows = [jnp.moveaxis(x, -1, 0) for x in (*clean, mask, *rest, ratio)]
  start = (jnp.zeros(mask.shape[:-1], jnp.float32),) * 2
  return jnp.moveaxis(jax.lax.scan(step, start, rows, reverse=True)[1], 0, -1)


def _finish(advantage, mask, whiten):
  advantage = whitening.tokens(advantage, mask) if whiten == "token" else advantage
  return jax.lax.stop_gradient(advantage)


def gae(token_reward, value, mask, *, gamma: float = 1.0, lam: float = 0.95, whiten: str = "token"):
  r"""Generalised advantage estimate, whitened over the tokens of the batch.

  .. math:: \delta_t = r_t + \gamma V_{t'} - V_t, \quad A_t = \delta_t + \gamma \lambda A_{t'}

  where `t'` is the next counted token: value and advantage are carried over masked ones (tool
  output), and beyond the last one both are 0. Whitening uses the unbiased variance; fewer than two
  tokens give 0. A rollout with a nan reward on a counted token is unscorable: 0. With
  `gamma = lam = 1` and no whitening this is the return-to-go minus V, with V = 0 `reinforce`.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    value: f32[B, K, T], predicted return before each token.
    mask: f32[B, K, T], 1 on tokens that count.
    gamma: discount per token.
    lam: weight of longer looks ahead, 0 to 1.
    whiten: `token` or `none`.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `whiten` is another word.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(gae(jnp.asarray([[[0.0, 1.0]]]), 0.5 * one, one, lam=1.0, whiten="none"))
    [[[0.5 0.5]]]

  Reference: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
  Estimation" (2015), eq. 16. Catalogue 2, section 2, `gae`.
  """
  call.one_of("gae", ("token", "none"), whiten=whiten)
  mask = scored_mask(token_reward, mask)
  return _finish(estimate(token_reward, value, mask, gamma, lam), mask, whiten)


def gae_packed(
  token_reward,
  value,
  mask,
  done,
  *,
  gamma: float = 1.0,
  lam: float = 0.95,
  whiten: str = "none",
):
  r"""Generalised advantage estimate where a row holds several sequences after each other.

  .. math::
    A_t = r_t + (1 - d_t)\,\gamma\,(V_{t'} + \lambda A_{t'}) - V_t

  Nothing passes from behind a token with `done` to it. Else as `gae`; where a `done` stands on a
  masked token it cuts as well.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    value: f32[B, K, T], predicted return before each token.
    mask: f32[B, K, T], 1 on tokens that count.
    done: f32[B, K, T], 1 on the last token of each sequence.
    gamma: discount per token.
    lam: weight of longer looks ahead, 0 to 1.
    whiten: `token` or `none`.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `whiten` is another word.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(gae_packed(one, 0 * one, one, one))
    [[[1. 1.]]]

  Reference: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
  Estimation" (2015), eq. 16. Catalogue 2, section 2, `gae_packed`.
  """
  call.one_of("gae_packed", ("token", "none"), whiten=whiten)
  mask = scored_mask(token_reward, mask)
  discount = gamma * (1.0 - _done_before_next(done, mask))
  return _finish(estimate(token_reward, value, mask, discount, lam), mask, whiten)


def _done_before_next(done, mask):
  """1 on counted tokens where a `done` stands on them or on a masked token before the next one."""

  def step(after, here):
    d, m = here
    now = jnp.maximum((d > 0).astype(jnp.float32), jnp.where(m > 0, 0.0, after))
    # what a counted token sees: its own flag, or those of the masked tokens behind it
    seen = jnp.maximum((d > 0).astype(jnp.float32), after)
    return jnp.where(m > 0, 0.0, now), seen

  rows = (jnp.moveaxis(done, -1, 0), jnp.moveaxis(mask, -1, 0))
  start = jnp.zeros(mask.shape[:-1], jnp.float32)
  return jnp.moveaxis(jax.lax.scan(step, start, rows, reverse=True)[1], 0, -1)


def vapo_gae(
  token_reward,
  value,
  mask,
  *,
  gamma: float = 1.0,
  alpha: float = 0.05,
  whiten: str = "none",
):
  r"""Generalised advantage estimate that looks further ahead in longer answers.

  .. math:: \lambda_i = 1 - \frac{1}{\max(1, \alpha |o_i|)}

  Answers of at most `1 / alpha` tokens have `lambda = 0`. The value function is fitted to
  `value_target` with its own `lam`, 1 in the paper. Else as `gae`.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    value: f32[B, K, T], predicted return before each token.
    mask: f32[B, K, T], 1 on tokens that count.
    gamma: discount per token.
    alpha: per token of length, > 0.
    whiten: `token` or `none`.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `alpha` not above 0, or `whiten` another word.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(vapo_gae(jnp.asarray([[[0.0, 1.0]]]), 0.5 * one, one))
    [[[0.  0.5]]]

  Reference: Yue et al., "VAPO" (2025), eq. 9. Catalogue 2, section 2, `vapo_gae`.
  """
  call.positive("vapo_gae", alpha=alpha)
  call.one_of("vapo_gae", ("token", "none"), whiten=whiten)
  mask = scored_mask(token_reward, mask)
  length = mask.sum(-1, keepdims=True)
  lam = 1.0 - 1.0 / jnp.maximum(alpha * length, 1.0)
  return _finish(estimate(token_reward, value, mask, gamma, lam), mask, whiten)


def value_target(token_reward, value, mask, *, gamma: float = 1.0, lam: float = 1.0):
  r"""What a value function is fitted to: the unwhitened advantage estimate plus the value.

  .. math:: \hat V_t = A^{GAE(\gamma, \lambda)}_t + V_t

  With `lam = 1` this is the discounted return-to-go. Unscorable rollouts get 0.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    value: f32[B, K, T], predicted return before each token.
    mask: f32[B, K, T], 1 on tokens that count.
    gamma: discount per token.
    lam: weight of longer looks ahead, 0 to 1.

  Returns:
    advantage: f32[B, K, T], a return rather than an advantage; no gradient, 0 outside the mask.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(value_target(jnp.asarray([[[0.0, 1.0]]]), 0.5 * one, one))
    [[[1. 1.]]]

  Reference: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
  Estimation" (2015). Catalogue 2, section 2, `gae`.
  """
  mask = scored_mask(token_reward, mask)
  advantage = estimate(token_reward, value, mask, gamma, lam)
  return jax.lax.stop_gradient(jnp.where(mask > 0, advantage + value, 0.0))


def vtrace(
  token_reward,
  value,
  old_token_logp,
  sampler_token_logp,
  mask,
  done,
  *,
  gamma: float = 1.0,
  lam: float = 0.95,
  cap: float = 1.0,
):
  r"""V-trace: an advantage estimate for tokens that another policy sampled.

  .. math::
    A_t = \bar\rho_t\,(r_t + \gamma V_{t'} - V_t + \gamma\lambda A_{t'}), \quad
    \bar\rho_t = \min(c, \pi_{old} / \pi_{sampler})

  Equals `gae_packed` without whitening where the two policies agree and `cap >= 1`. Log-ratios are
  clamped to plus and minus 20 nats. Unscorable rollouts get 0.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    value: f32[B, K, T], predicted return before each token.
    old_token_logp: f32[B, K, T], under the policy to be improved, nats.
    sampler_token_logp: f32[B, K, T], under the policy that sampled, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    done: f32[B, K, T], 1 on the last token of each sequence.
    gamma: discount per token.
    lam: weight of longer looks ahead, 0 to 1.
    cap: largest ratio, > 0.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `cap` is not above 0.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(vtrace(one, 0 * one, -2.0 * one, -1.0 * one, one, one))
    [[[0.36787945 0.36787945]]]

  Reference: Espeholt et al., "IMPALA" (2018), eq. 1. Catalogue 2, golden rlax_returns.
  """
  call.positive("vtrace", cap=cap)
  mask = scored_mask(token_reward, mask)
  log_ratio = jnp.where(mask > 0, old_token_logp - sampler_token_logp, 0.0)
  ratio = jnp.minimum(jnp.exp(jnp.clip(log_ratio, -INPUT, INPUT)), cap)
  discount = gamma * (1.0 - _done_before_next(done, mask))
  return _finish(estimate(token_reward, value, mask, discount, lam, ratio), mask, "none")
