"""Metrics: `f(arrays..., *, knobs) -> {name: array}`, never reduced; statistics of two samples.

The functions listed here read arrays by their vocabulary names, so a config may name them.
`metrics.correlation`, `metrics.calibration` and `metrics.item_fairness` hold statistics over a
whole sample, which are numbers, not arrays; an evaluation also tells what `summary(each)` of its
metric's file makes.
"""

from jaxpref.metrics.likelihood import response_nll
from jaxpref.metrics.lists import (
  average_precision,
  dcg,
  mean_relevance,
  ndcg,
  recall,
  reciprocal_rank,
)
from jaxpref.metrics.ranking import (
  difficulty,
  flip_groups,
  ideal_accuracy,
  ideal_accuracy_normalised,
  order_accuracy,
  pair_accuracy,
  ranking_accuracy,
  reward_accuracy,
)
from jaxpref.metrics.score import parts_accuracy, preference_accuracy, score_accuracy

__all__ = [
  "average_precision",
  "dcg",
  "difficulty",
  "flip_groups",
  "ideal_accuracy",
  "ideal_accuracy_normalised",
  "mean_relevance",
  "ndcg",
  "order_accuracy",
  "pair_accuracy",
  "parts_accuracy",
  "preference_accuracy",
  "ranking_accuracy",
  "recall",
  "reciprocal_rank",
  "response_nll",
  "reward_accuracy",
  "score_accuracy",
]
