"""Preference learning algorithms do not learn preference rankings.

Question: DPO raises the likelihood *ratio* of the preferred response; does the policy then also
give it the higher likelihood?
Card: papers/pref_ranking.md.  Full scale there: GPT-2, Pythia-2.8B and Llama-2-7B on HH-RLHF.
"""

from ml_collections import config_dict

from experiments.pref_ranking import language, tabular
from jaxpref.experiment import Cell, Claim, Published, above, difference
from jaxpref.types import Refused

GAMMAS = (0.0, 0.25, 0.5, 1.0, 2.0)
BETAS = (0.01, 0.1, 1.0, 5.0, 10.0)  # those of the paper's sweep
LOSSES = (0.688, 0.669, 0.602)  # where the card's trial looked
HARD = tuple(f"table gamma={gamma:g}" for gamma in GAMMAS)
MODEL_GAMMAS = (0.0, 0.25, 1.0, 2.0)
MODEL = tuple(f"DPO gamma={gamma:g}" for gamma in MODEL_GAMMAS)
SOFT = tuple(f"table soft labels beta={beta:g}" for beta in BETAS)

PUBLISHED = {
  ("DPO gamma=1", "heldout/step 0/ranking_accuracy"): Published(
    0.467, "Table 2, Tulu-2-7B, HH-RLHF test"
  ),
  ("DPO gamma=1", "heldout/ranking_accuracy"): Published(0.461, "Table 2, the same after DPO"),
  ("DPO gamma=1", "heldout/ranking_accuracy_normalised"): Published(
    0.514, "Table 2, the same after DPO"
  ),
  ("DPO gamma=1", "train/flipped"): Published("< 0.10", "text, Pythia-2.8B, HH-RLHF"),
}

SHOWN = {
  "Table of logits, majority labels, beta = 0.1, after 420 steps": (
    "loss",
    "reference_accuracy",
    "ranking_accuracy",
    "reward_accuracy",
    "ideal_accuracy",
    "flipped",
  ),
  "Table of logits, shares of raters as labels, at the optimum": (
    "largest_error",
    "reference_accuracy",
    "ranking_accuracy",
    "ideal_accuracy",
    "pairs_unlike_ideal",
  ),
  "Language model, held-out pairs, at the lowest held-out loss": (
    "heldout/step 0/ranking_accuracy",
    "heldout/ranking_accuracy",
    "heldout/ranking_accuracy_normalised",
    "heldout/reward_accuracy",
    "heldout/ideal_accuracy",
    "heldout/flipped",
    "heldout/flip_correlation",
  ),
  "Language model, training pairs, at the lowest held-out loss": (
    "train/step 0/ranking_accuracy",
    "train/ranking_accuracy",
    "train/ranking_accuracy_normalised",
    "train/reward_accuracy",
    "train/ideal_accuracy",
    "train/flipped",
    "train/flip_correlation",
  ),
  "Language model, held-out pairs, along training": tuple(
    f"heldout/step {step}/{metric}"
    for metric in ("ranking_accuracy", "reward_accuracy", "flipped")
    for step in (30, 90, 150)
  ),
  "Language model, training pairs, after the last step": tuple(
    f"train/step 150/{metric}" for metric in ("ranking_accuracy", "reward_accuracy", "flipped")
  ),
}


def _all_zero(rows, metric):
  """A predicate: the metric is 0 in every seed of every row."""

  def holds(table):
    values = [v for row in rows for v in table[row, metric].by_seed.values()]
    return not any(values), f"{sum(values):g} over {len(values)} runs"

  return holds


def _not_rising(rows, metric):
  """A predicate: the mean of the metric does not rise from row to row; the detail is its fall."""

  def holds(table):
    means = [table[row, metric] for row in rows]
    ordered = all(a >= b for a, b in zip(means, means[1:], strict=False))
    return ordered, difference(means[0], means[-1])

  return holds


def _optimum(table):
  largest = max(v for row in SOFT for v in table[row, "largest_error"].by_seed.values())
  return largest < 1e-9, f"largest error {largest:.1g} reward units over {len(SOFT)} betas"


def _gap(row, high, low):
  """A predicate: one metric of a row is more than 15 points above another."""
  return lambda table: above(difference(table[row, high], table[row, low]), 0.15)


LM = MODEL[MODEL_GAMMAS.index(1.0)]
DPO = HARD[GAMMAS.index(1.0)]
CLAIMS = (
  Claim(
    "Theorem 4.1: a pair is ranked rightly exactly when its loss is at most -log sigmoid(beta "
    "gamma c), for every pair at every step (pairs that break it)",
    _all_zero(HARD, "theorem_41_broken"),
  ),
  Claim(
    "a pair that the reference ranks rightly is ranked rightly once its DPO loss is at most 0.6 "
    "(pairs that break it)",
    _all_zero((DPO,), "proposition_broken"),
  ),
  Claim(
    "Theorem 3.1: with shares of raters as labels DPO ends at log pi(y_w)/pi(y_l) = -c + "
    "logit(alpha)/beta",
    _optimum,
  ),
  Claim(
    "Corollary 3.3: the policy trained to that optimum ranks each pair as R* says (pairs unlike "
    "it)",
    _all_zero(SOFT, "pairs_unlike_ideal"),
  ),
  Claim("R* does not rise with beta", _not_rising(SOFT, "ideal_accuracy")),
  Claim(
    "while the loss has only fallen to 0.688, reward accuracy is more than 15 points above ranking "
    "accuracy",
    _gap(DPO, "at loss 0.688/reward_accuracy", "at loss 0.688/ranking_accuracy"),
  ),
  Claim(
    "at loss 0.669, less than half of the pairs that the reference ranks wrongly are flipped",
    lambda t: (t[DPO, "at loss 0.669/flipped"] < 0.5, t[DPO, "at loss 0.669/flipped"]),
  ),
  Claim(
    "flips are those of small c: the rank correlation of a flip with -c is positive",
    lambda t: above(t[DPO, "flip_correlation"]),
  ),
  Claim(
    "the ideal ranking accuracy is more than 15 points above the trained one",
    _gap(DPO, "ideal_accuracy", "ranking_accuracy"),
  ),
  Claim(
    "a larger gamma gives a lower ranking accuracy after equally many steps",
    _not_rising(HARD, "ranking_accuracy"),
  ),
  Claim(
    "language model: Theorem 4.1 holds for every pair, in float32 (share of pairs that break it)",
    _all_zero(MODEL, "heldout/theorem_41_broken"),
  ),
  Claim(
    "language model: reward accuracy is more than 15 points above ranking accuracy, training pairs",
    _gap(LM, "train/reward_accuracy", "train/ranking_accuracy"),
  ),
  Claim(
    "language model: less than half of the training pairs that the reference ranks wrongly are "
    "flipped at the lowest held-out loss",
    lambda t: (t[LM, "train/flipped"] < 0.5, t[LM, "train/flipped"]),
  ),
  Claim(
    "language model: flips are those of small c, held-out pairs",
    lambda t: above(t[LM, "heldout/flip_correlation"]),
  ),
  Claim(
    "language model: the ideal ranking accuracy is more than 15 points above the trained one, "
    "held-out pairs",
    _gap(LM, "heldout/ideal_accuracy", "heldout/ranking_accuracy"),
  ),
  Claim(
    "language model: a larger gamma gives a lower ranking accuracy after equally many steps, "
    "held-out pairs",
    _not_rising(MODEL, "heldout/step 150/ranking_accuracy"),
  ),
)


def _tabular(beta, gamma, lr, steps, at=()):
  return config_dict.ConfigDict(
    dict(
      seed=0,
      problem=dict(prompts=400, outputs=8, ref_scale=3.0, reward_scale=2.0),
      beta=beta,
      gamma=gamma,
      lr=lr,
      steps=steps,
      at=at,
    )
  )


def _part_a():
  """The exact part; it has one size."""
  for row, gamma in zip(HARD, GAMMAS, strict=True):
    at = LOSSES if gamma == 1.0 else ()
    config = _tabular(beta=0.1, gamma=gamma, lr=0.05, steps=420, at=at)
    yield Cell(row=row, config=config, seeds=range(5), run=tabular.hard)
  for row, beta in zip(SOFT, BETAS, strict=True):
    # the curvature of the loss in the logits is at most beta**2 / 2, so lr stays below 4 / beta**2
    config = _tabular(beta=beta, gamma=1.0, lr=3.8 / beta**2, steps=100_000)
    yield Cell(row=row, config=config, seeds=range(3), run=tabular.soft)


def cells(scale):
  """The cells of a scale; `tiny` only so far."""
  if scale != "tiny":
    raise Refused(f"pref_ranking has no cells at scale {scale!r}; use tiny.")
  yield from _part_a()
  for row, gamma in zip(MODEL, MODEL_GAMMAS, strict=True):
    yield Cell(row=row, config=language.config(gamma, scale), seeds=range(3), run=language.run)
