"""Objectives: `f(arrays..., *, knobs) -> (loss, metrics)`, never reduced."""

from jaxpref.objectives.alpha_dpo import alpha_dpo
from jaxpref.objectives.aot import aot, aot_unpaired
from jaxpref.objectives.apo import apo_down, apo_zero
from jaxpref.objectives.bco import bco_pair
from jaxpref.objectives.bco_shifted import bco_pair_shifted
from jaxpref.objectives.cal_dpo import cal_dpo
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
from jaxpref.objectives.positive import dpop
from jaxpref.objectives.reward import bradley_terry
from jaxpref.objectives.robust import rdpo_robust
from jaxpref.objectives.simpo import simpo
from jaxpref.objectives.sppo import sppo, sppo_hard
from jaxpref.objectives.supervised import nll

__all__ = [
  "alpha_dpo",
  "aot",
  "aot_unpaired",
  "apo_down",
  "apo_zero",
  "bco_pair",
  "bco_pair_shifted",
  "bradley_terry",
  "cal_dpo",
  "cdpo",
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
  "odpo",
  "rdpo_length",
  "rdpo_robust",
  "rebel",
  "simpo",
  "spin",
  "sppo",
  "sppo_hard",
  "wpo_length",
]
