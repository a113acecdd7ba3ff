"""DPO-positive: the preferred response may not become less likely than under the reference."""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios
from jaxpref.types import Refused


def dpop(logp, ref_logp, *, beta: float = 0.3, penalty: float = 50.0):
  r"""DPO-positive: DPO with a penalty where the preferred response lost likelihood.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1` and
  `lambda = penalty`

  .. math:: \ell = -\log \sigma\left(\beta (a - b - \lambda \max(0, -a))\right)

  Where `a >= 0` it is DPO, also in the gradient. It is log 2 where the policy equals the reference.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    penalty: `lambda`, at least 0; 0 is DPO.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)` (without the penalty),
      `logps/*` of f32[B], nats, and `penalised` f32[B], 1 where the penalty is not 0.

  Raises:
    Refused: not two candidates, `beta` not above 0, or a negative `penalty`.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-11.5, -10.5]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = dpop(logp, ref_logp, beta=0.1)  # a = -0.5, b = 1
    >>> print(f"{loss[0]:.6f}")
    2.718267

  Reference: Pal et al., "Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive"
  (2024). Catalogue 1, section 2, `dpop`.
  """
  call.positive("dpop", beta=beta)
  if not penalty >= 0:
    raise Refused(f"dpop needs penalty of at least 0; it is {penalty}.")
  ratio = log_ratios("dpop", logp, ref_logp)
  loss_of_likelihood = jax.nn.relu(-ratio[:, 0])
  margin = beta * (ratio[:, 0] - ratio[:, 1] - penalty * loss_of_likelihood)
  metrics = pair_rewards(beta * ratio) | pair_logps(logp)
  penalised = (penalty * jax.lax.stop_gradient(loss_of_likelihood) > 0).astype(logp.dtype)
  return jax.nn.softplus(-margin), metrics | {"penalised": penalised}
