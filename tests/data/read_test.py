import json

import pytest
from ml_collections import config_dict

from jaxpref.data import read
from jaxpref.types import Refused

ART = {"fn": "personas", "split": "test", "personas": "interest-in-art"}


def test_sections_of_a_config_give_records_by_name(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text(json.dumps({"prompt": "q", "chosen": "a", "rejected": "b"}))
  sets = config_dict.ConfigDict()
  sets.main = ART | {"mix_weight": 3.0, "limit": 7}
  sets.mine = {"fn": "files", "split": "train", "path": str(path), "mix_weight": 1.0, "limit": 0}
  got = read.read(sets)
  assert {name: len(records) for name, records in got.items()} == {"main": 7, "mine": 1}
  assert got["mine"][0].responses == ("a", "b")
  assert read.shares(sets) == {"main": 3.0, "mine": 1.0}


def test_a_function_from_anywhere_is_a_data_set():
  got = read.read({"main": ART | {"fn": "jaxpref.data.personas:personas"}})
  assert len(got["main"]) == 100


@pytest.mark.parametrize(
  ("section", "says"),
  [
    (ART | {"fn": "persona"}, "data has no 'persona'. Did you mean 'personas'"),
    (ART | {"persona": "x"}, "no hyperparameter 'persona'. Did you mean 'personas'"),
    (ART | {"split": "tst"}, "no split 'tst'. Did you mean 'test'"),
    ({"fn": "personas", "splt": "test"}, "no 'split'. Did you mean 'splt'"),
    (ART | {"limit": -1}, "limit -1"),
  ],
)
def test_wrong_sections_are_refused_with_the_nearest(section, says):
  with pytest.raises(Refused, match=says):
    read.read({"main": section})


def test_an_empty_set_is_refused(tmp_path, monkeypatch):
  (tmp_path / "nothing_here.py").write_text("def none(split):\n  return iter(())\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  with pytest.raises(Refused, match="data set 'main' .nothing_here:none, split 'train'. is empty"):
    read.read({"main": {"fn": "nothing_here:none", "split": "train"}})
