"""Whether the scores of a reward model rank held-out pairs as people do."""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxpref.metrics import calibration
from jaxpref.numerics import pair_rewards, skew


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


def parts_accuracy(score_parts):
  r"""Accuracy of a model of several attributes, whose mean is the score.

  .. math:: r_k = \frac{1}{M} \sum_m s_{km}, \quad 1[r_0 > r_1]

  Args:
    score_parts: f32[B, 2, M], score of each attribute, preferred response first.

  Returns:
    `rewards/{chosen,rejected,margins,accuracies,ties}`, f32[B].

  Example:
    >>> found = parts_accuracy(jnp.asarray([[[1.0, 3.0], [2.0, 1.0]]]))
    >>> print(found["rewards/margins"], found["rewards/accuracies"])
    [0.5] [1.]

  Reference: Wang et al., "HelpSteer: Multi-attribute Helpfulness Dataset for SteerLM" (2023).
  """
  return score_accuracy(score_parts.mean(-1))


def preference_accuracy(embedding, *, tau: float = 0.1):
  r"""Accuracy of a general preference model, under the names of the training metrics.

  .. math:: 1[s(0 > 1) > 0], \quad s = \sum_l (v_{0,2l} v_{1,2l+1} - v_{0,2l+1} v_{1,2l})

  A response has no reward of its own here, so only the margin `s / tau` and what follows from it
  are told.

  Args:
    embedding: f32[B, 2, E], preference embedding of each response, preferred first.
    tau: temperature of the probabilities, as in training.

  Returns:
    `rewards/{margins,accuracies,ties}`, f32[B].

  Example:
    >>> found = preference_accuracy(jnp.asarray([[[1.0, 0.0], [0.0, 1.0]]]))
    >>> print(found["rewards/margins"], found["rewards/accuracies"])
    [10.] [1.]

  Reference: Zhang et al., "Beyond Bradley-Terry Models: A General Preference Model for Language
  Model Alignment" (2025), eq. 4.1.
  """
  chex.assert_shape(embedding, (None, 2, None))
  margin = skew(embedding[:, 0], embedding[:, 1]) / tau
  return {
    "rewards/margins": margin,
    "rewards/accuracies": (margin > 0).astype(jnp.float32),
    "rewards/ties": (margin == 0).astype(jnp.float32),
  }


def summary(each) -> dict[str, float]:
  """What a whole sample tells beyond means: calibration and the spread of margins (host side).

  Args:
    each: `{metric: [N]}`, the value of each record, as the functions above name them.

  Returns:
    `rewards/ece` (see `calibration.pair_calibration`) and `rewards/margins/{std,q05,...,q95}`.
  """
  margin = each["rewards/margins"]
  told = calibration.margin_statistics(margin)
  found = {f"rewards/margins/{k}": v for k, v in told.items() if k != "mean"}
  return {"rewards/ece": calibration.pair_calibration(margin)} | found
