"""Self-supervised preference optimisation: the policy learns how much of a response is left."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref.numerics import masked_logsumexp


def spo_degree(degree_logits, degree):
  r"""The auxiliary loss of self-supervised preference optimisation: cross-entropy of degrees.

  A linear head on the last hidden state tells how much key content was removed from a response,
  in D classes with scores `g`; `d` is the true class

  .. math:: \ell = -\log \mathrm{softmax}(g)_d

  It is added to any pairwise loss with a small weight (0.1); no reference is read. At equal scores
  it is log D. A degree outside the classes counts as the nearest one.

  Args:
    degree_logits: f32[B, D], scores of the degrees, before normalisation.
    degree: i32[B], true degree, 0 where nothing was removed.

  Returns:
    loss: f32[B], one value per response, not reduced.
    metrics: `degree/accuracies` f32[B], 1 where the largest score is that of the true degree.

  Example:
    >>> loss, _ = spo_degree(jnp.asarray([[2.0, 0.0, 0.0, 0.0]]), jnp.asarray([0]))
    >>> print(f"{loss[0]:.6f}")
    0.340753

  Reference: Li et al., "Self-supervised Preference Optimization: Enhance Your Language Model with
  Preference Degree Awareness" (2024); card spo, section 3 (the paper's code is not public).
  """
  chex.assert_rank(degree_logits, 2)
  chex.assert_shape(degree, degree_logits.shape[:1])
  classes = degree_logits.shape[1]
  true = jax.nn.one_hot(jnp.clip(degree.astype(jnp.int32), 0, classes - 1), classes)
  own = (degree_logits * true).sum(1, keepdims=True)
  # against the other classes only, so that a certain class keeps its small loss
  loss = jax.nn.softplus(masked_logsumexp(degree_logits - own, 1.0 - true, 1))
  right = degree_logits.argmax(1) == true.argmax(1)
  return loss, {"degree/accuracies": right.astype(jnp.float32)}
