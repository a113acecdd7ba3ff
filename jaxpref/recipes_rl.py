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
  "topr": _recipe("reinforce", {"fn": "topr"}, "sequence_sum"),
}
