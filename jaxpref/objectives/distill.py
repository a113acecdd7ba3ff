"""Distillation from a teacher's distributions: divergences of two sets of logits, per token."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import log1mexp, unit
from jaxpref.types import Refused


def gkd(logits, teacher_logits, mask, *, beta: float = 0.5, temperature: float = 1.0):
  r"""Generalised knowledge distillation: a Jensen-Shannon divergence between teacher and student.

  With teacher `p`, student `q`, both of logits over the temperature, and `m = b p + (1 - b) q`

  .. math:: \ell_t = b\, KL(p \,\|\, m) + (1 - b)\, KL(q \,\|\, m)

  `b = 0` is defined as `KL(p || q)` (forward: the student covers the teacher) and `b = 1` as
  `KL(q || p)` (reverse: it seeks a mode), the limits of the divergence over `b` and `1 - b`; the
  divergence itself tends to 0 there. No factor of the squared temperature.

  Args:
    logits: f32[B, K, T, V], the student's, at the place of the token that they predict.
    teacher_logits: f32[B, K, T, V], the teacher's; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    beta: `b`, in [0, 1].
    temperature: of both, > 0.

  Returns:
    loss: f32[B, K, T], nats, 0 where the mask is 0; not reduced.
    metrics: `distill/divergence` f32[B, K, T], the same without gradient, and
      `distill/agreement`, 1 where both have the same likeliest token.

  Raises:
    Refused: a knob out of its range, or logits of different shapes.

  Example:
    >>> logits, teacher = jnp.zeros((1, 1, 1, 2)), jnp.log(jnp.asarray([[[[0.9, 0.1]]]]))
    >>> loss, _ = gkd(logits, teacher, jnp.ones((1, 1, 1)), beta=0.0)
    >>> print(f"{loss[0, 0, 0]:.6f}")
    0.368064

  Reference: Agarwal et al., "On-Policy Distillation of Language Models: Learning from
  Self-Generated Mistakes" (2023), eq. 1. Catalogue 1, section 8, `gkd`.
  """
  student, teacher = _logps("gkd", logits, teacher_logits, mask, beta, temperature)
  return _masked(divergence(teacher, student, beta), logits, teacher_logits, mask)


def topk_renormalised(
  logits, teacher_logits, mask, *, k: int = 20, beta: float = 0.0, temperature: float = 1.0
):
  r"""Distillation on the student's likeliest tokens, both distributions renormalised on them.

  With `S` the student's `k` likeliest tokens and `p_S = p / sum_S p`, likewise `q_S`

  .. math:: \ell_t = D_b(p_S, q_S)

  the divergence of `gkd`. What lies outside of `S` does not matter. `k >= V` is `gkd`.

  Args:
    logits: f32[B, K, T, V], the student's, at the place of the token that they predict.
    teacher_logits: f32[B, K, T, V], the teacher's; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    k: tokens that are kept, at least 1; more than V are V.
    beta: as in `gkd`.
    temperature: of both, > 0.

  Returns:
    loss: f32[B, K, T], nats, 0 where the mask is 0; not reduced.
    metrics: as `gkd`.

  Raises:
    Refused: a knob out of its range, or logits of different shapes.

  Example:
    >>> logits = jnp.asarray([[[[2.0, 1.0, 0.0]]]])
    >>> teacher = jnp.asarray([[[[2.0, 1.0, 9.0]]]])
    >>> loss, _ = topk_renormalised(logits, teacher, jnp.ones((1, 1, 1)), k=2)
    >>> print(f"{abs(loss[0, 0, 0]):.6f}")
    0.000000

  Reference: top-k distillation as on-policy self-distillation uses it. Catalogue 1, section 8,
  `topk` (2025).
  """
  student, teacher = _top("topk_renormalised", logits, teacher_logits, mask, k, beta, temperature)
  student, teacher = (jax.nn.log_softmax(x, -1) for x in (student, teacher))
  return _masked(divergence(teacher, student, beta), logits, teacher_logits, mask)


def topk_tail(
  logits, teacher_logits, mask, *, k: int = 20, beta: float = 0.0, temperature: float = 1.0
):
  r"""Distillation on the student's likeliest tokens and one bucket for all others.

  With `S` the student's `k` likeliest tokens, each distribution on them and on the rest

  .. math:: \ell_t = D_b(\{p_v\}_{v \in S} \cup \{1 - \sum_S p\},\;
    \{q_v\}_{v \in S} \cup \{1 - \sum_S q\})

  the divergence of `gkd`. Unlike `topk_renormalised` it sees how much lies outside of `S`.

  Args:
    logits: f32[B, K, T, V], the student's, at the place of the token that they predict.
    teacher_logits: f32[B, K, T, V], the teacher's; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    k: tokens that are kept, at least 1; more than V are V.
    beta: as in `gkd`.
    temperature: of both, > 0.

  Returns:
    loss: f32[B, K, T], nats, 0 where the mask is 0; not reduced.
    metrics: as `gkd`.

  Raises:
    Refused: a knob out of its range, or logits of different shapes.

  Example:
    >>> logits = jnp.log(jnp.asarray([[[[0.5, 0.25, 0.25]]]]))
    >>> teacher = jnp.log(jnp.asarray([[[[0.25, 0.5, 0.25]]]]))
    >>> loss, _ = topk_tail(logits, teacher, jnp.ones((1, 1, 1)), k=1)
    >>> print(f"{loss[0, 0, 0]:.6f}")
    0.130812

  Reference: top-k distillation as on-policy self-distillation uses it. Catalogue 1, section 8,
  `topk` (2025).
  """
  student, teacher = _top("topk_tail", logits, teacher_logits, mask, k, beta, temperature)
  rest = lambda x: log1mexp(jax.nn.logsumexp(x, -1, keepdims=True))
  student, teacher = (jnp.concatenate([x, rest(x)], -1) for x in (student, teacher))
  return _masked(divergence(teacher, student, beta), logits, teacher_logits, mask)


def uld(logits, teacher_logits, mask, *, temperature: float = 1.0):
  r"""Universal logit distillation: sorted probabilities are compared, so vocabularies may differ.

  With the probabilities of teacher and student in descending order, the shorter filled with 0

  .. math:: \ell_t = \sum_i |p_{(i)} - q_{(i)}|

  Which token has a probability does not matter: a teacher with another tokenizer can be used, if
  its logits stand at the same places.

  Args:
    logits: f32[B, K, T, V], the student's, at the place of the token that they predict.
    teacher_logits: f32[B, K, T, V], the teacher's, of any vocabulary size; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    temperature: of both, > 0.

  Returns:
    loss: f32[B, K, T], between 0 and 2, 0 where the mask is 0; not reduced.
    metrics: `distill/distance` f32[B, K, T], the same without gradient.

  Raises:
    Refused: `temperature` not above 0.

  Example:
    >>> logits, teacher = jnp.zeros((1, 1, 1, 2)), jnp.asarray([[[[50.0, 0.0, 0.0]]]])
    >>> print(uld(logits, teacher, jnp.ones((1, 1, 1)))[0])
    [[[1.]]]

  Reference: Boizard et al., "Towards Cross-Tokenizer Distillation: the Universal Logit Distillation
  Loss for LLMs" (2024). Catalogue 1, section 8, `uld`.
  """
  call.positive("uld", temperature=temperature)
  chex.assert_equal_shape_prefix([logits, teacher_logits, mask], 3)
  most = max(logits.shape[-1], teacher_logits.shape[-1])

  def ordered(x):
    p = jnp.sort(jax.nn.softmax(x / temperature, -1), -1, descending=True)
    return jnp.pad(p, ((0, 0), (0, 0), (0, 0), (0, most - p.shape[-1])))

  gap = jnp.abs(ordered(jax.lax.stop_gradient(teacher_logits)) - ordered(logits)).sum(-1)
  loss = jnp.where(mask > 0, gap, 0.0)
  return loss, {"distill/distance": jax.lax.stop_gradient(loss)}


def cosine(logits, teacher_logits, mask, *, beta: float = 0.5):
  r"""Distillation by the angle between the logits of student and teacher.

  .. math:: \ell_t = \beta\,(1 - \cos(z_t, z'_t))

  with the student's logits `z` and the teacher's `z'`. Unlike a divergence it changes when a
  constant is added to logits. Logits that are all 0 have cosine 0.

  Args:
    logits: f32[B, K, T, V], the student's, at the place of the token that they predict.
    teacher_logits: f32[B, K, T, V], the teacher's; no gradient flows.
    mask: f32[B, K, T], 1 on response tokens that count.
    beta: weight, > 0.

  Returns:
    loss: f32[B, K, T], between 0 and `2 beta`, 0 where the mask is 0; not reduced.
    metrics: `distill/cosine` f32[B, K, T].

  Raises:
    Refused: `beta` not above 0, or logits of different shapes.

  Example:
    >>> logits, teacher = jnp.asarray([[[[1.0, 0.0]]]]), jnp.asarray([[[[0.0, 2.0]]]])
    >>> print(cosine(logits, teacher, jnp.ones((1, 1, 1)))[0])
    [[[0.5]]]

  Reference: cosine similarity of logits, e.g. Hsu et al., "Liger Kernel: Efficient Triton Kernels
  for LLM Training" (2024). Catalogue 1, section 8.
  """
  call.positive("cosine", beta=beta)
  _same("cosine", logits, teacher_logits, mask)
  near = (unit(logits) * unit(jax.lax.stop_gradient(teacher_logits))).sum(-1)
  loss = jnp.where(mask > 0, beta * (1.0 - near), 0.0)
  return loss, {"distill/cosine": jax.lax.stop_gradient(near)}


def divergence(teacher, student, beta: float):
  """`D_b` of `gkd` between log-probabilities over the last axis, which it sums.

  Args:
    teacher: f32[..., V], log-probabilities.
    student: f32[..., V], log-probabilities.
    beta: in [0, 1].

  Returns:
    f32[...], nats.
  """
  if beta == 0:
    return _kl(teacher, student)
  if beta == 1:
    return _kl(student, teacher)
  mixed = jnp.logaddexp(jnp.log(beta) + teacher, jnp.log1p(-beta) + student)
  return beta * _kl(teacher, mixed) + (1.0 - beta) * _kl(student, mixed)


def _kl(p, q):
  return (jnp.exp(p) * (p - q)).sum(-1)


def _same(name, logits, teacher_logits, mask):
  if logits.shape != teacher_logits.shape:
    raise Refused(
      f"{name} compares token by token, but the student's logits are {tuple(logits.shape)} and the "
      f"teacher's {tuple(teacher_logits.shape)}; for another vocabulary use uld."
    )
  chex.assert_shape(mask, logits.shape[:3])


def _logps(name, logits, teacher_logits, mask, beta, temperature):
  """Log-probabilities of student and teacher, after the checks that all share."""
  call.positive(name, temperature=temperature)
  call.fraction(name, beta=beta)
  _same(name, logits, teacher_logits, mask)
  teacher_logits = jax.lax.stop_gradient(teacher_logits)
  return tuple(jax.nn.log_softmax(x / temperature, -1) for x in (logits, teacher_logits))


def _top(name, logits, teacher_logits, mask, k, beta, temperature):
  """Log-probabilities of both on the student's k likeliest tokens."""
  call.at_least(name, 1, k=k)
  student, teacher = _logps(name, logits, teacher_logits, mask, beta, temperature)
  _, places = jax.lax.top_k(jax.lax.stop_gradient(logits), min(k, logits.shape[-1]))
  return tuple(jnp.take_along_axis(x, places, -1) for x in (student, teacher))


def _masked(loss, logits, teacher_logits, mask):
  loss = jnp.where(mask > 0, loss, 0.0)
  same = jnp.argmax(logits, -1) == jnp.argmax(teacher_logits, -1)
  return loss, {
    "distill/divergence": jax.lax.stop_gradient(loss),
    "distill/agreement": same.astype(jnp.float32),
  }
