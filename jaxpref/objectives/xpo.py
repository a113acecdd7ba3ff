"""Exploratory preference optimisation: a pair of one policy and one reference sample."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.types import Refused


def xpo(logp, ref_logp, relevance, *, beta: float = 0.1, alpha: float = 1e-5):
  r"""Exploratory preference optimisation: DPO on samples, plus a bonus for leaving the reference.

  Here the order of the candidates does not say which is preferred: candidate 0 was sampled from
  the policy, candidate 1 from the reference, and `relevance` says who won (a tie is a win of the
  policy). With `h` the log-ratio of the winner minus that of the loser

  .. math:: \ell = -\log \sigma(\beta h) + \alpha \log \pi(y_1)

  The second term lowers the probability of what the reference would have said, which is optimism
  in the face of uncertainty. With `alpha = 0` it is DPO of the pair, winner first.

  Args:
    logp: f32[B, 2], summed log-probability of the policy's, then the reference's sample, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    relevance: f32[B, 2], the preferred sample has the larger value.
    beta: reward units per nat of log-ratio, > 0.
    alpha: strength of the bonus per nat, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` and `logps/*` of f32[B], chosen being the winner; `xpo/preference` and
      `xpo/optimism` f32[B], the two terms; `xpo/wins` f32[B], 1 where the policy's sample won.

  Raises:
    Refused: not two candidates, `beta` not above 0, or a negative `alpha`.

  Example:
    >>> loss, _ = xpo(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.asarray([[1.0, 0.0]]), alpha=0.01)
    >>> print(f"{loss[0]:.6f}")
    0.500957

  Reference: Xie et al., "Exploratory Preference Optimization: Harnessing Implicit Q*-Approximation
  for Sample-Efficient RLHF" (2024). Catalogue 1, section 6, `xpo`.
  """
  ratio, metrics = _pair("xpo", logp, ref_logp, relevance, beta, alpha)
  return _total(jax.nn.softplus(-beta * ratio), logp, alpha, metrics)


def xpo_ipo(logp, ref_logp, relevance, *, beta: float = 0.1, alpha: float = 1e-5):
  r"""Exploratory preference optimisation with IPO's squared loss in place of the logistic one.

  Candidates as in `xpo`: the policy's sample, then the reference's; `relevance` says who won.
  With `h` the log-ratio of the winner minus that of the loser

  .. math:: \ell = \left(h - \frac{1}{2\beta}\right)^2 + \alpha \log \pi(y_1)

  With `alpha = 0` it is `ipo_sum` of the pair, winner first.

  Args:
    logp: f32[B, 2], summed log-probability of the policy's, then the reference's sample, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    relevance: f32[B, 2], the preferred sample has the larger value.
    beta: IPO's tau, per nat, > 0.
    alpha: strength of the bonus per nat, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: as of `xpo`, f32[B].

  Raises:
    Refused: not two candidates, `beta` not above 0, or a negative `alpha`.

  Example:
    >>> loss, _ = xpo_ipo(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.asarray([[1.0, 0.0]]), alpha=0.01)
    >>> print(f"{loss[0]:.2f}")
    12.13

  Reference: Xie et al., "Exploratory Preference Optimization: Harnessing Implicit Q*-Approximation
  for Sample-Efficient RLHF" (2024). Catalogue 1, section 6, `xpo`.
  """
  ratio, metrics = _pair("xpo_ipo", logp, ref_logp, relevance, beta, alpha)
  return _total((ratio - 1 / (2 * beta)) ** 2, logp, alpha, metrics)


def _pair(name, logp, ref_logp, relevance, beta, alpha):
  """f32[B], log-ratio of the winner minus that of the loser, and the metrics."""
  call.positive(name, beta=beta)
  if not alpha >= 0:
    raise Refused(f"{name} needs alpha >= 0; it is {alpha}.")
  call.candidates(name, 2, logp=logp, ref_logp=ref_logp, relevance=relevance)
  chex.assert_equal_shape([logp, ref_logp, relevance])
  wins = (relevance[:, 0] >= relevance[:, 1])[:, None]
  ratio = logp - jax.lax.stop_gradient(ref_logp)
  ratio, seen = (jnp.where(wins, x, x[:, ::-1]) for x in (ratio, logp))
  metrics = pair_rewards(beta * ratio) | pair_logps(seen)
  return ratio[:, 0] - ratio[:, 1], metrics | {"xpo/wins": wins[:, 0].astype(jnp.float32)}


def _total(preference, logp, alpha, metrics):
  """Loss and metrics from the first term."""
  optimism = alpha * logp[:, 1]
  parts = {"xpo/preference": preference, "xpo/optimism": optimism}
  return preference + optimism, metrics | jax.lax.stop_gradient(parts)
