"""Alignment via optimal transport: log-ratios are compared rank by rank over the batch."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios
from jaxpref.types import Refused

COUPLED = True  # a pair's partner is the one of the same rank in the batch


def aot(logp, ref_logp, weight, *, beta: float = 0.1, label_smoothing: float = 0.0):
  r"""Alignment via optimal transport, paired: margins of policy and reference, rank by rank.

  With margins `m_i = logp_0 - logp_1` and `n_i = ref_logp_0 - ref_logp_1` of the pairs of the
  batch, `x_(k)` the k-th smallest of `x` and `e = label_smoothing`

  .. math::
    D_{(k)} = m_{(k)} - n_{(k)}, \quad
    \ell_{(k)} = -(1-e) \log \sigma(\beta D_{(k)}) - e \log \sigma(-\beta D_{(k)})

  so the distribution of the policy's margins is to lie above that of the reference's. A pair's
  loss is that of the rank of its `m_i`. The order of the pairs does not matter; a single pair is
  cDPO. Rows of weight 0 take no part in the ranking and have loss 0. It is log 2 where the policy
  equals the reference.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    weight: f32[B], 0 on rows that only fill the batch.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    label_smoothing: probability that a label is wrong, 0 to 0.5.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `label_smoothing` outside 0 to 0.5.

  Example:
    >>> logp = jnp.asarray([[-10.0, -12.0], [-9.0, -8.0]])
    >>> ref_logp = jnp.asarray([[-11.0, -11.5], [-9.0, -12.0]])
    >>> loss, _ = aot(logp, ref_logp, jnp.ones(2))  # margins (2, -1) against (0.5, 3)
    >>> print(f"{loss[0]:.6f} {loss[1]:.6f}")
    0.744397 0.770957

  Reference: Melnyk et al., "Distributional Preference Alignment of LLMs via Optimal Transport"
  (2024). Catalogue 1, section 2, `aot`.
  """
  ratio = _checked("aot", logp, ref_logp, weight, beta, label_smoothing)
  fixed = jax.lax.stop_gradient(ref_logp)
  gap = _by_rank(logp[:, 0] - logp[:, 1], fixed[:, 0] - fixed[:, 1], weight)
  loss = _smoothed(beta * gap, weight, label_smoothing)
  return loss, pair_rewards(beta * ratio) | pair_logps(logp)


def aot_unpaired(logp, ref_logp, weight, *, beta: float = 0.1, label_smoothing: float = 0.0):
  r"""Alignment via optimal transport, unpaired: preferred and other responses, rank by rank.

  With log-ratios `a_i = logp_0 - ref_logp_0` (preferred) and `b_i = logp_1 - ref_logp_1` over the
  batch, `x_(k)` the k-th smallest of `x` and `e = label_smoothing`

  .. math::
    D_{(k)} = a_{(k)} - b_{(k)}, \quad
    \ell_{(k)} = -(1-e) \log \sigma(\beta D_{(k)}) - e \log \sigma(-\beta D_{(k)})

  so which response was preferred to which does not matter, only the two sets. A row's loss is that
  of the rank of its `a_i`. A single pair is cDPO. Rows of weight 0 take no part in the ranking and
  have loss 0. It is log 2 where the policy equals the reference. TRL 0.24 called it `aot_pair`.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    weight: f32[B], 0 on rows that only fill the batch.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    label_smoothing: probability that a label is wrong, 0 to 0.5.

  Returns:
    loss: f32[B], one value per row, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `label_smoothing` outside 0 to 0.5.

  Example:
    >>> logp = jnp.asarray([[-10.0, -12.0], [-9.0, -8.0]])
    >>> ref_logp = jnp.asarray([[-11.0, -11.5], [-9.0, -12.0]])
    >>> loss, _ = aot_unpaired(logp, ref_logp, jnp.ones(2))  # (1, 0) against (-0.5, 4)
    >>> print(f"{loss[0]:.6f} {loss[1]:.6f}")
    0.854355 0.668460

  Reference: Melnyk et al., "Distributional Preference Alignment of LLMs via Optimal Transport"
  (2024). Catalogue 1, section 2, `aot_unpaired`.
  """
  ratio = _checked("aot_unpaired", logp, ref_logp, weight, beta, label_smoothing)
  gap = _by_rank(ratio[:, 0], ratio[:, 1], weight)
  loss = _smoothed(beta * gap, weight, label_smoothing)
  return loss, pair_rewards(beta * ratio) | pair_logps(logp)


def _checked(name, logp, ref_logp, weight, beta, label_smoothing):
  """The log-ratios, f32[B, 2]; refuses wrong arrays and knobs."""
  call.positive(name, beta=beta)
  if not 0 <= label_smoothing <= 0.5:
    raise Refused(f"{name} needs label_smoothing from 0 to 0.5; it is {label_smoothing}.")
  ratio = log_ratios(name, logp, ref_logp)
  chex.assert_shape(weight, logp.shape[:1])
  return ratio


def _by_rank(x, y, weight):
  """f32[B]: every `x` minus the `y` of the same rank; rows of weight 0 rank last in both."""
  order = lambda v: jnp.argsort(jnp.where(weight > 0, jax.lax.stop_gradient(v), jnp.inf))
  rank = jnp.argsort(order(x))
  return x - y[order(y)][rank]


def _smoothed(margin, weight, label_smoothing):
  """f32[B], cross-entropy against smoothed labels; 0 on rows of weight 0."""
  right, wrong = jax.nn.softplus(-margin), jax.nn.softplus(margin)
  loss = (1 - label_smoothing) * right + label_smoothing * wrong
  return jnp.where(weight > 0, loss, 0.0)
