"""Odds ratio of two responses: the preference part of ORPO."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import average_logp, log1mexp, pair_logps, pair_rewards

CLOSEST = -1e-7  # averages of log-probabilities stay below it: the odds of certainty are infinite


def odds_ratio(logp, length):
  r"""Logistic loss on the log odds ratio of two responses; ORPO's preference part.

  With `u = logp / length` of each response, the log-probability of an average token,

  .. math:: \ell = -\log \sigma\left(\log\frac{e^{u_0}}{1-e^{u_0}} -
     \log\frac{e^{u_1}}{1-e^{u_1}}\right)

  It is log 2 at equal averages. Averages stop at -1e-7, where the gradient is 0; so does that of an
  empty response. ORPO adds it with weight 0.1 to the negative log-likelihood of the preferred
  response: the mix `orpo`.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    length: f32[B, 2], response tokens that count.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `logp / length` (ORPO reports it times its weight),
      `logps/*` of f32[B], nats, and `log_odds` f32[B], the log odds ratio.

  Raises:
    Refused: not two candidates.

  Example:
    >>> loss, metrics = odds_ratio(jnp.asarray([[-4.0, -10.0]]), jnp.asarray([[10.0, 20.0]]))
    >>> print(f"{metrics['log_odds'][0]:.6f} {loss[0]:.5f}")
    0.276881 0.56426

  Reference: Hong et al., "ORPO: Monolithic Preference Optimization without Reference Model"
  (2024), eqs. 4 to 7. Catalogue 1, section 3, `orpo`.
  """
  call.candidates("odds_ratio", 2, logp=logp, length=length)
  chex.assert_equal_shape([logp, length])
  average = average_logp(logp, length)
  below = jnp.minimum(average, CLOSEST)
  log_odds = below - log1mexp(below)
  ratio = log_odds[:, 0] - log_odds[:, 1]
  metrics = pair_rewards(average) | pair_logps(logp)
  return jax.nn.softplus(-ratio), metrics | {"log_odds": jax.lax.stop_gradient(ratio)}
