"""Contrastive terms for reward models: two views of a response are to lie together."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import unit

COUPLED = True  # the other examples of the batch are the negatives


def simcse(embedding, *, tau: float = 0.05):
  r"""SimCSE: each view is to be nearer to its other view than to those of other examples.

  With views `u_i` and `v_i` of example `i` and the cosine `c`

  .. math:: \ell_i = -\log \frac{e^{c(u_i, v_i) / \tau}}{\sum_j e^{c(u_i, v_j) / \tau}}

  Over the whole batch. One example alone has loss 0; B equal embeddings have log B.

  Args:
    embedding: f32[B, 2, E], two views of a response (two dropouts), or of a difference of two.
    tau: temperature, > 0.

  Returns:
    loss: f32[B], nats, not reduced.
    metrics: `contrast/accuracy` f32[B], 1 where the own other view is the nearest.

  Raises:
    Refused: not two views, or `tau` not above 0.

  Example:
    >>> print(jnp.round(simcse(jnp.ones((2, 2, 3)))[0], 5))
    [0.69315 0.69315]

  Reference: Gao et al., "SimCSE: Simple Contrastive Learning of Sentence Embeddings" (2021), eq. 1;
  for reward models Wang et al., "Secrets of RLHF in Large Language Models Part II" (2024) (card:
  papers/secrets_rm.md, equation 6).
  """
  call.positive("simcse", tau=tau)
  call.candidates("simcse", 2, embedding=embedding)
  one, other = unit(embedding[:, 0]), unit(embedding[:, 1])
  alike = one @ other.T / tau
  loss = jax.nn.logsumexp(alike - jnp.diagonal(alike)[:, None], -1)
  right = jnp.argmax(alike, -1) == jnp.arange(len(alike))
  return loss, {"contrast/accuracy": right.astype(jnp.float32)}


def swav(embedding, prototypes, *, tau: float = 0.1, epsilon: float = 0.05, iterations: int = 3):
  r"""SwAV: each view is to predict the cluster that the other view is given.

  With views `u`, `v` of length 1 and prototypes `C`

  .. math:: \ell = -\sum_m q_m(u) \log p_m(v) - \sum_m q_m(v) \log p_m(u), \quad
    p(v) = \mathrm{softmax}(C v / \tau)

  The targets `q` share the batch out evenly over the prototypes: `exp(C u / epsilon)`, normalised
  in turns over the batch and over the prototypes; they have no gradient. One prototype gives 0.

  Args:
    embedding: f32[B, 2, E], two views of a response, or of a difference of two.
    prototypes: f32[M, E], cluster centres; scaled to length 1 here.
    tau: temperature of the prediction, > 0.
    epsilon: temperature of the targets, > 0.
    iterations: rounds of normalisation, at least 1.

  Returns:
    loss: f32[B], nats, the sum of both directions; not reduced.
    metrics: `contrast/agreement` f32[B], 1 where both views get the same cluster.

  Raises:
    Refused: not two views, or a knob out of its range.

  Example:
    >>> print(jnp.abs(swav(jnp.ones((2, 2, 3)), jnp.ones((1, 3)))[0]))
    [0. 0.]

  Reference: Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster
  Assignments" (2020), eqs. 1 to 5; for reward models Wang et al., "Secrets of RLHF in Large
  Language Models Part II" (2024) (card: papers/secrets_rm.md, equation 7).
  """
  call.positive("swav", tau=tau, epsilon=epsilon)
  call.at_least("swav", 1, iterations=iterations)
  call.candidates("swav", 2, embedding=embedding)
  near = unit(embedding) @ unit(prototypes).T
  targets = [sinkhorn(near[:, k], epsilon, iterations) for k in (0, 1)]
  logp = jax.nn.log_softmax(near / tau, -1)
  loss = -(targets[0] * logp[:, 1]).sum(-1) - (targets[1] * logp[:, 0]).sum(-1)
  same = jnp.argmax(targets[0], -1) == jnp.argmax(targets[1], -1)
  return loss, {"contrast/agreement": same.astype(jnp.float32)}


def sinkhorn(near, epsilon: float, iterations: int):
  """Shares of examples in clusters: rows sum to 1, columns nearly to B/M. No gradient.

  Args:
    near: f32[B, M], similarity of each example to each cluster.
    epsilon: temperature.
    iterations: rounds of normalisation.

  Returns:
    f32[B, M].
  """
  log_q = jax.lax.stop_gradient(near) / epsilon
  for _ in range(iterations):
    log_q = log_q - jax.nn.logsumexp(log_q, 0, keepdims=True)
    log_q = log_q - jax.nn.logsumexp(log_q, 1, keepdims=True)
  return jnp.exp(log_q)
