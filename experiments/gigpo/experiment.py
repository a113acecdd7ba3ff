"""Group-in-Group Policy Optimization for LLM agent training.

Question: episodes of many turns are rewarded at the end only; does it help to compare steps taken
in the same state with each other, besides whole episodes?
Card: papers/gigpo.md.  Full scale there: Qwen2.5-1.5B and 7B on ALFWorld and WebShop.
"""

from ml_collections import config_dict

from configs import group_rl
from experiments.gigpo import tabular
from jaxpref.experiment import Cell, Claim, Published, difference
from jaxpref.types import Refused

GRPO, MEAN, GIGPO, GIGPO_STD = "GRPO", "mean baseline", "GiGPO", "GiGPO with std"
STEP, STEP_STD = "step level only", "step level only with std"
APART = " - no state repeats"
METHODS = {
  GRPO: dict(estimator="grpo"),
  MEAN: dict(estimator="dr_grpo"),
  GIGPO: dict(estimator="gigpo"),
  GIGPO_STD: dict(estimator="gigpo", normalise="std"),
  STEP: dict(estimator="step"),
  STEP_STD: dict(estimator="step", normalise="std"),
  MEAN + APART: dict(estimator="dr_grpo", noise=1.0),
  GIGPO + APART: dict(estimator="gigpo", noise=1.0),
  STEP + APART: dict(estimator="step", noise=1.0),
}
MODEL = {"language model, GRPO": "grpo", "language model, GiGPO": "gigpo"}

_WHERE = "Table 1, Qwen2.5-1.5B-Instruct, ALFWorld, all tasks"
PUBLISHED = {
  (GRPO, "success/end"): Published(0.728, _WHERE),
  (GIGPO, "success/end"): Published(0.861, _WHERE + ", without std"),
  (GIGPO_STD, "success/end"): Published(0.867, _WHERE + ", with std"),
}
SHOWN = {
  "Table of logits, key-door grid": (
    "success/start",
    "success/middle",
    "success/end",
    "turns/end",
    "advantage/step",
  ),
}


def _sure(value):
  """A mean that is above 0 by three standard errors."""
  return bool(value > 3 * value.se), value


def _gain(row, other, metric, sign=1):
  """A predicate: a row is better than another by three standard errors of paired runs."""

  def holds(table):
    a, b = table[row, metric], table[other, metric]
    return _sure(difference(a, b) if sign > 0 else difference(b, a))

  return holds


def _still(table):
  gain = difference(table[STEP + APART, "success/end"], table[STEP + APART, "success/start"])
  return abs(gain) < 0.1, gain


def _alike(table):
  off = difference(table[GIGPO + APART, "success/end"], table[MEAN + APART, "success/end"])
  return max(map(abs, off.by_seed.values())) < 1e-9, off


CLAIMS = (
  Claim(
    "GiGPO succeeds more often than GRPO in iterations 15 to 24, by 3 standard errors",
    _gain(GIGPO, GRPO, "success/middle"),
  ),
  Claim("so does GiGPO with std, by 3 standard errors", _gain(GIGPO_STD, GRPO, "success/middle")),
  Claim(
    "GiGPO needs fewer steps per episode than GRPO in the last 20 iterations, by 3 standard errors",
    _gain(GIGPO, GRPO, "turns/end", sign=-1),
  ),
  Claim(
    "so does GiGPO with std, by 3 standard errors", _gain(GIGPO_STD, GRPO, "turns/end", sign=-1)
  ),
  Claim(
    "removing the step level hurts: GiGPO ends with more successes than the mean baseline, by 3 "
    "standard errors",
    _gain(GIGPO, MEAN, "success/end"),
  ),
  Claim(
    "removing the episode level hurts: GiGPO succeeds more often in iterations 15 to 24 than its "
    "step level only, by 3 standard errors",
    _gain(GIGPO, STEP, "success/middle"),
  ),
  Claim(
    "where no state repeats the step level does not learn (end minus start within 0.1)", _still
  ),
  Claim("where no state repeats GiGPO is the mean baseline, in every seed", _alike),
)


def _tabular(**changes):
  values = dict(seed=0, estimator="gigpo", normalise="mean", noise=0.0, gamma=0.95, steps=80)
  values |= dict(tasks=8, episodes=8, size=5, horizon=30, prize=10.0, sharpness=1.5, lr=1.0)
  return config_dict.ConfigDict(values | changes)


def cells(scale):
  """The cells of a scale: `tiny` is the table, `small` the language model."""
  if scale == "tiny":
    for row, changes in METHODS.items():
      yield Cell(row=row, config=_tabular(**changes), seeds=range(8), run=tabular.run)
  elif scale == "small":
    for row, estimator in MODEL.items():
      config = group_rl.get_config(f"task=keydoor,estimator={estimator},scale=tiny")
      yield Cell(row=row, config=config, seeds=range(3))
  else:
    raise Refused(f"gigpo has no cells at scale {scale!r}; use tiny or small.")
