"""DPO with the lengths of the responses in it: averaged, regularised or as a weight."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import average_logp, pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios
from jaxpref.types import Refused


def dpo_norm(logp, ref_logp, length, *, beta: float = 5.0):
  r"""Length-normalised DPO: the logistic loss on log-ratios averaged over the tokens.

  With log-ratios per token `a = (logp_0 - ref_logp_0) / length_0` (preferred) and
  `b = (logp_1 - ref_logp_1) / length_1`

  .. math:: \ell = -\log \sigma(\beta (a - b))

  It is log 2 where the policy equals the reference. `beta` is per token, so it is much larger than
  DPO's. An empty response has log-ratio 0.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    length: f32[B, 2], response tokens that count.
    beta: reward units per nat per token, > 0; larger stays nearer to the reference.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)` (sums, as other libraries
      report), `logps/*` of f32[B], nats, and `margin` f32[B], the `a - b` that the loss sees.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = dpo_norm(logp, ref_logp, jnp.asarray([[20.0, 24.0]]), beta=0.1)
    >>> print(f"{loss[0]:.6f}")
    0.689612

  Reference: Lambert et al., "Tulu 3: Pushing Frontiers in Open Language Model Post-Training"
  (2024). Catalogue 1, section 2, `dpo_norm`.
  """
  call.positive("dpo_norm", beta=beta)
  ratio = _with_lengths("dpo_norm", logp, ref_logp, length)
  average = average_logp(ratio, length)
  margin = average[:, 0] - average[:, 1]
  metrics = pair_rewards(beta * ratio) | pair_logps(logp)
  return jax.nn.softplus(-beta * margin), metrics | {"margin": jax.lax.stop_gradient(margin)}


def rdpo_length(logp, ref_logp, length, *, beta: float = 0.1, alpha: float = 0.01):
  r"""Length-regularised DPO (R-DPO): longer preferred responses need less of a margin.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred) and `b = logp_1 - ref_logp_1`

  .. math:: \ell = -\log \sigma\left(\beta (a - b) + \alpha (n_0 - n_1)\right)

  where `n = length`. The extra tokens of a longer preferred response explain a part of the
  preference, so its gradient is smaller. Equal lengths give DPO. One repository subtracts the term
  (catalogue 1, section 10, point 5); this is the paper's sign.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    length: f32[B, 2], response tokens that count.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    alpha: reward units per token of difference; 0.005 to 0.05 are used.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = rdpo_length(logp, ref_logp, jnp.asarray([[20.0, 24.0]]), alpha=0.02)
    >>> print(f"{loss[0]:.6f}")
    0.658760

  Reference: Park et al., "Disentangling Length from Quality in Direct Preference Optimization"
  (2024), eq. 9. Catalogue 1, section 2, `rdpo_length`.
  """
  call.positive("rdpo_length", beta=beta)
  reward = beta * _with_lengths("rdpo_length", logp, ref_logp, length)
  margin = reward[:, 0] - reward[:, 1] + alpha * (length[:, 0] - length[:, 1])
  return jax.nn.softplus(-margin), pair_rewards(reward) | pair_logps(logp)


def wpo_length(logp, ref_logp, length, *, beta: float = 0.01, label_smoothing: float = 0.0):
  r"""Weighted preference optimisation: pairs count as much as the policy would write them.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1`,
  `e = label_smoothing` and the weight `w`, which gets no gradient

  .. math::
    w = \min\left(1, e^{logp_0 / n_0 + logp_1 / n_1}\right), \quad
    \ell = -w \left[(1-e) \log \sigma(\beta (a - b)) + e \log \sigma(-\beta (a - b))\right]

  where `n = length`: off-policy pairs count less. This is the weight of the authors' repository,
  from length-averaged likelihoods. Two empty responses have weight 1.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    length: f32[B, 2], response tokens that count.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    label_smoothing: probability that a label is wrong, 0 to 0.5.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, `logps/*` of f32[B],
      nats, and `pair_weight` f32[B], the `w` of each pair.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `label_smoothing` outside 0 to 0.5.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, metrics = wpo_length(logp, ref_logp, jnp.asarray([[20.0, 24.0]]), beta=0.1)
    >>> print(f"{loss[0]:.6f} {metrics['pair_weight'][0]:.6f}")
    0.228437 0.367879

  Reference: Zhou et al., "WPO: Enhancing RLHF with Weighted Preference Optimization" (2024), the
  repository's weight. Catalogue 1, section 2, `wpo_length`.
  """
  call.positive("wpo_length", beta=beta)
  if not 0 <= label_smoothing <= 0.5:
    raise Refused(f"wpo_length needs label_smoothing from 0 to 0.5; it is {label_smoothing}.")
  reward = beta * _with_lengths("wpo_length", logp, ref_logp, length)
  average = jax.lax.stop_gradient(average_logp(logp, length))
  weight = jnp.exp(jnp.minimum(0.0, average.sum(1)))
  margin = reward[:, 0] - reward[:, 1]
  right, wrong = jax.nn.softplus(-margin), jax.nn.softplus(margin)
  loss = weight * ((1 - label_smoothing) * right + label_smoothing * wrong)
  return loss, pair_rewards(reward) | pair_logps(logp) | {"pair_weight": weight}


def _with_lengths(name, logp, ref_logp, length):
  """The log-ratios, f32[B, 2]; refuses lengths that are no pair."""
  ratio = log_ratios(name, logp, ref_logp)
  call.candidates(name, 2, length=length)
  chex.assert_equal_shape([logp, length])
  return ratio
