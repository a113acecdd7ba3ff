"""Sequence likelihood calibration."""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.types import Refused


def slic_hf(logp, *, delta: float = 1.0):
  r"""Calibration part of SLiC-HF: the preferred response must be likelier by a margin.

  With preferred response 0

  .. math:: \ell = \max(0, \delta - \log \pi(y_0) + \log \pi(y_1))

  It is 0, without gradient, from the margin `delta` on. Log-probabilities are sums. SLiC-HF adds
  the negative log-likelihood of a supervised target: the mix `slic_hf`.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    delta: margin, nats, at least 0.

  Returns:
    loss: f32[B], one value per pair, nats, not reduced.
    metrics: `rewards/*` of f32[B], with reward `logp`, and `logps/*` of f32[B], nats.

  Raises:
    Refused: not two candidates, or `delta` below 0.

  Example:
    >>> loss, _ = slic_hf(jnp.asarray([[-10.0, -12.0], [-12.0, -12.5]]))
    >>> print(loss)
    [0.  0.5]

  Reference: Zhao et al., "SLiC-HF: Sequence Likelihood Calibration with Human Feedback" (2023),
  eq. 1. Catalogue 1, section 3, `slic_hf`.
  """
  if not delta >= 0:
    raise Refused(f"slic_hf needs delta >= 0; it is {delta}.")
  call.candidates("slic_hf", 2, logp=logp)
  loss = jax.nn.relu(delta - logp[:, 0] + logp[:, 1])
  return loss, pair_rewards(logp) | pair_logps(logp)
