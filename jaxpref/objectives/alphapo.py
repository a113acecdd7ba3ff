"""SimPO with a reward that is a power of the likelihood instead of its logarithm."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import average_logp, pair_logps, pair_rewards
from jaxpref.types import Refused

CAP = 80.0  # largest exponent


def alphapo(logp, length, *, beta: float = 2.5, gamma: float = 0.1, alpha: float = 0.25):
  r"""AlphaPO: SimPO whose average log-probabilities pass through a power function.

  With `u = logp / length` of each response

  .. math:: T(u) = \frac{1 - e^{-\alpha u}}{\alpha}, \qquad
     \ell = -\log \sigma(\beta (T(u_0) - T(u_1)) - \gamma)

  `alpha` near 0 is `simpo`. Above 0 unlikely responses count more, below 0 less. An empty response
  has `u = 0` and `T = 0`. Exponents stop at 80, where the gradient is 0.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    length: f32[B, 2], response tokens that count.
    beta: scale of the transformed average, > 0.
    gamma: margin that the preferred response must win by, in reward units.
    alpha: shape of the reward, not 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta T(u)`, and `logps/*` of f32[B], nats.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `alpha` 0.

  Example:
    >>> loss, _ = alphapo(jnp.asarray([[-4.0, -10.0]]), jnp.asarray([[10.0, 20.0]]))
    >>> print(f"{loss[0]:.6f}")
    0.607294

  Reference: Gupta et al., "AlphaPO: Reward Shape Matters for LLM Alignment" (2025), eq. 7.
  Catalogue 1, section 3, `alphapo`.
  """
  call.positive("alphapo", beta=beta)
  if alpha == 0:
    raise Refused("alphapo needs alpha other than 0; at 0 it is simpo.")
  call.candidates("alphapo", 2, logp=logp, length=length)
  chex.assert_equal_shape([logp, length])
  average = average_logp(logp, length)
  reward = -beta * jnp.expm1(jnp.minimum(-alpha * average, CAP)) / alpha
  margin = reward[:, 0] - reward[:, 1]
  return jax.nn.softplus(gamma - margin), pair_rewards(reward) | pair_logps(logp)
