"""Advantages: `f(arrays..., *, knobs) -> advantage`, per rollout, segment or token.

They may couple a whole batch, so they run in the stage without gradients. `spread` brings
advantages of rollouts and segments to tokens.
"""

from jaxpref.advantages.batch import (
  gdpo,
  gpg,
  grpo_batch_std,
  raw,
  reinforce_pp_baseline,
  reinforce_pp_baseline_kl,
)
from jaxpref.advantages.gae import gae, gae_packed, value_target, vapo_gae, vtrace
from jaxpref.advantages.gigpo import gigpo
from jaxpref.advantages.group import dr_grpo, grpo, grpo_loo, maxrl, opo, rloo
from jaxpref.advantages.otb import otb, otb_rollout
from jaxpref.advantages.passk import grpo_passk, passk_analytic
from jaxpref.advantages.rank_grpo import rank_grpo
from jaxpref.advantages.returns import opd, reinforce, reinforce_pp, remax
from jaxpref.advantages.tree import gfpo, treepo

__all__ = [
  "dr_grpo",
  "gae",
  "gae_packed",
  "gdpo",
  "gfpo",
  "gigpo",
  "gpg",
  "grpo",
  "grpo_batch_std",
  "grpo_loo",
  "grpo_passk",
  "maxrl",
  "opd",
  "opo",
  "otb",
  "otb_rollout",
  "passk_analytic",
  "rank_grpo",
  "raw",
  "reinforce",
  "reinforce_pp",
  "reinforce_pp_baseline",
  "reinforce_pp_baseline_kl",
  "remax",
  "rloo",
  "treepo",
  "value_target",
  "vapo_gae",
  "vtrace",
]
