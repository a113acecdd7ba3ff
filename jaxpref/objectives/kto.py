"""Kahneman-Tversky optimisation: single responses that are desirable or not."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.objectives import _unpaired


def kto(
  logp,
  ref_logp,
  relevance,
  baseline,
  *,
  beta: float = 0.1,
  desirable_weight: float = 1.0,
  undesirable_weight: float = 1.0,
):
  r"""Kahneman-Tversky optimisation: a saturating value of each response against a baseline.

  With log-ratio `u = logp_0 - ref_logp_0` of the one response and `z = baseline`

  .. math::
    \ell = \begin{cases} w_D\,(1 - \sigma(\beta (u - z))) & \text{desirable} \\
                         w_U\,(1 - \sigma(\beta (z - u))) & \text{undesirable} \end{cases}

  Where the policy equals the reference and the baseline is 0 the loss is half the weight. The
  gradient vanishes far from the baseline, on both sides. The baseline is one number for the whole
  batch, `max(0, mean of log-ratios of mismatched responses)`, made before the update, so examples
  do not couple here. The paper advises `w_D n_D : w_U n_U` between 1 and 4/3.

  Args:
    logp: f32[B, 1], summed log-probability of the response under the policy, nats.
    ref_logp: f32[B, 1], the same under the reference; no gradient flows.
    relevance: f32[B, 1], 1 for desirable, 0 for undesirable; above 0.5 counts as desirable.
    baseline: f32[B], z0 in nats, at least 0; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger saturates sooner.
    desirable_weight: `w_D`, weight of desirable responses, > 0.
    undesirable_weight: `w_U`, weight of undesirable responses, > 0.

  Returns:
    loss: f32[B], one value per response, not reduced.
    metrics: `rewards/chosen` and `logps/chosen` of the desirable, `rewards/rejected` and
      `logps/rejected` of the undesirable responses, each a pair `(value, count)` of f32[B]: the
      count is 1 on the responses of that class, so that its weighted mean is the mean over the
      class. Reward is `beta * (logp - ref_logp)`. `kl` f32[B] is the baseline, nats.

  Raises:
    Refused: not one candidate, or `beta` or a weight not above 0.

  Example:
    >>> one = jnp.ones((2, 1))
    >>> loss, _ = kto(
    ...   jnp.asarray([[-10.0], [-12.0]]), jnp.asarray([[-11.0], [-11.5]]),
    ...   jnp.asarray([[1.0], [0.0]]), jnp.asarray([0.2, 0.2]))
    >>> print(f"{loss[0]:.6f} {loss[1]:.6f}")
    0.480011 0.482507

  Reference: Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization" (2024),
  eq. 7. Catalogue 1, section 4, `kto`.
  """
  weights = {"desirable_weight": desirable_weight, "undesirable_weight": undesirable_weight}
  call.positive("kto", beta=beta, **weights)
  _unpaired.check("kto", logp=logp, ref_logp=ref_logp, relevance=relevance)
  chex.assert_shape(baseline, logp.shape[:1])
  ratio = (logp - jax.lax.stop_gradient(ref_logp))[:, 0]
  desirable = relevance[:, 0] > 0.5
  gain = beta * (ratio - jax.lax.stop_gradient(baseline))
  loss = jnp.where(
    desirable,
    desirable_weight * jax.nn.sigmoid(-gain),
    undesirable_weight * jax.nn.sigmoid(gain),
  )
  metrics = _unpaired.report(beta * ratio, logp[:, 0], desirable)
  return loss, metrics | {"kl": jax.lax.stop_gradient(baseline)}
