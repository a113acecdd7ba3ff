import collections
import gzip
import importlib.resources
import json

import pytest

from jaxpref.data import hh_harmless, personas
from jaxpref.types import Refused

FOLDER = importlib.resources.files("jaxpref.data") / "bundled"


def _lines(*parts):
  with FOLDER.joinpath(*parts).open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as f:
    return [json.loads(line) for line in f]


@pytest.mark.parametrize(
  ("name", "says"), [("personas", "CC-BY-4.0"), ("hh_harmless", "2022 Anth")]
)
def test_a_bundled_set_has_its_licence_and_readme(name, says):
  assert says in (FOLDER / name / "LICENSE").read_text()
  assert "Licence" in (FOLDER / name / "README.md").read_text()


def test_personas_are_400_training_and_100_test_pairs_of_each_of_36():
  for split, each in (("train", 400), ("test", 100)):
    count = collections.Counter(r.group for r in personas(split))
    assert count == dict.fromkeys(range(36), each)


def test_no_statement_is_lost_or_on_both_splits_by_place():
  lines = _lines("personas", "personas.jsonl.gz")
  records = [*personas("train"), *personas("test")]
  for k, agree in ((0, 1), (1, 0)):
    ours = collections.Counter(r.responses[k] for r in records)
    assert ours == collections.Counter(x["statement"] for x in lines if x["agree"] == agree)
  assert len({r.source for r in records}) == 18_000


def test_a_persona_pairs_its_first_statements():
  lines = [x for x in _lines("personas", "personas.jsonl.gz") if x["persona"] == "risk-averse"]
  record = next(personas("train", personas="risk-averse"))
  assert record.prompt == "risk averse:"
  for k, agree in ((0, 1), (1, 0)):
    assert record.responses[k] == next(x["statement"] for x in lines if x["agree"] == agree)


def test_some_personas_can_be_chosen_and_wrong_names_are_refused():
  chosen = list(personas("test", personas="interest-in-art, openness"))
  assert [r.prompt for r in chosen[::100]] == ["interest in art:", "openness:"]
  with pytest.raises(Refused, match="no persona 'opennes'. Did you mean 'openness'"):
    next(personas("test", personas="opennes"))
  with pytest.raises(Refused, match="no split 'tests'. Did you mean 'test'"):
    next(personas("tests"))


def test_hh_harmless_gives_back_both_dialogues_of_all_its_lines():
  marks = {"user": "\n\nHuman:", "assistant": "\n\nAssistant:"}
  records = list(hh_harmless("test"))
  lines = _lines("hh_harmless", "test.jsonl.gz")
  assert len(records) == len(lines) == 2312
  for record, line in zip(records, lines, strict=True):
    head = "".join(f"{marks[t['role']]} {t['content']}" for t in record.prompt)
    for name, response in zip(("chosen", "rejected"), record.responses, strict=True):
      whole = f"{head}{marks['assistant']} {response}"
      assert "".join(whole.split()) == "".join(line[name].split())


def test_hh_harmless_responses_are_one_turn_but_for_the_known_oddities():
  records = list(hh_harmless("test"))
  odd = [r for r in records if any("\n\nAssistant:" in x for x in r.responses)]
  assert len(odd) == 5
  assert sum(not r.responses[0] for r in records) == 4
  assert all(r.responses[1] and r.responses[0] != r.responses[1] for r in records)


def test_hh_harmless_has_no_other_split():
  with pytest.raises(Refused, match="no split 'train'"):
    next(hh_harmless("train"))
