"""Joint preferences: pairs whose responses answer different instructions."""

from __future__ import annotations

import chex
import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards


def dove(
  logp,
  ref_logp,
  prompt_logp,
  ref_prompt_logp,
  *,
  beta: float = 0.1,
  prompt_weight: float = 1.0,
):
  r"""Joint preference optimisation: DPO on instruction and response together.

  With `h = log-ratio to the reference` of response and of instruction

  .. math:: \ell = -\log \sigma(\beta [h(y_0 | x_0) - h(y_1 | x_1)
    + \lambda (h(x_0) - h(x_1))])

  Where both candidates answer the same instruction the second bracket is 0 and it is `dpo`. At
  `lambda = 0` only the responses count, whatever they answer. Long instructions dominate the sum.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    prompt_logp: f32[B, 2], summed log-probability of each instruction under the policy, nats.
    ref_prompt_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0.
    prompt_weight: `lambda`, at least 0; 1 in the paper.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` and `logps/*` of f32[B]; the reward is that of instruction and response.

  Raises:
    Refused: not two candidates, or a knob out of its range.

  Example:
    >>> loss, _ = dove(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.full((1, 2), -30.0), jnp.full((1, 2), -31.0))
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Bansal et al., "Comparing Bad Apples to Good Oranges: Aligning Large Language Models
  via Joint Preference Optimization" (2024) (card: papers/dove.md).
  """
  call.positive("dove", beta=beta)
  call.at_least("dove", 0, prompt_weight=prompt_weight)
  call.candidates("dove", 2, logp=logp, ref_logp=ref_logp)
  chex.assert_equal_shape([logp, ref_logp, prompt_logp, ref_prompt_logp])
  ratio = logp - jax.lax.stop_gradient(ref_logp)
  prompts = prompt_logp - jax.lax.stop_gradient(ref_prompt_logp)
  reward = beta * (ratio + prompt_weight * prompts)
  loss = jax.nn.softplus(reward[:, 1] - reward[:, 0])
  return loss, pair_rewards(reward) | pair_logps(logp)
