"""Preferences that need not be transitive: embeddings instead of scores, and policies on them."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import pair_logps, skew
from jaxpref.types import Refused


def general_preference(embedding, *, tau: float = 0.1):
  r"""General preference model: the log-loss of a form of two embeddings that is skew-symmetric.

  With embeddings `v_0` (preferred) and `v_1`, each of E/2 planes

  .. math:: s = \sum_l (v_{0,2l} v_{1,2l+1} - v_{0,2l+1} v_{1,2l}), \quad
    \ell = -\log \sigma(s / \tau)

  Swapping the responses changes the sign of `s`; a response against itself has `s = 0` and loss
  log 2. Cycles can be expressed from two dimensions on. With `v = (r, 1)` it is Bradley-Terry.

  Args:
    embedding: f32[B, 2, E], preference embedding of each response, preferred first; E even.
    tau: temperature, > 0; 0.1 for embeddings of length 1.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `preference/score` (`s / tau`, log-odds), `preference/probability` and
      `preference/accuracy` (1 where `s > 0`), f32[B].

  Raises:
    Refused: not two candidates, an odd E, or `tau` not above 0.

  Example:
    >>> loss, _ = general_preference(jnp.asarray([[[1.0, 0.0], [0.0, 1.0]]]), tau=1.0)
    >>> print(f"{loss[0]:.6f}")
    0.313262

  Reference: Zhang et al., "Beyond Bradley-Terry Models: A General Preference Model for Language
  Model Alignment" (2025), eqs. 4.1 and A.1 (card: papers/gpm.md).
  """
  score = _score("general_preference", embedding, 1.0, tau)
  return jax.nn.softplus(-score), _report(score)


def general_preference_margin(embedding, strength, *, tau: float = 0.1, scale: float = 1.0):
  r"""General preference model that asks for a margin.

  With `s` as in `general_preference` and `m` the strength of the preference

  .. math:: \ell = -\log \sigma((s - c\,m) / \tau)

  Args:
    embedding: f32[B, 2, E], preference embedding of each response, preferred first; E even.
    strength: f32[B], `m`; no gradient.
    tau: temperature, > 0.
    scale: `c`, score per unit of strength, at least 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: as `general_preference`, without the margin.

  Raises:
    Refused: not two candidates, an odd E, or a knob out of its range.

  Example:
    >>> loss, _ = general_preference_margin(
    ...   jnp.asarray([[[1.0, 0.0], [0.0, 1.0]]]), jnp.asarray([1.0]), tau=1.0)
    >>> print(f"{loss[0]:.6f}")
    0.693147

  Reference: Zhang et al., "Beyond Bradley-Terry Models: A General Preference Model for Language
  Model Alignment" (2025), its public code (card: papers/gpm.md).
  """
  call.at_least("general_preference_margin", 0, scale=scale)
  score = _score("general_preference_margin", embedding, 1.0, tau)
  margin = scale * jax.lax.stop_gradient(strength) / tau
  return jax.nn.softplus(margin - score), _report(score)


def general_preference_gated(embedding, gate, *, tau: float = 0.1):
  r"""General preference model whose planes are weighted by the prompt.

  With weights `g_l >= 0`, made from the prompt alone, the same for both responses

  .. math:: s = \sum_l g_l (v_{0,2l} v_{1,2l+1} - v_{0,2l+1} v_{1,2l}), \quad
    \ell = -\log \sigma(s / \tau)

  Args:
    embedding: f32[B, 2, E], preference embedding of each response, preferred first.
    gate: f32[B, M], `g`, one weight per plane; M is E/2.
    tau: temperature, > 0.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: as `general_preference`.

  Raises:
    Refused: not two candidates, M other than E/2, or `tau` not above 0.

  Example:
    >>> loss, _ = general_preference_gated(
    ...   jnp.asarray([[[1.0, 0.0], [0.0, 1.0]]]), jnp.asarray([[0.5]]), tau=0.5)
    >>> print(f"{loss[0]:.6f}")
    0.313262

  Reference: Zhang et al., "Beyond Bradley-Terry Models: A General Preference Model for Language
  Model Alignment" (2025), section 4.3 (card: papers/gpm.md).
  """
  if gate.shape[-1] * 2 != embedding.shape[-1]:
    raise Refused(
      f"general_preference_gated needs one weight per plane of two numbers: gate has shape "
      f"{tuple(gate.shape)}, embedding {tuple(embedding.shape)}."
    )
  score = _score("general_preference_gated", embedding, gate, tau)
  return jax.nn.softplus(-score), _report(score)


def general_preference_regression(embedding, *, tau: float = 0.1, target: float = 10.0):
  r"""General preference model fitted to a target score instead of a likelihood.

  .. math:: \ell = \tfrac{1}{2} (s / \tau - y)^2

  with `s` as in `general_preference`. The gradient does not vanish for pairs that are far right.

  Args:
    embedding: f32[B, 2, E], preference embedding of each response, preferred first; E even.
    tau: temperature, > 0.
    target: `y`, log-odds that every pair is to have.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: as `general_preference`.

  Raises:
    Refused: not two candidates, an odd E, or `tau` not above 0.

  Example:
    >>> loss, _ = general_preference_regression(jnp.zeros((1, 2, 4)))
    >>> print(loss)
    [50.]

  Reference: Zhang et al., "Beyond Bradley-Terry Models: A General Preference Model for Language
  Model Alignment" (2025), its public code (card: papers/gpm.md).
  """
  score = _score("general_preference_regression", embedding, 1.0, tau)
  return 0.5 * (score - target) ** 2, _report(score)


def gpo(logp, ref_logp, reward, *, beta: float = 0.001):
  r"""General preference optimisation: log-ratios are fitted to mean preference scores.

  With log-ratio `d_k = logp_k - ref_logp_k` and `s_k` the mean score of response k against the
  responses of the previous policy

  .. math:: \ell = \tfrac{1}{2} \sum_k (d_k - s_k / \beta)^2

  Where all `s_k` are 0 the reference is optimal. With `s_k = P_k - 1/2`, P the probability to win
  against the previous policy, it is self-play preference optimisation (SPPO).

  Args:
    logp: f32[B, K], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, K], the same under the previous policy; no gradient flows.
    reward: f32[B, K], `s`, mean preference score of each response; no gradient.
    beta: score units per nat of log-ratio, > 0.

  Returns:
    loss: f32[B], one value per prompt, nats squared; not reduced.
    metrics: `rewards/mean` f32[B, K], `beta (logp - ref_logp)`, which is to become `s`.

  Raises:
    Refused: `beta` not above 0.

  Example:
    >>> loss, _ = gpo(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.0]]),
    ...   jnp.asarray([[0.5, -0.5]]), beta=0.5)
    >>> print(loss)
    [0.]

  Reference: Zhang et al., "Beyond Bradley-Terry Models: A General Preference Model for Language
  Model Alignment" (2025), eq. 5.3 (card: papers/gpm.md); Wu et al., "Self-Play Preference
  Optimization for Language Model Alignment" (2024).
  """
  call.positive("gpo", beta=beta)
  chex.assert_equal_shape([logp, ref_logp, reward])
  ratio = logp - jax.lax.stop_gradient(ref_logp)
  loss = 0.5 * ((ratio - jax.lax.stop_gradient(reward) / beta) ** 2).sum(1)
  logps = pair_logps(logp) if logp.shape[1] == 2 else {}
  return loss, {"rewards/mean": jax.lax.stop_gradient(beta * ratio)} | logps


def _score(name, embedding, gate, tau):
  """`s / tau` of a pair."""
  call.positive(name, tau=tau)
  call.candidates(name, 2, embedding=embedding)
  if embedding.shape[-1] % 2:
    raise Refused(f"{name} needs embeddings of planes, E even; E is {embedding.shape[-1]}.")
  return skew(embedding[:, 0], embedding[:, 1], gate) / tau


def _report(score):
  score = jax.lax.stop_gradient(score)
  return {
    "preference/score": score,
    "preference/probability": jax.nn.sigmoid(score),
    "preference/accuracy": (score > 0).astype(jnp.float32),
  }
