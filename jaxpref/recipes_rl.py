"""Published settings of group RL as plain data: estimator, terms of the loss, reward shaping.

`RECIPES[name]` holds

- `advantage`: the estimator, a name of `jaxpref.advantages`, and its knobs;
- `objectives`: terms by name, each with `fn` (a name of `jaxpref.objectives`), its knobs, `reduce`
  and perhaps `term_weight`; the coefficient of a KL is the weight of its term;
- `reward_kl`: where the KL is in the reward instead, its estimator and coefficient;
- `shaping`: what else happens to rewards or groups, by name.

`reduce_constant` 0 stands for a number that only the user knows: the longest allowed response.
Numbers that the sources do not give are the defaults of the functions; the coefficient of
`REWARD_KL` and VAPO's wider clip are what is commonly used, not taken from the papers.
"""

from __future__ import annotations

from jaxpref import advantages, call, objectives, recipe
from jaxpref import config as cfg
from jaxpref.types import Refused

CLIP = {"fn": "ppo_clip", "epsilon_low": 0.2, "epsilon_high": 0.2}
OVERLONG = {"factor": 1.0}  # soft penalty near the length limit
REWARD_KL = {"estimator": "k1", "coefficient": 0.01}


def _recipe(advantage, main, reduce, kl=0.0, reward_kl=None, shaping=None, **terms):
  """One row of the table: the main term, a k3 KL of coefficient `kl`, and further terms."""
  objectives = {"main": main | {"reduce": reduce}} | terms
  if kl:
    kl_term = {"fn": "kl_penalty", "estimator": "k3", "term_weight": kl, "reduce": reduce}
    objectives["kl"] = kl_term
  return {
    "advantage": {"fn": advantage},
    "objectives": objectives,
    "reward_kl": reward_kl or {},
    "shaping": shaping or {},
  }


VALUE = {"value": {"fn": "value_clip", "epsilon": 0.5, "reduce": "token"}}
DAPO = {"overlong": OVERLONG, "dynamic_sampling": {}}

RECIPES = {
  "grpo": _recipe("grpo", CLIP, "sequence", kl=0.04),
  "dr_grpo": _recipe("dr_grpo", CLIP | {"reduce_constant": 0.0}, "sequence_sum_constant"),
  "dapo": _recipe("grpo", CLIP | {"epsilon_high": 0.28}, "token", shaping=DAPO),
  "gspo": _recipe("grpo", {"fn": "gspo", "epsilon_low": 3e-4, "epsilon_high": 4e-4}, "sequence"),
  "cispo": _recipe("grpo", {"fn": "cispo", "cap_low": 0.0, "cap_high": 5.0}, "token"),
  "sapo": _recipe(
    "grpo", {"fn": "sapo", "temperature_pos": 1.0, "temperature_neg": 1.05}, "sequence"
  ),
  "gmpo": _recipe("grpo", {"fn": "gmpo", "epsilon_low": 0.4, "epsilon_high": 0.4}, "sequence"),
  "rloo": _recipe("rloo", {"fn": "reinforce"}, "sequence_sum", reward_kl=REWARD_KL),
  "reinforce_pp": _recipe("reinforce_pp", CLIP, "token", reward_kl=REWARD_KL),
  "reinforce_pp_baseline": _recipe("reinforce_pp_baseline", CLIP, "token"),
  "remax": _recipe("remax", {"fn": "reinforce"}, "sequence_sum"),
  "ppo": _recipe("gae", CLIP, "token", reward_kl=REWARD_KL, **VALUE),
  # VAPO also adds 0.1 times the NLL of right answers and trains the value first
  "vapo": _recipe("vapo_gae", CLIP | {"epsilon_high": 0.28}, "token", **VALUE),
  "opo": _recipe("opo", {"fn": "reinforce"}, "sequence_sum"),
  "gpg": _recipe("gpg", {"fn": "reinforce"}, "token"),
  "passk": _recipe("passk_analytic", CLIP, "token"),
  "maxrl": _recipe("maxrl", CLIP, "token"),
  "gdpo": _recipe("gdpo", CLIP, "sequence"),
  "luspo": _recipe("grpo", {"fn": "luspo"}, "sequence_sum"),
  "vespo": _recipe("grpo", {"fn": "vespo"}, "token"),
  "dppo": _recipe("grpo", {"fn": "dppo_tv", "epsilon_low": 0.15, "epsilon_high": 0.15}, "token"),
  "dppo_kl": _recipe("grpo", {"fn": "dppo_kl", "epsilon_low": 0.05, "epsilon_high": 0.05}, "token"),
  "kl_cov": _recipe("grpo", {"fn": "kl_cov", "fraction": 2e-4, "coefficient": 1.0}, "token"),
  "clip_cov": _recipe("grpo", {"fn": "clip_cov", "fraction": 2e-4}, "token"),
  # of the settings of the released scripts, that of WebShop; an environment makes what it reads
  "gigpo": _recipe("gigpo", CLIP, "token", kl=0.01),
  "topr": _recipe("reinforce", {"fn": "topr"}, "sequence_sum"),
}


def fill(config, name: str) -> None:
  """Sets the terms, estimator and shaping of a config to a published setting.

  A constant that only the user knows is `rollout.max_new`; the soft penalty near the limit begins a
  quarter before it. So set `rollout.max_new` first.

  Args:
    config: from `recipe.base`.
    name: of `RECIPES`.

  Raises:
    Refused: an unknown name.
  """
  if name not in RECIPES:
    raise Refused(
      f"there is no setting {name!r} of group RL. {call.nearest(name, RECIPES)}"
      f"There are: {', '.join(RECIPES)}."
    )
  row = RECIPES[name]
  config.objectives = {k: _term(v, config.rollout.max_new) for k, v in row["objectives"].items()}
  estimator = dict(row["advantage"])
  config.advantages = {"main": recipe.advantage(estimator.pop("fn"), **estimator)}
  if row["reward_kl"]:
    config.rollout.kl_in_reward = row["reward_kl"]["coefficient"]
    config.rollout.kl_estimate = row["reward_kl"]["estimator"]
  if "value" in call.needs(call.find(advantages, config.advantages.main.fn)):
    config.model.critic = True
  if "overlong" in row["shaping"]:
    config.rollout.overlong_buffer = max(1, config.rollout.max_new // 4)
  if "dynamic_sampling" in row["shaping"]:
    config.selectors = {"dynamic_sampling": recipe.selector("dynamic_sampling")}


def _term(row, limit):
  values = dict(row)
  section = cfg.term(
    objectives, values.pop("fn"), **{k: v for k, v in values.items() if k != "reduce_constant"}
  )
  if "reduce_constant" in values:
    section["reduce_constant"] = values["reduce_constant"] or float(limit)
  return section
