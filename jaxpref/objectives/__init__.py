"""Objectives: `f(arrays..., *, knobs) -> (loss, metrics)`, never reduced."""

from jaxpref.objectives.alpha_dpo import alpha_dpo
from jaxpref.objectives.alphapo import alphapo
from jaxpref.objectives.aot import aot, aot_unpaired
from jaxpref.objectives.apo import apo_down, apo_zero
from jaxpref.objectives.bco import bco_pair
from jaxpref.objectives.bco_shifted import bco_pair_shifted
from jaxpref.objectives.cal_dpo import cal_dpo
from jaxpref.objectives.cpo import cpo, cpo_hinge, cpo_ipo
from jaxpref.objectives.discopop import discopop
from jaxpref.objectives.dpo import cdpo, dpo
from jaxpref.objectives.exo import exo_pair
from jaxpref.objectives.hinge import hinge
from jaxpref.objectives.ipo import ipo, ipo_sum
from jaxpref.objectives.kto import kto
from jaxpref.objectives.kto_pair import kto_pair
from jaxpref.objectives.lengths import dpo_norm, rdpo_length, wpo_length
from jaxpref.objectives.nca import nca_biased, nca_pair
from jaxpref.objectives.offsets import margin_dpo, odpo
from jaxpref.objectives.online import inpo, rebel, spin
from jaxpref.objectives.orpo import odds_ratio
from jaxpref.objectives.positive import dpop
from jaxpref.objectives.reward import bradley_terry
from jaxpref.objectives.robust import rdpo_robust
from jaxpref.objectives.rrhf import rrhf
from jaxpref.objectives.simpo import simpo, simpo_hinge
from jaxpref.objectives.slic import slic_hf
from jaxpref.objectives.sppo import sppo, sppo_hard
from jaxpref.objectives.supervised import nll, sequence_nll
from jaxpref.objectives.tdpo import tdpo1, tdpo2

__all__ = [
  "alpha_dpo",
  "alphapo",
  "aot",
  "aot_unpaired",
  "apo_down",
  "apo_zero",
  "bco_pair",
  "bco_pair_shifted",
  "bradley_terry",
  "cal_dpo",
  "cdpo",
  "cpo",
  "cpo_hinge",
  "cpo_ipo",
  "discopop",
  "dpo",
  "dpo_norm",
  "dpop",
  "exo_pair",
  "hinge",
  "inpo",
  "ipo",
  "ipo_sum",
  "kto",
  "kto_pair",
  "margin_dpo",
  "nca_biased",
  "nca_pair",
  "nll",
  "odds_ratio",
  "odpo",
  "rdpo_length",
  "rdpo_robust",
  "rebel",
  "rrhf",
  "sequence_nll",
  "simpo",
  "simpo_hinge",
  "slic_hf",
  "spin",
  "sppo",
  "sppo_hard",
  "tdpo1",
  "tdpo2",
  "wpo_length",
]
