"""Contrastive preference optimisation: pairs without a reference model."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import average_logp, pair_logps, pair_rewards
from jaxpref.types import Refused


def cpo(logp, *, beta: float = 0.1, label_smoothing: float = 0.0):
  r"""Preference part of contrastive preference optimisation: DPO with a uniform reference.

  With `z = beta (logp_0 - logp_1)` (preferred first) and `e = label_smoothing`

  .. math:: \ell = -(1-e) \log \sigma(z) - e \log \sigma(-z)

  Log-probabilities are sums over response tokens. CPO adds the token-mean negative log-likelihood
  of the preferred response: that is the mix `cpo`, this term and `nll`.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    beta: reward units per nat, > 0.
    label_smoothing: probability that a label is wrong, 0 to 0.5.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * logp`, and `logps/*` of f32[B], nats.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `label_smoothing` outside 0 to 0.5.

  Example:
    >>> loss, _ = cpo(jnp.asarray([[-10.0, -12.0]]))
    >>> print(f"{loss[0]:.6f}")
    0.598139

  Reference: Xu et al., "Contrastive Preference Optimization: Pushing the Boundaries of LLM
  Performance in Machine Translation" (2024), eq. 5. Catalogue 1, section 3, `cpo`.
  """
  if not 0 <= label_smoothing <= 0.5:
    raise Refused(f"cpo needs label_smoothing from 0 to 0.5; it is {label_smoothing}.")
  margin, metrics = _sums("cpo", logp, beta)
  right, wrong = jax.nn.softplus(-margin), jax.nn.softplus(margin)
  return (1 - label_smoothing) * right + label_smoothing * wrong, metrics


def cpo_hinge(logp, *, beta: float = 0.1):
  r"""Hinge loss on the margin of log-probabilities, without a reference.

  With preferred response 0

  .. math:: \ell = \max(0, 1 - \beta (\log \pi(y_0) - \log \pi(y_1)))

  It is 0, without gradient, from the margin `1 / beta` on. Log-probabilities are sums.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    beta: reward units per nat, > 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * logp`, and `logps/*` of f32[B], nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = cpo_hinge(jnp.asarray([[-10.0, -12.0]]))
    >>> print(f"{loss[0]:.1f}")
    0.8

  Reference: Zhao et al., "SLiC-HF: Sequence Likelihood Calibration with Human Feedback" (2023),
  in the form of TRL's CPO trainer. Catalogue 1, section 3, `cpo_hinge`.
  """
  margin, metrics = _sums("cpo_hinge", logp, beta)
  return jax.nn.relu(1 - margin), metrics


def cpo_ipo(logp, length, *, beta: float = 0.1):
  r"""Identity preference optimisation without a reference, on averages per token.

  With `a = logp_0 / length_0` (preferred) and `b = logp_1 / length_1`

  .. math:: \ell = \left(a - b - \frac{1}{2\beta}\right)^2

  It is 0 at the margin `1 / (2 beta)`, beyond which the gradient changes sign. An empty response
  has average 0.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    length: f32[B, 2], response tokens that count.
    beta: per nat per token, > 0; larger asks for a smaller margin.

  Returns:
    loss: f32[B], one value per pair, in squared nats per token, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * logp / length`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = cpo_ipo(jnp.asarray([[-4.0, -10.0]]), jnp.asarray([[10.0, 20.0]]))
    >>> print(f"{loss[0]:.2f}")
    24.01

  Reference: Azar et al., "A General Theoretical Paradigm to Understand Learning from Human
  Preferences" (2023), eq. 17, in the form of TRL's CPO trainer. Catalogue 1, section 3, `cpo_ipo`.
  """
  call.positive("cpo_ipo", beta=beta)
  call.candidates("cpo_ipo", 2, logp=logp, length=length)
  chex.assert_equal_shape([logp, length])
  average = average_logp(logp, length)
  loss = jnp.square(average[:, 0] - average[:, 1] - 1 / (2 * beta))
  return loss, pair_rewards(beta * average) | pair_logps(logp)


def _sums(name, logp, beta):
  """Margin of the rewards, f32[B], and metrics; refuses what is not a pair."""
  call.positive(name, beta=beta)
  call.candidates(name, 2, logp=logp)
  reward = beta * logp
  return reward[:, 0] - reward[:, 1], pair_rewards(reward) | pair_logps(logp)
