"""Every name and knob in the table of group-RL settings exists, and the numbers are the page's."""

import jax.numpy as jnp
import pytest

from jaxpref import advantages, call, objectives, recipes_rl, reduce
from jaxpref import config as cfg

RESERVED = ("fn", "term_weight", "reduce", "reduce_constant")
every_recipe = pytest.mark.parametrize("name", recipes_rl.RECIPES)


def _knobs(section):
  return {k: v for k, v in section.items() if k not in RESERVED}


@every_recipe
def test_terms_name_objectives_knobs_of_their_type_and_modes(name):
  for term in recipes_rl.RECIPES[name]["objectives"].values():
    fn = call.find(objectives, term["fn"])
    call.bind(fn, **_knobs(term))
    for knob, value in _knobs(term).items():
      assert type(value) is type(call.knobs(fn)[knob]), knob
    assert term["reduce"] in reduce.MODES
    assert ("reduce_constant" in term) == (term["reduce"] == "sequence_sum_constant")


@every_recipe
def test_terms_are_sections_of_a_config(name):
  for term in recipes_rl.RECIPES[name]["objectives"].values():
    given = {k: v for k, v in term.items() if k not in ("fn", "reduce_constant")}
    section = cfg.term(objectives, term["fn"], **given)
    assert section["fn"] == term["fn"] and section["reduce"] == term["reduce"]


@every_recipe
def test_estimators_and_their_knobs_exist(name):
  section = recipes_rl.RECIPES[name]["advantage"]
  call.bind(call.find(advantages, section["fn"]), **_knobs(section))


def test_the_numbers_that_the_page_gives():
  main = {k: v["objectives"]["main"] for k, v in recipes_rl.RECIPES.items()}
  assert recipes_rl.RECIPES["grpo"]["objectives"]["kl"]["term_weight"] == 0.04
  assert main["grpo"]["reduce"] == main["gspo"]["reduce"] == "sequence"
  assert (main["dapo"]["epsilon_low"], main["dapo"]["epsilon_high"]) == (0.2, 0.28)
  assert main["dapo"]["reduce"] == "token" and "kl" not in recipes_rl.RECIPES["dapo"]["objectives"]
  assert (main["gspo"]["epsilon_low"], main["gspo"]["epsilon_high"]) == (3e-4, 4e-4)
  assert main["gmpo"]["epsilon_low"] == main["gmpo"]["epsilon_high"] == 0.4
  assert main["dr_grpo"]["reduce"] == "sequence_sum_constant"


def test_every_recipe_of_the_page_is_there():
  page = "grpo dr_grpo dapo gspo cispo sapo gmpo rloo reinforce_pp reinforce_pp_baseline remax ppo"
  page += " vapo opo gpg passk maxrl gdpo luspo vespo dppo kl_cov clip_cov topr"
  assert set(page.split()) <= set(recipes_rl.RECIPES)


def test_a_recipe_without_the_users_number_says_so():
  with pytest.raises(ValueError, match="needs reduce_constant > 0"):
    reduce.weights("sequence_sum_constant", 3, mask=jnp.ones((1, 1, 1)), constant=0.0)
