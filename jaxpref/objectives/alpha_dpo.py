"""alpha-DPO: SimPO whose target margin follows how far each pair has moved."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import average_logp, masked_mean, pair_logps, pair_rewards, safe_divide
from jaxpref.objectives.ratios import log_ratios
from jaxpref.types import Refused

COUPLED = True  # the batch's mean and deviation are part of the target


def alpha_dpo(
  logp,
  ref_logp,
  length,
  weight,
  carry,
  *,
  beta: float = 2.5,
  gamma: float = 1.5,
  alpha: float = 0.2,
  decay: float = 0.9,
):
  r"""alpha-DPO: SimPO with a target margin of each pair, larger where the policy is ahead.

  With log-probabilities per token `p = logp / length` and `q = ref_logp / length`, the pair's
  `M = (p_0 - q_0) - (p_1 - q_1)`, and `mu`, `s` the moving mean and deviation of `M` over the
  batches, this one included

  .. math::
    \ell = -\log \sigma\left(\beta (p_0 - p_1) - \gamma - \beta \alpha \frac{M - \mu}{s}\right)

  The target, from `M` on, gets no gradient. `mu` and `s` start at 0 and take in `1 - decay` of
  each batch's mean and deviation before they are used. Where `s` is 0 (the policy equals the
  reference) the last term is 0. `alpha = 0` is SimPO.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    length: f32[B, 2], response tokens that count.
    weight: f32[B], weight of each pair in mean and deviation; 0 leaves it out.
    carry: f32[] `mean` and `std`, mu and s so far; no gradient flows.
    beta: reward units per nat per token, > 0.
    gamma: margin that is asked for, in reward units (`beta` times the paper's ratio).
    alpha: nats per token for each deviation that a pair is ahead.
    decay: of the moving mean and deviation, at least 0 and below 1.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp) / length`, `logps/*` of
      f32[B], nats, and `gap_mean` and `gap_std` of f32[B], mu and s, the same in every row.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `decay` outside its range.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> one = jnp.ones(1)
    >>> loss, _ = alpha_dpo(logp, ref_logp, jnp.asarray([[20.0, 24.0]]), one, init_carry())
    >>> print(f"{loss[0]:.6f}")  # a single pair has no deviation
    1.701413

  Reference: Wu et al., "AlphaDPO: Adaptive Reward Margin is What Direct Preference Optimization
  Needs" (2024). Catalogue 1, section 2, `alpha_dpo`.
  """
  call.positive("alpha_dpo", beta=beta)
  if not 0 <= decay < 1:
    raise Refused(f"alpha_dpo needs decay of at least 0 and below 1; it is {decay}.")
  ratio = average_logp(log_ratios("alpha_dpo", logp, ref_logp), length)
  call.candidates("alpha_dpo", 2, length=length)
  chex.assert_equal_shape([logp, length])
  chex.assert_shape(weight, logp.shape[:1])
  gap = jax.lax.stop_gradient(ratio[:, 0] - ratio[:, 1])
  mean, std = jax.lax.stop_gradient(_moments(gap, weight, carry, decay))
  average = average_logp(logp, length)
  target = gamma + beta * alpha * safe_divide(gap - mean, std)
  loss = jax.nn.softplus(target - beta * (average[:, 0] - average[:, 1]))
  metrics = pair_rewards(beta * ratio) | pair_logps(logp)
  return loss, metrics | {"gap_mean": jnp.full_like(gap, mean), "gap_std": jnp.full_like(gap, std)}


def _moments(gap, weight, carry, decay):
  """Moving mean and deviation with this batch in them; one row has deviation 0."""
  mean = masked_mean(gap, weight)
  count = (weight > 0).sum()
  variance = masked_mean((gap - mean) ** 2, weight) * safe_divide(count, count - 1.0)
  take = lambda old, new: decay * old + (1 - decay) * new
  return take(carry["mean"], mean), take(carry["std"], jnp.sqrt(variance))


def init_carry():
  """The memory before the first step.

  >>> print(init_carry()["std"])
  0.0
  """
  return {"mean": jnp.float32(0), "std": jnp.float32(0)}


def next_carry(carry, metrics):
  """The memory after a step.

  Args:
    carry: the memory before it.
    metrics: f32[], the step's means of what the objective reported.
  """
  del carry  # `metrics` hold the moments with the old ones in them
  return {"mean": metrics["gap_mean"], "std": metrics["gap_std"]}
