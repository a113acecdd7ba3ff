"""Binary classifier optimisation: single responses against the running mean of their rewards.

The running mean takes in the batch before it is used, so a response changes the loss of the others.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import safe_divide
from jaxpref.objectives import _unpaired

COUPLED = True


def bco(logp, ref_logp, relevance, weight, carry, *, beta: float = 0.1):
  r"""Binary classifier optimisation: logistic loss of a reward above or below a running mean.

  With reward `r = beta (logp_0 - ref_logp_0)` of the one response and `d` the mean of the rewards
  of all responses so far, desirable or not, those of this batch included

  .. math::
    \ell = \begin{cases} -\log \sigma(r - d) & \text{desirable} \\
                         -\log \sigma(-(r - d)) & \text{undesirable} \end{cases}

  It is log 2 where the reward is the mean. No gradient flows through `d`. Rows of weight 0 only
  fill the batch and do not enter the mean; a weight above 0 enters it once.

  Args:
    logp: f32[B, 1], summed log-probability of the response under the policy, nats.
    ref_logp: f32[B, 1], the same under the reference; no gradient flows.
    relevance: f32[B, 1], 1 for desirable, 0 for undesirable; above 0.5 counts as desirable.
    weight: f32[B], 0 on rows that only fill the batch.
    carry: f32[] `mean` and `count` of the rewards so far, from `init_carry`.
    beta: reward units per nat of log-ratio, > 0.

  Returns:
    loss: f32[B], one value per response, not reduced.
    metrics: `rewards/chosen`, `logps/chosen` of the desirable, `rewards/rejected`,
      `logps/rejected` of the undesirable responses, pairs `(value, count)` of f32[B];
      `bco/delta` f32[B] is `d` and `bco/seen` f32[B] the number of rewards in it.

  Raises:
    Refused: not one candidate, or `beta` not above 0.

  Example:
    >>> loss, metrics = bco(
    ...   jnp.asarray([[-10.0], [-12.0]]), jnp.asarray([[-11.0], [-11.5]]),
    ...   jnp.asarray([[1.0], [0.0]]), jnp.ones(2), init_carry())
    >>> print(f"{loss[0]:.6f} {loss[1]:.6f} {metrics['bco/delta'][0]:.3f}")
    0.656350 0.656350 0.025

  Reference: Jung et al., "Binary Classifier Optimization for Large Language Model Alignment"
  (2024). Catalogue 1, section 4, `bco`.
  """
  call.positive("bco", beta=beta)
  _unpaired.check("bco", logp=logp, ref_logp=ref_logp, relevance=relevance)
  return _shifted(logp, ref_logp, relevance, jnp.ones(logp.shape[0]), weight, carry, beta)


def bco_udm(logp, ref_logp, relevance, density, weight, carry, *, beta: float = 0.1):
  r"""Binary classifier optimisation where both classes have different prompts.

  As `bco`, and undesirable responses weigh `w = density` (underlying distribution matching): the
  odds that their prompt is one of the desirable set, so that both classes see the same prompts.

  .. math::
    \ell = \begin{cases} -\log \sigma(r - d) & \text{desirable} \\
                         -w \log \sigma(-(r - d)) & \text{undesirable} \end{cases}

  With all densities 1 it is `bco`. `jaxpref.objectives.density` makes `density` from embeddings
  of prompts.

  Args:
    logp: f32[B, 1], summed log-probability of the response under the policy, nats.
    ref_logp: f32[B, 1], the same under the reference; no gradient flows.
    relevance: f32[B, 1], 1 for desirable, 0 for undesirable; above 0.5 counts as desirable.
    density: f32[B], weight of the response if it is undesirable, at least 0; no gradient flows.
    weight: f32[B], 0 on rows that only fill the batch.
    carry: f32[] `mean` and `count` of the rewards so far, from `init_carry`.
    beta: reward units per nat of log-ratio, > 0.

  Returns:
    loss: f32[B], one value per response, not reduced.
    metrics: as of `bco`, f32[B] or pairs `(value, count)`.

  Raises:
    Refused: not one candidate, or `beta` not above 0.

  Example:
    >>> loss, _ = bco_udm(
    ...   jnp.asarray([[-10.0], [-12.0]]), jnp.asarray([[-11.0], [-11.5]]),
    ...   jnp.asarray([[1.0], [0.0]]), jnp.asarray([9.0, 2.0]), jnp.ones(2), init_carry())
    >>> print(f"{loss[0]:.6f} {loss[1]:.6f}")
    0.656350 1.312700

  Reference: Jung et al., "Binary Classifier Optimization for Large Language Model Alignment"
  (2024). Catalogue 1, section 4, `bco`.
  """
  call.positive("bco_udm", beta=beta)
  _unpaired.check("bco_udm", logp=logp, ref_logp=ref_logp, relevance=relevance)
  chex.assert_shape(density, logp.shape[:1])
  density = jax.lax.stop_gradient(density)
  return _shifted(logp, ref_logp, relevance, density, weight, carry, beta)


def init_carry():
  """A mean over no rewards: `{"mean": f32[], "count": f32[]}` of 0."""
  return {"mean": jnp.zeros(()), "count": jnp.zeros(())}


def next_carry(carry, metrics):
  """The mean that the batch has left behind; as before if the batch held nothing."""
  held = metrics["bco/seen"] > 0
  return {
    "mean": jnp.where(held, metrics["bco/delta"], carry["mean"]),
    "count": jnp.where(held, metrics["bco/seen"], carry["count"]),
  }


def _shifted(logp, ref_logp, relevance, density, weight, carry, beta):
  """Loss and metrics of both functions."""
  chex.assert_shape(weight, logp.shape[:1])
  reward = beta * (logp - jax.lax.stop_gradient(ref_logp))[:, 0]
  delta, seen = _running_mean(jax.lax.stop_gradient(reward), weight, carry)
  desirable = relevance[:, 0] > 0.5
  above = reward - delta
  loss = jnp.where(desirable, jax.nn.softplus(-above), density * jax.nn.softplus(above))
  everywhere = {"bco/delta": delta, "bco/seen": seen}
  everywhere = {k: jnp.broadcast_to(v, reward.shape) for k, v in everywhere.items()}
  return loss, _unpaired.report(reward, logp[:, 0], desirable) | everywhere


def _running_mean(reward, weight, carry):
  """Mean and number of all rewards, this batch included; the mean moves by a small step."""
  old = jax.lax.stop_gradient(carry)
  new = (weight > 0).astype(jnp.float32)
  seen = old["count"] + new.sum()
  return old["mean"] + safe_divide((new * (reward - old["mean"])).sum(), seen), seen
