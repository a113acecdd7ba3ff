"""The loss that a language model discovered: a blend of logistic and exponential loss."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios
from jaxpref.types import Refused


def discopop(logp, ref_logp, *, beta: float = 0.1, tau: float = 0.05):
  r"""DiscoPOP (log-ratio modulated loss): logistic below a margin of 0, exponential above.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1`,
  `z = beta (a - b)` and `w = sigma(z / tau)`

  .. math:: \ell = -(1 - w) \log \sigma(z) + w\, e^{-z}

  It is `(log 2 + 1) / 2` where the policy equals the reference. Not convex: in a small interval
  around a margin of 0 the gradient pushes the margin down.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    tau: width of the blend in reward units, above 0 and at most 1 (beyond, the loss of wrongly
      ordered pairs would grow exponentially).

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `tau` outside its range.

  Example:
    >>> loss, _ = discopop(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    0.849338

  Reference: Lu et al., "Discovering Preference Optimization Algorithms with and for Large Language
  Models" (2024), eq. 5. Catalogue 1, section 2, `discopop`.
  """
  call.positive("discopop", beta=beta)
  if not 0 < tau <= 1:
    raise Refused(f"discopop needs tau above 0 and at most 1; it is {tau}.")
  reward = beta * log_ratios("discopop", logp, ref_logp)
  z = reward[:, 0] - reward[:, 1]
  logistic = jax.nn.sigmoid(-z / tau) * jax.nn.softplus(-z)
  exponential = jnp.exp(-jax.nn.softplus(-z / tau) - z)  # one exponent, which is never large
  return logistic + exponential, pair_rewards(reward) | pair_logps(logp)
