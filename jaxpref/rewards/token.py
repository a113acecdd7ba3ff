"""Rewards of tokens: where an outcome goes, and the distance to the reference as a cost."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import kl


def at_end(reward, mask):
  r"""The outcome on the last counted token, 0 on all others.

  .. math:: r_{it} = R_i\,[t = \max\{u : m_{iu} = 1\}]

  A nan reward stays nan on that token, which makes the rollout unscorable; a response without
  tokens has none.

  Args:
    reward: f32[B, K], reward of each rollout.
    mask: f32[B, K, T], 1 on tokens that count.

  Returns:
    token_reward: f32[B, K, T].

  Example:
    >>> print(at_end(jnp.asarray([[2.0]]), jnp.asarray([[[1.0, 1.0, 0.0]]])))
    [[[0. 2. 0.]]]

  Reference: Stiennon et al., "Learning to Summarize from Human Feedback" (2020). Catalogue 2,
  section 5.
  """
  chex.assert_equal_shape_prefix([reward, mask], 2)
  counted = mask > 0
  behind = jnp.cumsum(counted[..., ::-1], -1)[..., ::-1]
  return jnp.where(counted & (behind == 1), reward[..., None], 0.0)


def minus_kl(
  token_reward, old_token_logp, ref_token_logp, mask, *, beta: float = 0.05, kind: str = "k1"
):
  r"""Token rewards minus the distance to the reference.

  .. math:: r_{it} - \beta\,KL_{it}

  Args:
    token_reward: f32[B, K, T], reward of each token.
    old_token_logp: f32[B, K, T], under the policy that the batch came to, nats.
    ref_token_logp: f32[B, K, T], under the reference, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    beta: reward units per nat.
    kind: estimate of the distance, see `jaxpref.kl`.

  Returns:
    token_reward: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `kind` is another word.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(minus_kl(0 * one, -one, -3.0 * one, one, beta=0.5))
    [[[-1. -1.]]]

  Reference: Ziegler et al., "Fine-Tuning Language Models from Human Preferences" (2019), eq. 2.
  Catalogue 2, section 5.
  """
  chex.assert_equal_shape([token_reward, old_token_logp, ref_token_logp, mask])
  cost = beta * kl.estimate(old_token_logp, ref_token_logp, kind=kind)
  return jax.lax.stop_gradient(jnp.where(mask > 0, token_reward - cost, 0.0))
