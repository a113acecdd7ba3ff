"""Advantages from the rewards of the tokens to come, and from another model's opinion of them."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref.advantages import whiten as whitening


def discounted(reward, mask, gamma):
  """Discounted returns-to-go over the last axis; entries outside the mask are stepped over.

  They neither give reward nor cost a step of discount.

  Args:
    reward: f32[..., T].
    mask: f32[..., T].
    gamma: discount per counted entry.

  Returns:
    f32[..., T], 0 outside the mask.

  >>> print(discounted(jnp.asarray([0.0, 9.0, 1.0]), jnp.asarray([1.0, 0.0, 1.0]), 0.5))
  [0.5 0.  1. ]
  """

  def step(after, here):
    r, m = here
    now = jnp.where(m > 0, r + gamma * after, after)
    return now, jnp.where(m > 0, now, 0.0)

  rows = (jnp.moveaxis(jnp.where(mask > 0, reward, 0.0), -1, 0), jnp.moveaxis(mask, -1, 0))
  start = jnp.zeros(reward.shape[:-1], jnp.float32)
  return jnp.moveaxis(jax.lax.scan(step, start, rows, reverse=True)[1], 0, -1)


def scored_mask(token_reward, mask):
  """The mask, 0 on rollouts with a counted token whose reward is not finite."""
  chex.assert_rank(token_reward, 3)
  chex.assert_equal_shape([token_reward, mask])
  broken = ((mask > 0) & ~jnp.isfinite(token_reward)).any(-1, keepdims=True)
  return jnp.where(broken, 0.0, mask)


def reinforce(token_reward, mask, *, gamma: float = 1.0):
  r"""Discounted return-to-go, without a baseline.

  .. math:: A_t = r_t + \gamma A_{t'}

  where `t'` is the next counted token; tokens outside the mask are stepped over without discount.
  A rollout with a nan reward on a counted token is unscorable: 0.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    mask: f32[B, K, T], 1 on tokens that count.
    gamma: discount per token.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Example:
    >>> print(reinforce(jnp.asarray([[[0.0, 0.0, 1.0]]]), jnp.ones((1, 1, 3)), gamma=0.5))
    [[[0.25 0.5  1.  ]]]

  Reference: Williams, "Simple Statistical Gradient-Following Algorithms" (1992). Catalogue 2,
  section 2, `reinforce`.
  """
  mask = scored_mask(token_reward, mask)
  return jax.lax.stop_gradient(discounted(token_reward, mask, gamma))


def reinforce_pp(token_reward, mask, *, gamma: float = 1.0, ddof: int = 1):
  r"""REINFORCE++: discounted returns-to-go, whitened over all tokens of the batch.

  .. math:: A_{it} = \mathrm{whiten}_{tokens}\Big(\sum_{u \ge t} \gamma^{u-t} r_{iu}\Big)

  The distance to the reference belongs in the token rewards. Fewer than two tokens, or no
  variance: 0. Masked tokens and unscorable rollouts as in `reinforce`.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    mask: f32[B, K, T], 1 on tokens that count.
    gamma: discount per token.
    ddof: 1 divides the variance by one less than the tokens, 0 by the tokens.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Example:
    >>> reward = jnp.asarray([[[1.0], [0.0]]])
    >>> print(reinforce_pp(reward, jnp.ones((1, 2, 1)))[0, :, 0])
    [ 0.70710677 -0.70710677]

  Reference: Hu et al., "REINFORCE++" (2025). Catalogue 2, section 2, `reinforce_pp`.
  """
  mask = scored_mask(token_reward, mask)
  returns = discounted(token_reward, mask, gamma)
  return jax.lax.stop_gradient(whitening.tokens(returns, mask, ddof=ddof))


def remax(token_reward, greedy_reward, mask):
  r"""Return-to-go against the reward of the greedy response.

  .. math:: A_{it} = \sum_{u \ge t} r_{iu} - R_{greedy}

  A prompt whose greedy reward is not finite, and an unscorable rollout, get 0.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    greedy_reward: f32[B], reward of one greedy response to the prompt.
    mask: f32[B, K, T], 1 on tokens that count.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Example:
    >>> print(remax(jnp.asarray([[[0.0, 1.0]]]), jnp.asarray([0.25]), jnp.ones((1, 1, 2))))
    [[[0.75 0.75]]]

  Reference: Li et al., "ReMax" (2023). Catalogue 2, section 2, `remax`.
  """
  mask = scored_mask(token_reward, mask)
  known = jnp.isfinite(greedy_reward)
  counted = mask * known[:, None, None]
  returns = discounted(token_reward, mask, 1.0)
  off = returns - jnp.where(known, greedy_reward, 0.0)[:, None, None]
  return jax.lax.stop_gradient(jnp.where(counted > 0, off, 0.0))


def opd(teacher_token_logp, old_token_logp, mask):
  r"""On-policy distillation: how much more the teacher likes each sampled token.

  .. math:: A_{it} = \log p_{teacher}(y_t) - \log p_{student}(y_t)

  Its mean is minus the KL of the student to the teacher. No degenerate case.

  Args:
    teacher_token_logp: f32[B, K, T], under the teacher, nats.
    old_token_logp: f32[B, K, T], under the student that sampled, nats.
    mask: f32[B, K, T], 1 on tokens that count.

  Returns:
    advantage: f32[B, K, T], nats, no gradient, 0 outside the mask.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(opd(-one, -2 * one, one))
    [[[1. 1.]]]

  Reference: Agarwal et al., "On-Policy Distillation of Language Models" (2023). Catalogue 2,
  section 2, `opd`.
  """
  chex.assert_equal_shape([teacher_token_logp, old_token_logp, mask])
  return jax.lax.stop_gradient(jnp.where(mask > 0, teacher_token_logp - old_token_logp, 0.0))
