"""Optimal token baselines: one baseline per group and position, by path variance."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.advantages.returns import discounted, scored_mask

SMALL = 1e-8  # added to the sum of weights
TAILS = ("zero", "keep")


def otb(token_reward, old_token_logp, old_collision, mask, *, tail: str = "zero"):
  r"""Optimal token baseline, over the counted tokens of a prompt's rollouts.

  .. math::
    A_{it} = G_{it} - \frac{\sum_j G_{jt} W_{jt}}{\sum_j W_{jt} + 10^{-8}}, \quad
    W_{it} = \sum_{s \le t} \Big(1 - 2 \pi_{is} + \sum_v \pi_{isv}^2\Big)

  with returns-to-go G; `t` counts the counted tokens only, so tool output between turns moves
  nothing (the multi-turn form), and only rollouts that have a `t`-th token enter its sums. The
  tail of a single longest answer has no peer: its baseline is 0 with `tail='zero'`, and with `keep`
  its own return, so that its advantage is nearly 0. A prompt with one rollout has baseline 0. A
  rollout with a nan reward is unscorable: 0.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    old_token_logp: f32[B, K, T], under the policy that sampled, nats.
    old_collision: f32[B, K, T], log of the sum of its squared probabilities, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    tail: `zero` or `keep`.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `tail` is another word.

  Example:
    >>> one = jnp.ones((1, 2, 1))
    >>> print(otb(jnp.asarray([[[1.0], [0.0]]]), -one, -one, one)[0, :, 0])
    [ 0.5 -0.5]

  Reference: "Optimal token baseline" of verl (2025). Catalogue 2, section 2, `otb`.
  """
  return otb_rollout(
    token_reward, old_token_logp, old_collision, jnp.ones_like(mask), mask, tail=tail
  )


def otb_rollout(
  token_reward, old_token_logp, old_collision, rollout_weight, mask, *, tail: str = "zero"
):
  r"""Optimal token baseline where tokens carry a rollout weight.

  .. math:: W_{it} = \sum_{s \le t} w_{is}^2 \Big(1 - 2 \pi_{is} + \sum_v \pi_{isv}^2\Big)

  Else as `otb`; the weight does not multiply the advantage.

  Args:
    token_reward: f32[B, K, T], reward of each token.
    old_token_logp: f32[B, K, T], under the policy that sampled, nats.
    old_collision: f32[B, K, T], log of the sum of its squared probabilities, nats.
    rollout_weight: f32[B, K, T], importance weight of the rollout correction.
    mask: f32[B, K, T], 1 on tokens that count.
    tail: `zero` or `keep`.

  Returns:
    advantage: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `tail` is another word.

  Example:
    >>> one = jnp.ones((1, 2, 1))
    >>> weight = jnp.asarray([[[1.0], [3.0]]])
    >>> print(otb_rollout(jnp.asarray([[[1.0], [0.0]]]), -one, -one, weight, one)[0, :, 0])
    [ 0.9 -0.1]

  Reference: "Optimal token baseline" of verl (2025). Catalogue 2, section 2, `otb`.
  """
  call.one_of("otb", TAILS, tail=tail)
  mask = scored_mask(token_reward, mask)
  order = jnp.argsort(mask <= 0, axis=-1, stable=True)  # counted tokens first
  packed = lambda x: jnp.take_along_axis(x, order, axis=-1)
  m = (packed(mask) > 0).astype(jnp.float32)
  clean = lambda x: jnp.where(m > 0, packed(x), 0.0)
  returns = discounted(clean(token_reward), m, 1.0)
  variance = 1.0 - 2.0 * jnp.exp(clean(old_token_logp)) + jnp.exp(clean(old_collision))
  weight = jnp.cumsum(variance * clean(rollout_weight) ** 2 * m, -1) * m
  baseline = (returns * weight).sum(1) / (weight.sum(1) + SMALL)
  here = m.sum(1)  # rollouts that have a t-th token
  lonely = (here <= 1) if tail == "zero" else (here[:, :1] <= 1)
  advantage = (returns - jnp.where(lonely, 0.0, baseline)[:, None]) * m
  back = jnp.argsort(order, axis=-1, stable=True)
  return jax.lax.stop_gradient(jnp.take_along_axis(advantage, back, axis=-1))
