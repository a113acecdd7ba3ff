"""Whether the scores of a reward model rank held-out pairs as people do."""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxpref.numerics import pair_rewards


def score_accuracy(score):
  r"""Accuracy of a reward model's scores, under the names of the training metrics.

  .. math:: 1[r_0 > r_1]

  Strict: a model that gives every response the same score has accuracy 0, and its ties are counted
  apart.

  Args:
    score: f32[B, 2], score of each response, preferred first, reward units.

  Returns:
    `rewards/{chosen,rejected,margins,accuracies,ties}`, f32[B].

  Example:
    >>> found = score_accuracy(jnp.asarray([[1.0, 0.2], [0.5, 0.5]]))
    >>> print(found["rewards/accuracies"], found["rewards/ties"])
    [1. 0.] [0. 1.]

  Reference: Ouyang et al., "Training language models to follow instructions with human feedback"
  (2022), section 3.5.
  """
  chex.assert_shape(score, (None, 2))
  ties = (score[:, 0] == score[:, 1]).astype(jnp.float32)
  return pair_rewards(score) | {"rewards/ties": ties}
