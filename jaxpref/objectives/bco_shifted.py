"""Binary classifier optimisation on pairs, shifted by the running mean of the rewards."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import masked_mean, pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios

COUPLED = True  # the batch's mean reward is part of the shift


def bco_pair_shifted(logp, ref_logp, weight, carry, *, beta: float = 0.1):
  r"""Binary classifier optimisation, with rewards measured from their running mean.

  With rewards `r_0 = beta (logp_0 - ref_logp_0)` (preferred), `r_1 = beta (logp_1 - ref_logp_1)`
  and `d` the mean, over all steps so far and this one, of the batch's mean reward

  .. math:: \ell = -\log \sigma(r_0 - d) - \log \sigma(-(r_1 - d))

  The shift gets no gradient; this batch enters it before it is used. Every step counts alike,
  whatever its size. It is 2 log 2 where the policy equals the reference and has always done so.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    weight: f32[B], weight of each pair in the batch's mean; 0 leaves it out.
    carry: f32[] `mean` of the batch means so far and `count` of steps; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)` (not shifted), `logps/*`
      of f32[B], nats, and `reward_mean` f32[B], the shift, the same in every row.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, metrics = bco_pair_shifted(logp, ref_logp, jnp.ones(1), init_carry())
    >>> print(f"{loss[0]:.6f} {metrics['reward_mean'][0]:.3f}")
    1.312700 0.025

  Reference: Jung et al., "Binary Classifier Optimization for Large Language Model Alignment"
  (2024). Catalogue 1, section 2, `bco_pair`, and section 10, point 6.
  """
  call.positive("bco_pair_shifted", beta=beta)
  reward = beta * log_ratios("bco_pair_shifted", logp, ref_logp)
  chex.assert_shape(weight, logp.shape[:1])
  shift = jax.lax.stop_gradient(_shift(reward, weight, carry))
  loss = jax.nn.softplus(shift - reward[:, 0]) + jax.nn.softplus(reward[:, 1] - shift)
  metrics = pair_rewards(reward) | pair_logps(logp)
  return loss, metrics | {"reward_mean": jnp.full_like(loss, shift)}


def _shift(reward, weight, carry):
  """f32[], the running mean with this batch in it."""
  batch = masked_mean(reward.mean(1), weight)
  return carry["mean"] + (batch - carry["mean"]) / (carry["count"] + 1)


def init_carry():
  """The memory before the first step.

  >>> print(init_carry()["count"])
  0.0
  """
  return {"mean": jnp.float32(0), "count": jnp.float32(0)}


def next_carry(carry, metrics):
  """The memory after a step.

  Args:
    carry: the memory before it.
    metrics: f32[], the step's means of what the objective reported.
  """
  return {"mean": metrics["reward_mean"], "count": carry["count"] + 1}
