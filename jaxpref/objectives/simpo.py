"""Simple preference optimisation: length-normalised, without a reference model; and its hinge."""

from __future__ import annotations

import chex
import jax

from jaxpref import call
from jaxpref.numerics import average_logp, pair_logps, pair_rewards
from jaxpref.types import Refused


def simpo(logp, length, *, beta: float = 2.0, gamma: float = 0.5, label_smoothing: float = 0.0):
  r"""Simple preference optimisation: logistic loss on the margin of average log-probabilities.

  With `a = logp_0 / length_0` (preferred), `b = logp_1 / length_1` and, at no label smoothing,

  .. math:: \ell = -\log \sigma(\beta (a - b) - \gamma)

  With `z = beta (a - b) - gamma` and `e = label_smoothing` it is
  `-(1-e) log sigma(z) - e log sigma(-z)`. It reads no reference. At equal averages and `e = 0` it
  is `log(1 + exp(gamma))`. An empty response has
  average 0. The defaults are those of the paper's repository (`beta=2`, `gamma_beta_ratio=0.25`);
  the published runs set both per model: beta 2 to 10, gamma / beta 0.1 to 0.8.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    length: f32[B, 2], response tokens that count.
    beta: reward units per nat per token, > 0.
    gamma: margin that the preferred response must win by, in reward units.
    label_smoothing: probability that a label is wrong, 0 to 0.5.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * logp / length`, and `logps/*` of f32[B],
      nats (sums; the paper's repository logs averages).

  Raises:
    Refused: not two candidates, `beta` not above 0, or `label_smoothing` outside 0 to 0.5.

  Example:
    >>> loss, _ = simpo(jnp.asarray([[-4.0, -10.0]]), jnp.asarray([[10.0, 20.0]]))
    >>> print(f"{loss[0]:.6f}")
    0.854355

  Reference: Meng et al., "SimPO: Simple Preference Optimization with a Reference-Free Reward"
  (2024), eq. 6. Catalogue 1, section 3, `simpo`.
  """
  if not 0 <= label_smoothing <= 0.5:
    raise Refused(f"simpo needs label_smoothing from 0 to 0.5; it is {label_smoothing}.")
  margin, metrics = _margin("simpo", logp, length, beta, gamma)
  right, wrong = jax.nn.softplus(-margin), jax.nn.softplus(margin)
  return (1 - label_smoothing) * right + label_smoothing * wrong, metrics


def simpo_hinge(logp, length, *, beta: float = 2.0, gamma: float = 0.5):
  r"""SimPO's margin under a hinge loss.

  With `a = logp_0 / length_0` (preferred) and `b = logp_1 / length_1`

  .. math:: \ell = \max(0, 1 - (\beta (a - b) - \gamma))

  It is 0, without gradient, from `beta (a - b) = 1 + gamma` on. An empty response has average 0.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    length: f32[B, 2], response tokens that count.
    beta: reward units per nat per token, > 0.
    gamma: margin that the preferred response must win by, in reward units.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * logp / length`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = simpo_hinge(jnp.asarray([[-4.0, -10.0]]), jnp.asarray([[10.0, 20.0]]))
    >>> print(f"{loss[0]:.1f}")
    1.3

  Reference: the repository of Meng et al., "SimPO: Simple Preference Optimization with a
  Reference-Free Reward" (2024), `loss_type=hinge`. Catalogue 1, section 3, `simpo`.
  """
  margin, metrics = _margin("simpo_hinge", logp, length, beta, gamma)
  return jax.nn.relu(1 - margin), metrics


def _margin(name, logp, length, beta, gamma):
  """Margin of the rewards less gamma, f32[B], and metrics; refuses what is not a pair."""
  call.positive(name, beta=beta)
  call.candidates(name, 2, logp=logp, length=length)
  chex.assert_equal_shape([logp, length])
  reward = beta * average_logp(logp, length)
  margin = reward[:, 0] - reward[:, 1] - gamma
  return margin, pair_rewards(reward) | pair_logps(logp)
