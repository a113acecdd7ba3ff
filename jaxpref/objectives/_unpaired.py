"""What objectives of single responses share: their check and their metrics by class."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call


def check(name: str, **arrays) -> None:
  """Refuses arrays that are not [B, 1] of one size."""
  call.candidates(name, 1, **arrays)
  chex.assert_equal_shape(list(arrays.values()))


def report(reward, logp, desirable):
  """Rewards and log-probabilities of each class, as pairs `(value, count)` of f32[B].

  Args:
    reward: f32[B], reward units.
    logp: f32[B], nats.
    desirable: bool[B].

  Returns:
    `rewards/chosen` and `logps/chosen` of the desirable, `rewards/rejected` and `logps/rejected`
    of the undesirable responses.
  """
  reward, logp = jax.lax.stop_gradient((reward, logp))
  chosen = desirable.astype(jnp.float32)
  return {
    "rewards/chosen": (reward, chosen),
    "rewards/rejected": (reward, 1 - chosen),
    "logps/chosen": (logp, chosen),
    "logps/rejected": (logp, 1 - chosen),
  }
