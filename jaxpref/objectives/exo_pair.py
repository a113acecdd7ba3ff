"""Efficient exact optimisation on pairs: the reverse KL divergence to smoothed labels."""

from __future__ import annotations

import math

import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios
from jaxpref.types import Refused


def exo_pair(logp, ref_logp, *, beta: float = 0.1, label_smoothing: float = 1e-3):
  r"""Efficient exact optimisation: reverse KL from the model's label to the smoothed one.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1`,
  `e = label_smoothing` and `q = sigma(beta (a - b))`

  .. math:: \ell = q \log \frac{q}{1-e} + (1-q) \log \frac{1-q}{e}

  It is 0, its minimum, at `q = 1 - e`. cDPO is the forward KL of the same two distributions. It
  grows without bound as `e` goes to 0, so 0 is refused. Pairs that are ordered very wrongly get
  almost no gradient, unlike in DPO.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    label_smoothing: probability that a label is wrong, above 0 and at most 0.5.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `label_smoothing` outside its range.

  Example:
    >>> loss, _ = exo_pair(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    2.505517

  Reference: Ji et al., "Towards Efficient Exact Optimization of Language Model Alignment" (2024),
  eq. 16. Catalogue 1, section 2, `exo_pair`.
  """
  call.positive("exo_pair", beta=beta)
  if not 0 < label_smoothing <= 0.5:
    raise Refused(
      f"exo_pair needs label_smoothing above 0 and at most 0.5; it is {label_smoothing}. Other "
      "libraries take 0.001 for 0."
    )
  reward = beta * log_ratios("exo_pair", logp, ref_logp)
  z = reward[:, 0] - reward[:, 1]
  right = -jax.nn.softplus(-z) - math.log(1 - label_smoothing)
  wrong = -jax.nn.softplus(z) - math.log(label_smoothing)
  loss = jax.nn.sigmoid(z) * right + jax.nn.sigmoid(-z) * wrong
  return loss, pair_rewards(reward) | pair_logps(logp)
