"""Objectives: `f(arrays..., *, knobs) -> (loss, metrics)`, never reduced."""

from jaxpref.objectives.a2po import a2po, a2po_offline
from jaxpref.objectives.alpha_dpo import alpha_dpo
from jaxpref.objectives.alphapo import alphapo
from jaxpref.objectives.aot import aot, aot_unpaired
from jaxpref.objectives.apo import apo_down, apo_zero
from jaxpref.objectives.apo_unpaired import apo_zero_unpaired
from jaxpref.objectives.bco import bco, bco_udm
from jaxpref.objectives.bco_pair import bco_pair
from jaxpref.objectives.bco_shifted import bco_pair_shifted
from jaxpref.objectives.cal_dpo import cal_dpo
from jaxpref.objectives.contrastive import simcse, swav
from jaxpref.objectives.cpo import cpo, cpo_hinge, cpo_ipo
from jaxpref.objectives.discopop import discopop
from jaxpref.objectives.distill import cosine, gkd, topk_renormalised, topk_tail, uld
from jaxpref.objectives.dove import dove
from jaxpref.objectives.dpo import cdpo, dpo
from jaxpref.objectives.exo import dpo_rw, exo
from jaxpref.objectives.exo_pair import exo_pair
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
from jaxpref.objectives.irpo import irpo, s_dpo
from jaxpref.objectives.kl import entropy_bonus, kl_corrected, kl_penalty
from jaxpref.objectives.kto import kto
from jaxpref.objectives.kto_pair import kto_pair
from jaxpref.objectives.lengths import dpo_norm, rdpo_length, wpo_length
from jaxpref.objectives.lipo import lipo_hinge, lipo_lambda, lipo_logistic, lipo_softmax
from jaxpref.objectives.list_lambda import list_lambda_dcg, list_lambda_dcg2, list_lambda_labeldiff
from jaxpref.objectives.list_pairs import list_hinge, list_mse, list_zero_one, rm_all_pairs
from jaxpref.objectives.list_softmax import (
  approx_ndcg,
  list_net,
  list_softmax,
  list_unique_softmax,
  plackett_luce,
)
from jaxpref.objectives.listwise import infonca, nca, pl_dpo
from jaxpref.objectives.nash_md import nash_md
from jaxpref.objectives.nca_pairs import nca_biased, nca_pair
from jaxpref.objectives.offsets import margin_dpo, odpo
from jaxpref.objectives.on_policy_distill import iw_opd, minillm, minillm_normalised, sampled_rkl
from jaxpref.objectives.online import inpo, rebel, spin
from jaxpref.objectives.orpo import odds_ratio
from jaxpref.objectives.policy_clip import (
  decoupled_ppo,
  dual_clip,
  ppo_clip,
  segment_clip,
  two_sided,
)
from jaxpref.objectives.policy_cov import clip_cov, kl_cov
from jaxpref.objectives.policy_divergence import dppo_kl, dppo_tv
from jaxpref.objectives.policy_sequence import gmpo, gspo, gspo_token, luspo, rloo_loss
from jaxpref.objectives.policy_soft import dro, kimi15, sapo
from jaxpref.objectives.policy_weighted import cispo, cispo_unified, reinforce, tis_pg, topr, vespo
from jaxpref.objectives.positive import dpop
from jaxpref.objectives.pro import pro
from jaxpref.objectives.ranklist import ranklist, ranklist_skip
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
from jaxpref.objectives.spo import spo_degree
from jaxpref.objectives.sppo import sppo, sppo_hard
from jaxpref.objectives.supervised import asft, dft, nll, nll_each, nll_weighted, sequence_nll
from jaxpref.objectives.tdpo import tdpo1, tdpo2
from jaxpref.objectives.value import value_clip, value_mse
from jaxpref.objectives.xpo import xpo, xpo_ipo

__all__ = [
  "a2po",
  "a2po_offline",
  "alpha_dpo",
  "alphapo",
  "aot",
  "aot_unpaired",
  "apo_down",
  "apo_zero",
  "apo_zero_unpaired",
  "approx_ndcg",
  "asft",
  "bco",
  "bco_pair",
  "bco_pair_shifted",
  "bco_udm",
  "bradley_terry",
  "bradley_terry_floored",
  "bradley_terry_margin",
  "bradley_terry_scaled",
  "bradley_terry_smooth",
  "bradley_terry_soft",
  "bradley_terry_soft_margin",
  "cal_dpo",
  "cdpo",
  "cispo",
  "cispo_unified",
  "classify",
  "clip_cov",
  "cosine",
  "cpo",
  "cpo_hinge",
  "cpo_ipo",
  "decoupled_ppo",
  "dft",
  "discopop",
  "dove",
  "dpo",
  "dpo_norm",
  "dpo_rw",
  "dpop",
  "dppo_kl",
  "dppo_tv",
  "dro",
  "dual_clip",
  "entropy_bonus",
  "exo",
  "exo_pair",
  "general_preference",
  "general_preference_gated",
  "general_preference_margin",
  "general_preference_regression",
  "gkd",
  "gmpo",
  "gpo",
  "gspo",
  "gspo_token",
  "hinge",
  "infonca",
  "inpo",
  "ipo",
  "ipo_sum",
  "irpo",
  "iw_opd",
  "kimi15",
  "kl_corrected",
  "kl_cov",
  "kl_penalty",
  "kto",
  "kto_pair",
  "lipo_hinge",
  "lipo_lambda",
  "lipo_logistic",
  "lipo_softmax",
  "list_hinge",
  "list_lambda_dcg",
  "list_lambda_dcg2",
  "list_lambda_labeldiff",
  "list_mse",
  "list_net",
  "list_softmax",
  "list_unique_softmax",
  "list_zero_one",
  "luspo",
  "margin_dpo",
  "minillm",
  "minillm_normalised",
  "nash_md",
  "nca",
  "nca_biased",
  "nca_pair",
  "nll",
  "nll_each",
  "nll_weighted",
  "odds_ratio",
  "odpo",
  "ordinal",
  "orm",
  "pl_dpo",
  "ppo_clip",
  "prm",
  "pro",
  "ranklist",
  "ranklist_skip",
  "rationale_dpo",
  "rationale_dpo_linear",
  "rationale_nll",
  "rationale_orpo",
  "rationale_orpo_linear",
  "rdpo_length",
  "rdpo_robust",
  "rebel",
  "regression",
  "reinforce",
  "rloo_loss",
  "rm_all_pairs",
  "plackett_luce",
  "rrhf",
  "s_dpo",
  "sampled_rkl",
  "sapo",
  "score_spread",
  "segment_clip",
  "sequence_nll",
  "simcse",
  "simpo",
  "simpo_hinge",
  "slic_hf",
  "spin",
  "spo_degree",
  "sppo",
  "sppo_hard",
  "swav",
  "tdpo1",
  "tdpo2",
  "tis_pg",
  "topk_renormalised",
  "topk_tail",
  "topr",
  "two_sided",
  "uld",
  "value_clip",
  "value_mse",
  "vespo",
  "wpo_length",
  "xpo",
  "xpo_ipo",
]
