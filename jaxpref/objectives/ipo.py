"""Identity preference optimisation, on averaged and on summed log-probabilities."""

from __future__ import annotations

import chex
import jax

from jaxpref import call
from jaxpref.numerics import average_logp, pair_logps, pair_rewards


def ipo(logp, ref_logp, length, *, beta: float = 0.1):
  r"""Identity preference optimisation, with log-ratios averaged over the response tokens.

  With log-ratios per token `a = (logp_0 - ref_logp_0) / length_0` (preferred) and
  `b = (logp_1 - ref_logp_1) / length_1`

  .. math:: \ell = \left(a - b - \frac{1}{2\beta}\right)^2

  It is 0 at the margin `1 / (2 beta)`, beyond which the gradient changes sign: unlike DPO it stops
  pushing. An empty response has log-ratio 0. The paper's text leaves sum or average open; its
  authors and most libraries average (catalogue 1, section 10, point 1). `ipo_sum` sums.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    length: f32[B, 2], response tokens that count.
    beta: the paper's tau, per nat, > 0; larger asks for a smaller margin.

  Returns:
    loss: f32[B], one value per pair, in squared nats per token, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)` (sums, as other libraries
      report), `logps/*` of f32[B], nats, and `margin` f32[B], the `a - b` that the loss sees.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = ipo(logp, ref_logp, jnp.asarray([[20.0, 24.0]]))
    >>> print(f"{loss[0]:.4f}")
    24.2967

  Reference: Azar et al., "A General Theoretical Paradigm to Understand Learning from Human
  Preferences" (2023), eq. 17. Catalogue 1, section 2, `ipo`.
  """
  call.positive("ipo", beta=beta)
  call.candidates("ipo", 2, logp=logp, ref_logp=ref_logp, length=length)
  chex.assert_equal_shape([logp, ref_logp, length])
  ratio = logp - jax.lax.stop_gradient(ref_logp)
  return _squared(ratio, average_logp(ratio, length), logp, beta)


def ipo_sum(logp, ref_logp, *, beta: float = 0.1):
  r"""Identity preference optimisation as its paper writes it, with summed log-probabilities.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred) and `b = logp_1 - ref_logp_1`

  .. math:: \ell = \left(a - b - \frac{1}{2\beta}\right)^2

  It is 0 at the margin `1 / (2 beta)`, beyond which the gradient changes sign, and
  `1 / (4 beta^2)` where the policy equals the reference. `ipo` averages over tokens.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: the paper's tau, per nat, > 0; larger asks for a smaller margin.

  Returns:
    loss: f32[B], one value per pair, in squared nats, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, `logps/*` of f32[B],
      nats, and `margin` f32[B], the `a - b` that the loss sees.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = ipo_sum(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.2f}")
    12.25

  Reference: Azar et al., "A General Theoretical Paradigm to Understand Learning from Human
  Preferences" (2023), eq. 17. Catalogue 1, section 2, `ipo_sum`.
  """
  call.positive("ipo_sum", beta=beta)
  call.candidates("ipo_sum", 2, logp=logp, ref_logp=ref_logp)
  chex.assert_equal_shape([logp, ref_logp])
  ratio = logp - jax.lax.stop_gradient(ref_logp)
  return _squared(ratio, ratio, logp, beta)


def _squared(ratio, seen, logp, beta):
  """Loss and metrics from the summed log-ratios and those that the loss sees, f32[B, 2] each."""
  margin = seen[:, 0] - seen[:, 1]
  loss = (margin - 1 / (2 * beta)) ** 2
  metrics = pair_rewards(beta * ratio) | pair_logps(logp)
  return loss, metrics | {"margin": jax.lax.stop_gradient(margin)}
