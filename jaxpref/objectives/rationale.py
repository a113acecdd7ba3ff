"""Preferences with a rationale: a third sequence that says why the first response is better.

Candidate 2 of every situation is the rationale, after a prompt of its own that holds the question
and both responses. A rationale without tokens adds nothing.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import average_logp, log1mexp, pair_logps, pair_rewards


def rationale_nll(logp, length):
  r"""Negative log-likelihood of the rationale, per token.

  With the rationale `r` at index 2

  .. math:: \ell = -\frac{1}{|r|} \log \pi(r \mid c)

  As a term beside a preference loss, its `term_weight` is the paper's gamma.

  Args:
    logp: f32[B, 3], summed log-probability of both responses and the rationale, nats.
    length: f32[B, 3], their tokens.

  Returns:
    loss: f32[B], nats per token, not reduced.
    metrics: `rationale/nll` f32[B], nats per token, as `(value, count)` over those that exist.

  Raises:
    Refused: not three candidates.

  Example:
    >>> loss, _ = rationale_nll(jnp.asarray([[-3.0, -4.0, -6.0]]), jnp.full((1, 3), 4.0))
    >>> print(loss)
    [1.5]

  Reference: Just et al., "Data-Centric Human Preference with Rationales for Direct Preference
  Alignment" (2024) (card: papers/rationales.md).
  """
  _check("rationale_nll", logp, length)
  return -average_logp(logp, length)[:, 2], _told(logp, length)


def rationale_dpo(logp, ref_logp, length, *, beta: float = 0.1, gamma: float = 0.1):
  r"""DPO and the likelihood of the rationale, squashed: what the paper's code trains.

  With `h` the difference of the log-ratios of both responses and `rho` the log-probability of the
  rationale, a sum over its tokens without a reference

  .. math:: \ell = -\log \sigma(\beta h) - \log \sigma(\gamma \rho)

  The slope of the second term lies between `gamma / 2` and `gamma`; it is log 2 at `rho = 0`.

  Args:
    logp: f32[B, 3], summed log-probability of both responses and the rationale, nats.
    ref_logp: f32[B, 3], the same under the reference; no gradient flows; the third is not read.
    length: f32[B, 3], their tokens; tells which rationales exist.
    beta: reward units per nat of log-ratio, > 0.
    gamma: weight of the rationale, per nat, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` and `logps/*` of f32[B], `rationale/nll` nats per token.

  Raises:
    Refused: not three candidates, or a knob out of its range.

  Example:
    >>> logp = jnp.asarray([[-3.0, -4.0, -10.0]])
    >>> loss, _ = rationale_dpo(logp, logp, jnp.full((1, 3), 5.0))
    >>> print(f"{loss[0]:.6f}")
    2.006409

  Reference: Just et al., "Data-Centric Human Preference with Rationales for Direct Preference
  Alignment" (2024), RDPO, its public code (card: papers/rationales.md).
  """
  loss, metrics = _dpo("rationale_dpo", logp, ref_logp, length, beta, gamma)
  term = jnp.where(length[:, 2] > 0, jax.nn.softplus(-gamma * logp[:, 2]), 0.0)
  return loss + term, metrics


def rationale_dpo_linear(logp, ref_logp, length, *, beta: float = 0.1, gamma: float = 0.1):
  r"""DPO and the log-likelihood of the rationale, as the paper writes it.

  .. math:: \ell = -\log \sigma(\beta h) - \gamma \rho

  with `h` and `rho` as in `rationale_dpo`. At `gamma = 0` it is `dpo`.

  Args:
    logp: f32[B, 3], summed log-probability of both responses and the rationale, nats.
    ref_logp: f32[B, 3], the same under the reference; no gradient flows; the third is not read.
    length: f32[B, 3], their tokens; tells which rationales exist.
    beta: reward units per nat of log-ratio, > 0.
    gamma: weight of the rationale, per nat, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: as `rationale_dpo`.

  Raises:
    Refused: not three candidates, or a knob out of its range.

  Example:
    >>> logp = jnp.asarray([[-3.0, -4.0, -10.0]])
    >>> loss, _ = rationale_dpo_linear(logp, logp, jnp.full((1, 3), 5.0))
    >>> print(f"{loss[0]:.6f}")
    1.693147

  Reference: Just et al., "Data-Centric Human Preference with Rationales for Direct Preference
  Alignment" (2024), RDPO (card: papers/rationales.md).
  """
  loss, metrics = _dpo("rationale_dpo_linear", logp, ref_logp, length, beta, gamma)
  return loss - gamma * jnp.where(length[:, 2] > 0, logp[:, 2], 0.0), metrics


def rationale_orpo(logp, length, *, beta: float = 0.1, gamma: float = 0.1):
  r"""Odds-ratio preference and the likelihood of the rationale, squashed; both per token.

  With average log-probabilities `a_0`, `a_1` of the responses and `rho` of the rationale

  .. math:: \ell = -\beta \log \sigma\left((a_0 - a_1) - \log \frac{1 - e^{a_0}}{1 - e^{a_1}}\right)
    - \log \sigma(\gamma \rho)

  The paper adds the likelihood of the preferred response, averaged over all its tokens in the
  batch: a second term, `nll`, on the same batch.

  Args:
    logp: f32[B, 3], summed log-probability of both responses and the rationale, nats.
    length: f32[B, 3], their tokens.
    beta: weight of the odds ratio, > 0.
    gamma: weight of the rationale, tokens per nat, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` and `logps/*` of f32[B]; the reward is `beta` times the average
      log-probability; `rationale/nll` nats per token.

  Raises:
    Refused: not three candidates, or a knob out of its range.

  Example:
    >>> loss, _ = rationale_orpo(
    ...   jnp.asarray([[-0.5, -1.0, -2.0]]), jnp.ones((1, 3)), beta=1.0, gamma=1.0)
    >>> print(f"{loss[0]:.6f}")
    2.447228

  Reference: Just et al., "Data-Centric Human Preference with Rationales for Direct Preference
  Alignment" (2024), RORPO, its public code (card: papers/rationales.md).
  """
  loss, metrics = _odds("rationale_orpo", logp, length, beta, gamma)
  rho = average_logp(logp, length)[:, 2]
  return loss + jnp.where(length[:, 2] > 0, jax.nn.softplus(-gamma * rho), 0.0), metrics


def rationale_orpo_linear(logp, length, *, beta: float = 0.1, gamma: float = 1.0):
  r"""Odds-ratio preference and the log-likelihood of the rationale, both per token.

  .. math:: \ell = -\beta \log \sigma\left((a_0 - a_1) - \log \frac{1 - e^{a_0}}{1 - e^{a_1}}\right)
    - \gamma \rho

  with the symbols of `rationale_orpo`: what the published runs used, beside the term `nll`.

  Args:
    logp: f32[B, 3], summed log-probability of both responses and the rationale, nats.
    length: f32[B, 3], their tokens.
    beta: weight of the odds ratio, > 0.
    gamma: weight of the rationale, tokens per nat, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: as `rationale_orpo`.

  Raises:
    Refused: not three candidates, or a knob out of its range.

  Example:
    >>> loss, _ = rationale_orpo_linear(
    ...   jnp.asarray([[-0.5, -1.0, -2.0]]), jnp.ones((1, 3)), beta=1.0)
    >>> print(f"{loss[0]:.6f}")
    2.320300

  Reference: Just et al., "Data-Centric Human Preference with Rationales for Direct Preference
  Alignment" (2024), RORPO, the simple form (card: papers/rationales.md).
  """
  loss, metrics = _odds("rationale_orpo_linear", logp, length, beta, gamma)
  return loss - gamma * average_logp(logp, length)[:, 2], metrics


def _check(name, logp, *others):
  call.candidates(name, 3, logp=logp)
  chex.assert_equal_shape([logp, *others])


def _dpo(name, logp, ref_logp, length, beta, gamma):
  call.positive(name, beta=beta)
  call.at_least(name, 0, gamma=gamma)
  _check(name, logp, ref_logp, length)
  reward = beta * (logp - jax.lax.stop_gradient(ref_logp))[:, :2]
  told = pair_rewards(reward) | pair_logps(logp[:, :2]) | _told(logp, length)
  return jax.nn.softplus(reward[:, 1] - reward[:, 0]), told


def _odds(name, logp, length, beta, gamma):
  call.positive(name, beta=beta)
  call.at_least(name, 0, gamma=gamma)
  _check(name, logp, length)
  a = average_logp(logp, length)[:, :2]
  odds = jnp.minimum(a, -1e-6) - log1mexp(jnp.minimum(a, -1e-6))
  told = pair_rewards(beta * a) | pair_logps(logp[:, :2]) | _told(logp, length)
  return beta * jax.nn.softplus(odds[:, 1] - odds[:, 0]), told


def _told(logp, length):
  nll = jax.lax.stop_gradient(-average_logp(logp, length)[:, 2])
  return {"rationale/nll": (nll, (length[:, 2] > 0).astype(jnp.float32))}
