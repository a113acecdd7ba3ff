"""The catalogue shows what signatures and docstrings say, and refuses with the nearest name."""

import importlib.util
import pathlib
import re
import shlex

import pytest
from absl import flags
from ml_collections import config_dict

from jaxpref import call, catalogue, objectives
from jaxpref.types import Refused

ROOT = pathlib.Path(__file__).parent.parent


def _recipe(path):
  spec = importlib.util.spec_from_file_location("recipe_of_catalogue_test", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config


def test_rooms_are_those_that_exist():
  assert catalogue.rooms()[0] == "objectives"
  for room in catalogue.rooms():
    assert (ROOT / "jaxpref" / room).is_dir()


@pytest.mark.parametrize("room", catalogue.rooms())
def test_every_entry_has_a_first_line_and_a_page(room):
  found = catalogue.rows(room)
  assert [row.name for row in found] == sorted(catalogue.functions(room)) and found
  for row in found:
    assert re.search(r"[.:]$", row.what), f"{room} {row.name}: {row.what!r}"
    assert row.what in catalogue.page(room, row.name)


def test_a_row_is_the_signature():
  row = {r.name: r for r in catalogue.rows("objectives")}["dpo"]
  assert row.reads == ("logp", "ref_logp") and row.knobs == {"beta": 0.1, "gamma": 1.0}
  assert "Rafailov" in row.source


@pytest.mark.parametrize("room", catalogue.rooms())
def test_the_table_fits_a_terminal_of_a_hundred_columns(room):
  text = catalogue.table(room)
  assert max(map(len, text.splitlines())) <= 100
  for name in catalogue.functions(room):
    assert re.search(rf"^{name} ", text, re.MULTILINE)


def test_a_page_tells_formula_arrays_knobs_reports_source_and_command():
  page = catalogue.page("objectives", "simpo")
  for text in (
    r"\ell = -\log \sigma(\beta (a - b) - \gamma)",
    "logp: (from the model) f32[B, 2]",
    "gamma = 0.5: margin that",
    "`rewards/*` of f32[B]",
    "Meng et al.",
    "--config=configs/offline.py:objective=simpo",
    "--config.objectives.main.gamma=0.5",
  ):
    assert text in page
  assert "(from the reference)" in catalogue.page("objectives", "dpo")


@pytest.mark.parametrize("name", catalogue.functions("objectives"))
def test_the_command_on_a_page_names_a_recipe_and_keys_that_exist(name):
  text = catalogue.page("objectives", name).partition("Train with it\n")[2]
  words = shlex.split(text.replace("\\\n", " "))
  assert words[:2] == ["jaxpref", "train"] and words[-1] == f"--workdir=runs/{name}"
  path, _, arg = words[2].removeprefix("--config=").partition(":")
  config = config_dict.ConfigDict(_recipe(ROOT / path)(arg))
  assert config.objectives.main.fn == name
  for word in words[3:-1]:
    key, _, value = word.removeprefix("--config.objectives.main.").partition("=")
    assert config.objectives.main[key] == type(config.objectives.main[key])(value)


def test_markdown_has_one_line_per_objective_and_no_stray_bars():
  lines = catalogue.markdown("objectives").splitlines()
  assert len(lines) == 2 + len(call.functions(objectives))
  assert all(len(re.findall(r"(?<!\\)\|", line)) == 6 for line in lines)


@pytest.fixture
def _flags():
  values = flags.FlagValues()
  flags.DEFINE_bool("markdown", False, "", flag_values=values)
  values(["catalogue"])
  return values


def test_main_prints_rooms_tables_and_pages(capsys, monkeypatch, _flags):
  monkeypatch.setattr(catalogue.flags, "FLAGS", _flags)
  catalogue.main(["catalogue"])
  said = capsys.readouterr().out
  for room, name in (("objectives", "dpo"), ("wrappers", "lcpo"), ("mixes", "mpo")):
    assert re.search(rf"^{room} .*\b{name}\b", said, re.MULTILINE)
  catalogue.main(["catalogue", "objectives"])
  assert capsys.readouterr().out == catalogue.table("objectives") + "\n"
  catalogue.main(["catalogue", "objectives", "dpo"])
  assert capsys.readouterr().out == catalogue.page("objectives", "dpo") + "\n"
  _flags.markdown = True
  catalogue.main(["catalogue", "objectives"])
  assert capsys.readouterr().out.startswith("| name | what it does |")


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (["objektives"], "no 'objektives'. Did you mean 'objectives'"),
    (["objectives", "dop"], "objectives has no 'dop'. Did you mean 'dpo'"),
    (["objectives", "dpo", "ipo"], "'ipo' is too many"),
  ],
)
def test_unknown_names_are_refused_with_the_nearest(words, sentence, monkeypatch, _flags):
  monkeypatch.setattr(catalogue.flags, "FLAGS", _flags)
  with pytest.raises(Refused, match=sentence):
    catalogue.main(["catalogue", *words])
