"""Config sections from signatures, recipe arguments, differences and digests."""

import subprocess
import sys

import pytest
from ml_collections import config_dict

from jaxpref import call, config, objectives
from jaxpref.types import Refused


def optional(logp, *, beta: float = 0.1, name: str | None = None, sizes: tuple = (1, 2)):
  return logp, {"beta": beta, "name": name, "sizes": sizes}


HERE = f"{__name__}:optional"


def test_a_section_holds_the_name_and_every_knob():
  assert config.defaults(objectives, "dpo") == {"fn": "dpo", "beta": 0.1, "gamma": 1.0}
  assert config.defaults(objectives, "dpo", beta=0.5)["beta"] == 0.5
  with pytest.raises(Refused, match="no hyperparameter 'betta'"):
    config.defaults(objectives, "dpo", betta=0.5)


def test_a_section_of_a_config_resolves_to_the_function_with_its_knobs():
  c = config_dict.ConfigDict({"main": config.term(objectives, "dpo", term_weight=2.0)})
  c.main.beta = 0.7
  fn = config.resolve(objectives, c.main)
  assert call.knobs(fn) == {"beta": 0.7, "gamma": 1.0} and call.needs(fn) == ("logp", "ref_logp")
  assert (c.main.term_weight, c.main.reduce, c.main.reduce_constant) == (2.0, "", 0.0)


def test_a_knob_without_a_value_can_be_set_and_is_left_to_the_function_until_then():
  c = config_dict.ConfigDict(config.defaults(objectives, HERE))
  assert config.resolve(objectives, c)(1.0)[1]["name"] is None
  c.name = "x"
  assert config.resolve(objectives, c)(1.0)[1]["name"] == "x"


@pytest.mark.parametrize("name", objectives.__all__)
def test_the_command_line_can_set_every_knob_of_every_objective(name):
  c = config_dict.ConfigDict(config.term(objectives, name))
  for knob, default in call.knobs(call.find(objectives, name)).items():
    other = {float: lambda d: d * 0.25 + 0.1, int: lambda d: d + 1, str: lambda d: d + ",9"}
    value = other[type(default)](default)
    c.update_from_flattened_dict({knob: value})
    assert call.knobs(config.resolve(objectives, c))[knob] == value


def test_parse_arg_takes_types_from_the_defaults():
  found = config.parse_arg(
    "steps=5,rate=1,scale=small,fast=True", steps=1, rate=0.5, scale="", fast=False
  )
  assert vars(found) == {"steps": 5, "rate": 1.0, "scale": "small", "fast": True}
  assert vars(config.parse_arg("", steps=1)) == {"steps": 1}
  assert config.parse_arg("path=a=b", path="").path == "a=b"


@pytest.mark.parametrize(
  ("arg", "sentence"),
  [
    ("stps=5", r"no key 'stps'. Did you mean 'steps'\? It takes: steps=1, scale=tiny"),
    ("steps", "It takes: steps=1"),
    ("steps=many", "steps=many is not of type int"),
    ("steps=0.5", "steps=0.5 is not of type int"),
    ("steps=True", "steps=True is not of type int"),
  ],
)
def test_parse_arg_refuses_unknown_keys_and_other_types(arg, sentence):
  with pytest.raises(Refused, match=sentence):
    config.parse_arg(arg, steps=1, scale="tiny")


def test_diff_lists_changed_added_and_removed_keys():
  old = {"a": {"b": 1, "c": 2}, "d": 3}
  new = {"a": {"b": 1, "c": 5}, "e": {}}
  assert sorted(config.diff(old, new)) == [("a.c", 2, 5), ("d", 3, None), ("e", None, {})]


def test_equal_configs_have_equal_digests_in_every_process():
  c = config_dict.ConfigDict({"b": (1, 2), "a": {"x": 0.1}})
  code = "from jaxpref import config; print(config.digest({'a': {'x': 0.1}, 'b': [1, 2]}))"
  other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert config.digest(c) == other.stdout.strip() and len(config.digest(c)) == 16
  assert config.digest(c) != config.digest({"a": {"x": 0.2}, "b": [1, 2]})
