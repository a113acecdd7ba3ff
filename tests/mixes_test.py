"""The table of mixes: each becomes terms of a config whose weights and knobs can be set."""

import importlib.util
import pathlib

import pytest
from ml_collections import config_dict

from jaxpref import assemble, call, catalogue, mixes, objectives, wrappers
from jaxpref import config as cfg
from jaxpref.types import Refused

ROOT = pathlib.Path(__file__).parent.parent


def _there(name):
  return all(t["fn"] in call.functions(objectives) for t in mixes.MIXES[name].terms.values())


def _offline(arg):
  spec = importlib.util.spec_from_file_location(
    "offline_of_mixes_test", ROOT / "configs/offline.py"
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return config_dict.ConfigDict(module.get_config(arg))


@pytest.mark.parametrize("name", sorted(mixes.MIXES))
def test_every_mix_becomes_terms_with_its_weights_and_knobs(name):
  config = _offline(f"objective={name}")
  terms = {t.name: t for t in assemble.terms(config.objectives)}
  given = mixes.MIXES[name].terms
  assert set(terms) == set(given) and "main" in given
  for key, term in given.items():
    assert terms[key].weight == term.get("term_weight", 1.0)
    assert terms[key].mode == term.get("reduce", "")
    assert terms[key].fn.__name__ == term["fn"]
    reserved = {"fn", "term_weight", "reduce", "around"}
    for knob, value in term.items():
      assert knob in reserved or call.knobs(terms[key].fn)[knob] == value


@pytest.mark.parametrize("name", sorted(mixes.MIXES))
def test_the_catalogue_shows_every_mix_with_its_command(name):
  page = catalogue.page("mixes", name)
  assert f"objective={name} " in page and mixes.formula(name) in " ".join(page.split())
  assert mixes.MIXES[name].source in " ".join(page.split())
  row = next(r for r in catalogue.rows("mixes") if r.name == name)
  assert mixes.formula(name) in row.what and name in catalogue.table("mixes")


def test_formulas_are_those_of_the_methods():
  assert mixes.formula("mpo") == "0.8 dpo + 0.2 bco_pair + nll"
  assert mixes.formula("orpo") == "0.1 odds_ratio + nll"
  assert mixes.formula("tpo") == "without_gold(cpo) + nll"


def test_the_command_line_sets_weights_and_knobs_of_wrappers():
  config = _offline("objective=dpo_sft,around=lcpo")
  config.update_from_flattened_dict(
    {
      "objectives.main.around.rate": 0.25,
      "objectives.main.beta": 0.7,
      "objectives.nll.term_weight": 0.5,
    }
  )
  main, nll = assemble.terms(config.objectives)
  assert nll.weight == 0.5 and call.knobs(main.fn) == {"beta": 0.7, "gamma": 1.0}
  carry = main.fn.init_carry()
  moved = main.fn.next_carry(carry, {"lcpo/posterior": 0.5})
  assert float(moved[0]) == pytest.approx(0.75 * 0.9 + 0.25 * 0.5)


def test_a_wrapper_goes_around_those_that_are_there():
  around = mixes.terms("ld_dpo", "lcpo")["main"]["around"]
  assert around["fn"] == "length_desensitized" and around["around"]["fn"] == "lcpo"
  (term,) = assemble.terms(mixes.terms("ld_dpo", "lcpo"))
  assert call.needs(term.fn) == ("token_logp", "ref_token_logp", "mask", "carry")


def test_an_objective_by_itself_is_the_term_main():
  assert mixes.terms("dpo") == {"main": cfg.term(objectives, "dpo")}
  assert list(mixes.terms("jaxpref.objectives.ipo:ipo")) == ["main"]
  assert set(mixes.terms("cpo")) == {"main", "nll"}  # the method, not its preference part


@pytest.mark.parametrize(
  ("arguments", "sentence"),
  [
    (("mpoo",), "no objective or mix 'mpoo'. Did you mean 'mpo'"),
    (("simpoo",), "no objective or mix 'simpoo'. Did you mean 'simpo'"),
    (("dpo", "lcop"), "wrappers has no 'lcop'. Did you mean 'lcpo'"),
  ],
)
def test_unknown_names_are_refused_with_the_nearest(arguments, sentence):
  with pytest.raises(Refused, match=sentence):
    mixes.terms(*arguments)


def test_unknown_knobs_and_wrappers_of_a_section_are_refused_with_the_nearest():
  section = cfg.term(objectives, "dpo", around={"fn": "lcpo", "rat": 0.1})
  with pytest.raises(Refused, match="lcpo has no hyperparameter 'rat'. Did you mean 'rate'"):
    assemble.terms({"main": section})
  section["around"] = {"fn": "lcop"}
  with pytest.raises(Refused, match="wrappers has no 'lcop'. Did you mean 'lcpo'"):
    assemble.terms({"main": section})
  with pytest.raises(Refused, match="only terms of the loss take 'around'"):
    cfg.resolve(objectives, section)
  with pytest.raises(Refused, match="does not go around kto"):
    assemble.terms({"main": cfg.term(objectives, "kto", around={"fn": "f_divergence"})})


def test_the_room_of_wrappers_is_in_the_catalogue():
  assert "wrappers" in catalogue.rooms()
  assert [r.name for r in catalogue.rows("wrappers")] == sorted(wrappers.__all__)
  assert "objective=dpo,around=lcpo" in catalogue.page("wrappers", "lcpo")
