"""Objectives: `f(arrays..., *, knobs) -> (loss, metrics)`, never reduced."""

from jaxpref.objectives.alpha_dpo import alpha_dpo
from jaxpref.objectives.alphapo import alphapo
from jaxpref.objectives.aot import aot, aot_unpaired
from jaxpref.objectives.apo import apo_down, apo_zero
from jaxpref.objectives.bco import bco_pair
from jaxpref.objectives.bco_shifted import bco_pair_shifted
from jaxpref.objectives.cal_dpo import cal_dpo
from jaxpref.objectives.contrastive import simcse, swav
from jaxpref.objectives.cpo import cpo, cpo_hinge, cpo_ipo
from jaxpref.objectives.discopop import discopop
from jaxpref.objectives.distill import cosine, gkd, topk_renormalised, topk_tail, uld
from jaxpref.objectives.dove import dove
from jaxpref.objectives.dpo import cdpo, dpo
from jaxpref.objectives.exo import exo_pair
from jaxpref.objectives.gpm import (
  general_preference,
  general_preference_gated,
  general_preference_margin,
  general_preference_regression,
  gpo,
)
from jaxpref.objectives.grades import classify, ordinal, orm, prm, regression
from jaxpref.objectives.hinge import hinge
from jaxpref.objectives.ipo import ipo, ipo_sum
from jaxpref.objectives.kto import kto
from jaxpref.objectives.kto_pair import kto_pair
from jaxpref.objectives.lengths import dpo_norm, rdpo_length, wpo_length
from jaxpref.objectives.nca import nca_biased, nca_pair
from jaxpref.objectives.offsets import margin_dpo, odpo
from jaxpref.objectives.on_policy_distill import iw_opd, minillm, minillm_normalised, sampled_rkl
from jaxpref.objectives.online import inpo, rebel, spin
from jaxpref.objectives.orpo import odds_ratio
from jaxpref.objectives.positive import dpop
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
from jaxpref.objectives.robust import rdpo_robust
from jaxpref.objectives.rrhf import rrhf
from jaxpref.objectives.simpo import simpo, simpo_hinge
from jaxpref.objectives.slic import slic_hf
from jaxpref.objectives.sppo import sppo, sppo_hard
from jaxpref.objectives.supervised import asft, dft, nll, nll_each, nll_weighted, sequence_nll
from jaxpref.objectives.tdpo import tdpo1, tdpo2

__all__ = [
  "alpha_dpo",
  "alphapo",
  "aot",
  "aot_unpaired",
  "apo_down",
  "apo_zero",
  "asft",
  "bco_pair",
  "bco_pair_shifted",
  "bradley_terry",
  "bradley_terry_floored",
  "bradley_terry_margin",
  "bradley_terry_scaled",
  "bradley_terry_smooth",
  "bradley_terry_soft",
  "bradley_terry_soft_margin",
  "cal_dpo",
  "cdpo",
  "classify",
  "cosine",
  "cpo",
  "cpo_hinge",
  "cpo_ipo",
  "dft",
  "discopop",
  "dove",
  "dpo",
  "dpo_norm",
  "dpop",
  "exo_pair",
  "general_preference",
  "general_preference_gated",
  "general_preference_margin",
  "general_preference_regression",
  "gkd",
  "gpo",
  "hinge",
  "inpo",
  "ipo",
  "ipo_sum",
  "iw_opd",
  "kto",
  "kto_pair",
  "margin_dpo",
  "minillm",
  "minillm_normalised",
  "nca_biased",
  "nca_pair",
  "nll",
  "nll_each",
  "nll_weighted",
  "odds_ratio",
  "odpo",
  "ordinal",
  "orm",
  "prm",
  "rationale_dpo",
  "rationale_dpo_linear",
  "rationale_nll",
  "rationale_orpo",
  "rationale_orpo_linear",
  "rdpo_length",
  "rdpo_robust",
  "rebel",
  "regression",
  "rrhf",
  "sampled_rkl",
  "score_spread",
  "sequence_nll",
  "simcse",
  "simpo",
  "simpo_hinge",
  "slic_hf",
  "spin",
  "sppo",
  "sppo_hard",
  "swav",
  "tdpo1",
  "tdpo2",
  "topk_renormalised",
  "topk_tail",
  "uld",
  "wpo_length",
]
