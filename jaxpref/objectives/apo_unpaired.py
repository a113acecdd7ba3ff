"""Anchored preference optimisation for single responses."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.objectives import _unpaired


def apo_zero_unpaired(logp, ref_logp, relevance, *, beta: float = 0.1):
  r"""Anchored preference optimisation (APO-zero) of single responses that are desirable or not.

  With log-ratio `u = logp_0 - ref_logp_0` of the one response

  .. math::
    \ell = \begin{cases} 1 - \sigma(\beta u) & \text{desirable} \\
                         \sigma(\beta u) & \text{undesirable} \end{cases}

  It is `kto` with a baseline of 0: the policy is anchored at the reference, where the loss is 1/2.
  One desirable and one undesirable response add up to `apo_zero` of the pair. The gradient
  vanishes far from the reference on both sides.

  Args:
    logp: f32[B, 1], summed log-probability of the response under the policy, nats.
    ref_logp: f32[B, 1], the same under the reference; no gradient flows.
    relevance: f32[B, 1], 1 for desirable, 0 for undesirable; above 0.5 counts as desirable.
    beta: reward units per nat of log-ratio, > 0; larger saturates sooner.

  Returns:
    loss: f32[B], one value per response, not reduced.
    metrics: `rewards/chosen`, `logps/chosen` of the desirable, `rewards/rejected`,
      `logps/rejected` of the undesirable responses, pairs `(value, count)` of f32[B].

  Raises:
    Refused: not one candidate, or `beta` not above 0.

  Example:
    >>> loss, _ = apo_zero_unpaired(
    ...   jnp.asarray([[-10.0], [-12.0]]), jnp.asarray([[-11.0], [-11.5]]),
    ...   jnp.asarray([[1.0], [0.0]]))
    >>> print(f"{loss[0]:.6f} {loss[1]:.6f}")
    0.475021 0.487503

  Reference: D'Oosterlinck et al., "Anchored Preference Optimization and Contrastive Revisions:
  Addressing Underspecification in Alignment" (2024), eq. 7. Catalogue 1, section 4,
  `apo_zero_unpaired`.
  """
  call.positive("apo_zero_unpaired", beta=beta)
  _unpaired.check("apo_zero_unpaired", logp=logp, ref_logp=ref_logp, relevance=relevance)
  reward = beta * (logp - jax.lax.stop_gradient(ref_logp))[:, 0]
  desirable = relevance[:, 0] > 0.5
  loss = jax.nn.sigmoid(jnp.where(desirable, -reward, reward))
  return loss, _unpaired.report(reward, logp[:, 0], desirable)
