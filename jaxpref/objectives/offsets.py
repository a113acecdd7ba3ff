"""DPO whose margin must exceed an offset of each pair."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios
from jaxpref.types import Refused

FLOOR = 1e-6  # the least reward gap that `odpo` takes the logarithm of
SCALES = ("log", "identity")


def odpo(logp, ref_logp, reward, *, beta: float = 0.1, alpha: float = 1.0, scale: str = "log"):
  r"""DPO with an offset: a pair that is rated far apart needs a larger margin.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred) and `b = logp_1 - ref_logp_1`

  .. math::
    \ell = -\log \sigma\left(\beta (a - b) - \alpha f(r_0 - r_1)\right)

  where `r = reward` and `f` is the logarithm or the identity. With the logarithm a gap below
  0.000001, a tie or a pair in the wrong order, counts as 0.000001: an offset of `-13.8 alpha`,
  which makes the pair count for almost nothing. `alpha = 0` is DPO.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    reward: f32[B, 2], rating of each response in any unit, the preferred one's above; no gradient
      flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    alpha: size of the offset, at least 0.
    scale: `f`, `"log"` (an offset of 0 at a gap of 1) or `"identity"`.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, `logps/*` of f32[B],
      nats, and `offset` f32[B], `alpha * f(gap)`.

  Raises:
    Refused: not two candidates, `beta` not above 0, a negative `alpha`, or an unknown `scale`.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = odpo(logp, ref_logp, jnp.asarray([[0.8, 0.5]]), scale="identity")
    >>> print(f"{loss[0]:.6f}")
    0.770957

  Reference: Amini et al., "Direct Preference Optimization with an Offset" (2024). Catalogue 1,
  section 2, `odpo`.
  """
  call.positive("odpo", beta=beta)
  if not alpha >= 0:
    raise Refused(f"odpo needs alpha of at least 0; it is {alpha}.")
  if scale not in SCALES:
    raise Refused(f"odpo has no scale {scale!r}. {call.nearest(scale, SCALES)}It has: {SCALES}.")
  own = beta * log_ratios("odpo", logp, ref_logp)
  call.candidates("odpo", 2, reward=reward)
  chex.assert_equal_shape([logp, reward])
  gap = jax.lax.stop_gradient(reward[:, 0] - reward[:, 1])
  offset = alpha * (jnp.log(jnp.maximum(gap, FLOOR)) if scale == "log" else gap)
  loss = jax.nn.softplus(offset - (own[:, 0] - own[:, 1]))
  return loss, pair_rewards(own) | pair_logps(logp) | {"offset": offset}


def margin_dpo(logp, ref_logp, strength, *, beta: float = 0.1):
  r"""DPO with the margin that the data give: how strongly people preferred the response.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred) and `b = logp_1 - ref_logp_1`

  .. math:: \ell = -\log \sigma\left(\beta (a - b) - m\right)

  where `m = strength`. A margin of 0 is DPO.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    strength: f32[B], the margin that is asked for, in reward units; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = margin_dpo(logp, ref_logp, jnp.asarray([0.3]))
    >>> print(f"{loss[0]:.6f}")
    0.770957

  Reference: Touvron et al., "Llama 2: Open Foundation and Fine-Tuned Chat Models" (2023), eq. 2,
  whose margin this takes over to DPO. Catalogue 1, section 2, `margin_dpo`.
  """
  call.positive("margin_dpo", beta=beta)
  reward = beta * log_ratios("margin_dpo", logp, ref_logp)
  chex.assert_shape(strength, logp.shape[:1])
  margin = reward[:, 0] - reward[:, 1] - jax.lax.stop_gradient(strength)
  return jax.nn.softplus(-margin), pair_rewards(reward) | pair_logps(logp)
