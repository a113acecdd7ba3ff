"""Objectives: `f(arrays..., *, knobs) -> (loss, metrics)`, never reduced."""

from jaxpref.objectives.alphapo import alphapo
from jaxpref.objectives.cpo import cpo, cpo_hinge, cpo_ipo
from jaxpref.objectives.dpo import cdpo, dpo
from jaxpref.objectives.ipo import ipo, ipo_sum
from jaxpref.objectives.kto import kto
from jaxpref.objectives.orpo import odds_ratio
from jaxpref.objectives.reward import bradley_terry
from jaxpref.objectives.rrhf import rrhf
from jaxpref.objectives.simpo import simpo, simpo_hinge
from jaxpref.objectives.slic import slic_hf
from jaxpref.objectives.supervised import nll, sequence_nll
from jaxpref.objectives.tdpo import tdpo1, tdpo2

__all__ = [
  "alphapo",
  "bradley_terry",
  "cdpo",
  "cpo",
  "cpo_hinge",
  "cpo_ipo",
  "dpo",
  "ipo",
  "ipo_sum",
  "kto",
  "nll",
  "odds_ratio",
  "rrhf",
  "sequence_nll",
  "simpo",
  "simpo_hinge",
  "slic_hf",
  "tdpo1",
  "tdpo2",
]
