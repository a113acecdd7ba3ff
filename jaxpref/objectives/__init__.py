"""Objectives: `f(arrays..., *, knobs) -> (loss, metrics)`, never reduced."""

from jaxpref.objectives.dpo import cdpo, dpo
from jaxpref.objectives.ipo import ipo, ipo_sum
from jaxpref.objectives.kl import entropy_bonus, kl_corrected, kl_penalty
from jaxpref.objectives.kto import kto
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
from jaxpref.objectives.policy_weighted import (
  cispo,
  cispo_unified,
  reinforce,
  tis_pg,
  topr,
  vespo,
)
from jaxpref.objectives.reward import bradley_terry
from jaxpref.objectives.simpo import simpo
from jaxpref.objectives.supervised import nll
from jaxpref.objectives.value import value_clip, value_mse

__all__ = [
  "bradley_terry",
  "cdpo",
  "cispo",
  "cispo_unified",
  "clip_cov",
  "decoupled_ppo",
  "dpo",
  "dppo_kl",
  "dppo_tv",
  "dro",
  "dual_clip",
  "entropy_bonus",
  "gmpo",
  "gspo",
  "gspo_token",
  "ipo",
  "ipo_sum",
  "kimi15",
  "kl_corrected",
  "kl_cov",
  "kl_penalty",
  "kto",
  "luspo",
  "nll",
  "ppo_clip",
  "reinforce",
  "rloo_loss",
  "sapo",
  "segment_clip",
  "simpo",
  "tis_pg",
  "topr",
  "two_sided",
  "value_clip",
  "value_mse",
  "vespo",
]
