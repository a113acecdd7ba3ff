"""Objectives: `f(arrays..., *, knobs) -> (loss, metrics)`, never reduced."""

from jaxpref.objectives.contrastive import simcse, swav
from jaxpref.objectives.distill import (
  cosine,
  gkd,
  topk_renormalised,
  topk_tail,
  uld,
)
from jaxpref.objectives.dove import dove
from jaxpref.objectives.dpo import cdpo, dpo
from jaxpref.objectives.gpm import (
  general_preference,
  general_preference_gated,
  general_preference_margin,
  general_preference_regression,
  gpo,
)
from jaxpref.objectives.grades import (
  classify,
  ordinal,
  orm,
  prm,
  regression,
)
from jaxpref.objectives.ipo import ipo, ipo_sum
from jaxpref.objectives.kto import kto
from jaxpref.objectives.on_policy_distill import (
  iw_opd,
  minillm,
  minillm_normalised,
  sampled_rkl,
)
from jaxpref.objectives.rationale import (
  rationale_dpo,
  rationale_dpo_linear,
  rationale_nll,
  rationale_orpo,
  rationale_orpo_linear,
)
from jaxpref.objectives.reward import (
  bradley_terry,
  bradley_terry_floored,
  bradley_terry_margin,
  bradley_terry_scaled,
  bradley_terry_smooth,
  bradley_terry_soft,
  bradley_terry_soft_margin,
  score_spread,
)
from jaxpref.objectives.simpo import simpo
from jaxpref.objectives.supervised import (
  asft,
  dft,
  nll,
  nll_each,
  nll_weighted,
)

__all__ = [
  "asft",
  "bradley_terry",
  "bradley_terry_floored",
  "bradley_terry_margin",
  "bradley_terry_scaled",
  "bradley_terry_smooth",
  "bradley_terry_soft",
  "bradley_terry_soft_margin",
  "cdpo",
  "classify",
  "cosine",
  "dft",
  "dove",
  "dpo",
  "general_preference",
  "general_preference_gated",
  "general_preference_margin",
  "general_preference_regression",
  "gkd",
  "gpo",
  "ipo",
  "ipo_sum",
  "iw_opd",
  "kto",
  "minillm",
  "minillm_normalised",
  "nll",
  "nll_each",
  "nll_weighted",
  "ordinal",
  "orm",
  "prm",
  "rationale_dpo",
  "rationale_dpo_linear",
  "rationale_nll",
  "rationale_orpo",
  "rationale_orpo_linear",
  "regression",
  "sampled_rkl",
  "score_spread",
  "simcse",
  "simpo",
  "swav",
  "topk_renormalised",
  "topk_tail",
  "uld",
]
