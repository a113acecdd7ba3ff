"""Objectives: `f(arrays..., *, knobs) -> (loss, metrics)`, never reduced."""

from jaxpref.objectives.dpo import cdpo, dpo
from jaxpref.objectives.ipo import ipo, ipo_sum
from jaxpref.objectives.kto import kto
from jaxpref.objectives.reward import bradley_terry
from jaxpref.objectives.simpo import simpo
from jaxpref.objectives.supervised import nll

__all__ = ["bradley_terry", "cdpo", "dpo", "ipo", "ipo_sum", "kto", "nll", "simpo"]
