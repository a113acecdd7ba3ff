"""Importance ratios of policy losses, at the level of tokens, segments or sequences.

Every policy loss is f32[B, K, T], one number per token. A loss of whole sequences stands at each
of their tokens that count, so that `reduce` decides how sequences of unequal length weigh:
`sequence` gives each one vote. Weights of a rollout correction and token selections (`keep`) are
not read here: a loss is not reduced yet, so `reduce.weights(..., keep=keep)` multiplies it, and
the denominators stay those of `mask`. A row that must also leave the denominators leaves `mask`.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import safe_divide
from jaxpref.types import Refused

LEVELS = ("token", "sequence", "product")
BOUND = 20.0  # nats; log-ratios are cut here before exp, and their gradient beyond is 0


def counted(mask, token_logp, *frozen):
  """Arrays with 0 where no token counts; only the first keeps its gradient.

  Args:
    mask: f32[B, K, T], 1 on response tokens that count.
    token_logp: f32[B, K, T], or what else has a gradient.
    *frozen: f32[B, K, T].
  """
  chex.assert_rank(mask, 3)
  chex.assert_equal_shape([mask, token_logp, *frozen])
  alive = mask > 0
  rest = (jax.lax.stop_gradient(jnp.where(alive, x, 0.0)) for x in frozen)
  return jnp.where(alive, token_logp, 0.0), *rest


def bounded(log_ratio):
  """Log-ratio cut to +-20 nats, so that its exp is finite.

  >>> print(bounded(jnp.asarray([-1e6, 0.5])))
  [-20.    0.5]
  """
  return jnp.clip(log_ratio, -BOUND, BOUND)


def absolute(x):
  """`|x|` with gradient 0 at 0, where a policy starts."""
  return x * jax.lax.stop_gradient(jnp.sign(x))


def mean(x, mask):
  """f32[B, K, 1], mean over the tokens that count; 0 for an empty sequence."""
  return safe_divide((x * mask).sum(-1, keepdims=True), mask.sum(-1, keepdims=True))


def at_level(name, level, log_ratio, mask):
  """Log-ratio of each token at a level, bounded.

  Args:
    name: of the objective, for the refusal.
    level: `token`; `sequence`, the mean over the sequence's tokens (the ratio is a geometric
      mean); `product`, the sum (the ratio of the sequences' probabilities).
    log_ratio: f32[B, K, T], nats, 0 where no token counts.
    mask: f32[B, K, T].

  Returns:
    f32[B, K, T].

  Raises:
    Refused: an unknown level.
  """
  if level not in LEVELS:
    raise Refused(f"{name} has no level {level!r}. {call.nearest(level, LEVELS)}It has: {LEVELS}.")
  if level == "token":
    return bounded(log_ratio)
  total = mean(log_ratio, mask)
  if level == "product":
    total = (log_ratio * mask).sum(-1, keepdims=True)
  return jnp.broadcast_to(bounded(total), log_ratio.shape)


def at_segments(log_ratio, mask, segment):
  """Mean log-ratio of each token's segment, bounded; tokens outside (-1) share one segment.

  Args:
    log_ratio: f32[B, K, T], nats, 0 where no token counts.
    mask: f32[B, K, T].
    segment: i32[B, K, T], at most T segments, numbered from 0.

  Returns:
    f32[B, K, T].
  """
  total, count = (segment_sum(x, segment) for x in (log_ratio * mask, mask))
  return bounded(safe_divide(total, count))


def segment_sum(x, segment):
  """f32[B, K, T], at each token the sum of `x` over its segment.

  >>> x, segment = jnp.asarray([[[1.0, 2.0, 4.0]]]), jnp.asarray([[[0, 0, 1]]])
  >>> print(segment_sum(x, segment))
  [[[3. 3. 4.]]]
  """
  size = x.shape[-1] + 1
  place = jnp.clip(segment.astype(jnp.int32) + 1, 0, size - 1)
  one = lambda values, where: jax.ops.segment_sum(values, where, size)[where]
  return jax.vmap(jax.vmap(one))(x, place)


def clipped(log_ratio, advantage, epsilon_low, epsilon_high):
  """The two candidates of a clipped loss: `-rho A` and `-clip(rho) A`, f32[B, K, T]."""
  ratio = jnp.exp(log_ratio)
  cut = jnp.clip(ratio, 1 - epsilon_low, 1 + epsilon_high)
  return -ratio * advantage, -cut * advantage


def finish(loss, mask):
  """The loss with 0 where no token counts."""
  return jnp.where(mask > 0, loss, 0.0)


def report(token_log_ratio, log_ratio):
  """What every loss with a ratio reports: `ratio/mean` and `kl/old`.

  Args:
    token_log_ratio: f32[B, K, T], `log pi - log pi_old` of each token, nats.
    log_ratio: f32[B, K, T], of the ratio that the loss uses.
  """
  token_log_ratio, log_ratio = jax.lax.stop_gradient((token_log_ratio, log_ratio))
  return {"ratio/mean": jnp.exp(log_ratio), "kl/old": -token_log_ratio}


def clip_report(log_ratio, advantage, epsilon_low, epsilon_high):
  """Where clipping acts: low with advantages below 0, high with advantages above 0.

  Returns:
    dict of f32[B, K, T], 1 where a token is clipped: `ratio/clip_low`,
    `ratio/clip_high` and `ratio/clip`, either of them.
  """
  ratio, advantage = jnp.exp(jax.lax.stop_gradient(log_ratio)), jax.lax.stop_gradient(advantage)
  low = ((ratio < 1 - epsilon_low) & (advantage < 0)).astype(jnp.float32)
  high = ((ratio > 1 + epsilon_high) & (advantage > 0)).astype(jnp.float32)
  named = {"ratio/clip_low": low, "ratio/clip_high": high}
  return named | {"ratio/clip": low + high}


def token_report(log_ratio):
  """`report` of a loss whose ratio is that of tokens."""
  return report(log_ratio, log_ratio)
