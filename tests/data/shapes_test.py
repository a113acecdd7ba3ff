import math

import pytest

from jaxpref.data import shapes
from jaxpref.types import Record, Refused

USER = {"role": "user", "content": "q"}
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}
OLD = {"role": "assistant", "content": "before"}


def _parse(**fields):
  return shapes.parse(fields, "x.jsonl:7")


def _record(*args, **fields):
  return Record(*args, source="x.jsonl:7", **fields)


def test_the_four_shapes_as_text():
  pair = _record("q", ("good", "bad"), (1.0, 0.0))
  assert _parse(prompt="q", chosen="good", rejected="bad") == pair
  assert _parse(prompt="q", completion="good", label=True) == _record("q", ("good",), (1.0,))
  assert _parse(prompt="q", completion="bad", label=False) == _record("q", ("bad",), (0.0,))
  assert _parse(prompt="q", completion="good") == _record("q", ("good",))
  graded = _record("q", ("c", "a", "b"), (3.0, 2.5, -1.0))
  assert _parse(prompt="q", completions=["a", "b", "c"], scores=[2.5, -1, 3]) == graded
  assert _parse(prompt="q", answer="42") == _record("q", (), answer="42")


@pytest.mark.parametrize(
  "fields",
  [
    {"prompt": [USER], "chosen": "good", "rejected": "bad"},
    {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"prompt": [USER], "chosen": [USER, GOOD], "rejected": [USER, BAD]},
    {"prompt": "q", "chosen": [USER, GOOD], "rejected": [USER, BAD], "messages": [USER, GOOD]},
  ],
)
def test_a_pair_as_chat_is_the_same_record_however_it_is_written(fields):
  assert _parse(**fields) == _record((USER,), ("good", "bad"), (1.0, 0.0))


def test_single_and_graded_responses_may_be_chat_too():
  single = _parse(completion=[USER, OLD, USER, GOOD], label=1)
  assert single == _record((USER, OLD, USER), ("good",), (1.0,))
  graded = _parse(completions=[[USER, BAD], [USER, GOOD]], scores=[0.1, 0.9])
  assert graded == _record((USER,), ("good", "bad"), (0.9, 0.1))


def test_every_assistant_turn_of_a_conversation_counts_unless_it_says_otherwise():
  record = _parse(messages=[USER, OLD, USER, OLD | {"counts": False}, USER, GOOD])
  assert record.responses == ("good",) and record.relevance is None
  assert [t["counts"] for t in record.prompt] == [False, True, False, False, False]


def test_only_the_response_of_a_labelled_conversation_counts():
  record = _parse(messages=[USER, OLD, USER, GOOD], label=False)
  assert record == _record((USER, OLD, USER), ("good",), (0.0,))


def test_optional_fields_go_through_and_null_is_absent():
  options = {
    "weight": 0.5,
    "strength": 2,
    "who": 3,
    "group": 0,
    "rationale": "since",
    "answer": "a",
    "context": "c",
    "label": 0.8,
  }
  record = _parse(prompt="q", chosen="good", rejected="bad", **options)
  assert {name: getattr(record, name) for name in options} == options
  nulls = _parse(prompt="q", chosen="good", rejected="bad", **dict.fromkeys(options))
  assert nulls == _record("q", ("good", "bad"), (1.0, 0.0))


PAIR = {"prompt": "q", "chosen": "good", "rejected": "bad"}
LIST = {"prompt": "q", "completions": ["a", "b"], "scores": [1, 0]}


@pytest.mark.parametrize(
  ("fields", "says"),
  [
    # missing fields
    ({"prompt": "q", "chosen": "a"}, "no field 'rejected'; its fields are: prompt, chosen"),
    ({"prompt": "q", "chosen": "a", "rejcted": "b"}, "no field 'rejected'.*Did you mean 'rejcted'"),
    ({"chosen": "a", "rejected": "b"}, "no field 'prompt'.*The shapes are"),
    ({"prompt": "q", "completions": ["a", "b"]}, "no field 'scores'"),
    ({"prompt": "q", "completon": "a"}, "'completon' is not known. Did you mean 'completion'"),
    ({"question": "q", "response": "a"}, "not known; its fields are: question, response.*shapes"),
    ({"prompt": "q", "label": True}, "a shape that is not known"),
    ({}, "its fields are: none"),
    (PAIR | {"rejected": None}, "no field 'rejected'"),
    # empty and equal
    (PAIR | {"chosen": " \n"}, "chosen is an empty response.*leave the record out"),
    (PAIR | {"rejected": [USER, BAD | {"content": ""}], "chosen": [USER, GOOD]}, "is an empty"),
    ({"prompt": "q", "completion": ""}, "completion is an empty response"),
    (PAIR | {"rejected": "good"}, "chosen and rejected are equal"),
    (LIST | {"completions": ["a", "a"]}, "two completions are equal but have the scores 1.0 and 0"),
    # wrong types
    (PAIR | {"chosen": 3}, "chosen is the number 3; it is text or a list of messages"),
    (PAIR | {"prompt": True}, "prompt is true; it is text"),
    (PAIR | {"chosen": b"x"}, "chosen is bytes"),
    (PAIR | {"chosen": [GOOD]}, "chosen is a list of 1 and rejected is text; make all of them"),
    (PAIR | {"chosen": ["good"], "rejected": ["bad"]}, r"chosen\[0\] is text, not {\"role\""),
    (PAIR | {"prompt": []}, "prompt is a list of 0; it is a list of at least one message"),
    (PAIR | {"prompt": [{"role": "user"}]}, r"prompt\[0\] has no 'content'; its fields are: role"),
    (PAIR | {"prompt": [USER | {"content": ["q"]}]}, r"prompt\[0\].content is a list of 1"),
    ({"messages": [USER, GOOD | {"counts": 1}]}, r"messages\[1\].counts is the number 1"),
    ({"messages": "hello"}, "messages is text; it is a list"),
    ({"messages": [USER]}, "ends with a turn of 'user'"),
    (PAIR | {"label": 1.5}, "0 to 1; it is 1.5"),
    (PAIR | {"label": "A"}, "label is text; it is a finite number"),
    ({"prompt": "q", "completion": "a", "label": 0.5}, "label of one response is 0.5"),
    (LIST | {"scores": [1]}, "2 completions and 1 scores"),
    (LIST | {"scores": 1}, "scores is the number 1; it is a list"),
    (LIST | {"scores": [1, math.nan]}, r"scores\[1\] is the number nan; it is a finite"),
    (LIST | {"scores": [1, "0"]}, r"scores\[1\] is text"),
    (PAIR | {"weight": -1}, "weight is -1.0; it must be at least 0"),
    (PAIR | {"strength": True}, "strength is true"),
    (PAIR | {"who": "bob"}, "who is 'bob'; it is a whole number from 0. Number the names"),
    (PAIR | {"group": 2**31}, "group is 2147483648"),
    (PAIR | {"answer": 42}, "answer is the number 42; it is text"),
    (PAIR | {"chosen": "a\ud800"}, "half of a surrogate pair, U.D800, at character 1"),
    # conversations that do not belong together
    ({"chosen": [USER, GOOD], "rejected": [OLD, BAD]}, "chosen and rejected differ before"),
    (PAIR | {"chosen": [USER, GOOD], "rejected": [USER, BAD], "prompt": "other"}, "not the prompt"),
  ],
)
def test_a_bad_record_is_refused_with_place_fault_and_remedy(fields, says):
  with pytest.raises(Refused, match=f"^x.jsonl:7.*{says}"):
    _parse(**fields)


@pytest.mark.parametrize("value", [3, None, "text", ["a"], True])
def test_what_is_no_object_is_refused(value):
  with pytest.raises(Refused, match="x.jsonl:7 holds .*, not an object"):
    shapes.parse(value, "x.jsonl:7")
