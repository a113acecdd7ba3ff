"""Ratings before and after a debate with a person or a language model (Salvi et al., 2025).

750 participants who were told nothing of the other side; 600 debates on 30 topics. The file, its
README and licence ship with the package, in `bundled/debategpt_ratings`. These are ratings, not
texts with responses, so the reader gives columns, not records.
"""

from __future__ import annotations

import csv
import importlib.resources

import numpy as np

ARMS = (
  "Human-Human",
  "Human-AI",
  "Human-Human, personalized",
  "Human-AI, personalized",
)


def debate_ratings() -> dict[str, np.ndarray]:
  """The table by columns, in the file's order.

  Returns:
    `debate` i64[N]; `arm` i64[N], place in `ARMS`; `topic` i64[N], by first appearance; `cluster`
    i64[N], 0 where opinions on the topic are weak, 1, 2 where they are strong; `before` and `after`
    i64[N], agreement with the opponent's side, 0..4; `perceived_ai` f64[N], 1 where the participant
    took the opponent for an AI.

  Example:
    >>> table = debate_ratings()
    >>> print(len(table["arm"]), np.bincount(table["arm"]), table["topic"].max() + 1)
    750 [300 150 150 150] 30

  Reference: Salvi et al., "On the conversational persuasiveness of GPT-4" (2025). Card:
  papers/persuasion.md, section 6.
  """
  path = importlib.resources.files("jaxpref.data") / "bundled" / "debategpt_ratings"
  with path.joinpath("ratings.csv").open(encoding="utf-8", newline="") as lines:
    rows = list(csv.DictReader(lines))
  column = lambda name: [row[name] for row in rows]
  topics = {name: number for number, name in enumerate(dict.fromkeys(column("topic")))}
  integers = lambda name, first: np.asarray([int(v) for v in column(name)]) - first
  return {
    "debate": integers("debate_id", 0),
    "arm": np.asarray([ARMS.index(v) for v in column("treatment_type")]),
    "topic": np.asarray([topics[v] for v in column("topic")]),
    "cluster": integers("topic_strength_cluster", 1),
    "before": integers("side_agreement_pre_likert", 1),
    "after": integers("side_agreement_post_likert", 1),
    "perceived_ai": np.asarray([float(v == "ai") for v in column("perceived_opponent")]),
  }
