import numpy as np
import pytest

from jaxpref import vocabulary
from jaxpref.data import chat, encode, tokenize
from jaxpref.types import Record, Refused

TOKENIZER = tokenize.byte_tokenizer()
PLAIN = chat.template("plain")
BOS, EOS = TOKENIZER.bos, TOKENIZER.eos
PAIR = Record("ab", ("cde", "f"), (1.0, 0.0), source="x.jsonl:3")


def _encode(record, **knobs):
  return encode.encode(record, TOKENIZER, PLAIN, **{"max_length": 100} | knobs)


def _ids(text):
  return list(text.encode())


def test_a_row_is_bos_prompt_response_eos_and_the_response_counts_with_its_end():
  row = _encode(PAIR)
  assert row.ids[0].tolist() == [BOS, *_ids("abcde"), EOS]
  assert row.counted[0].tolist() == [0, 0, 0, 1, 1, 1, 1]
  assert row.ids[1].tolist() == [BOS, *_ids("abf"), EOS]
  assert row.counted[1].tolist() == [0, 0, 0, 1, 1]
  assert (row.prompt, row.truncated, row.weight, row.relevance) == (3, False, 1.0, (1.0, 0.0))


@pytest.mark.parametrize("name", chat.TEMPLATES)
def test_the_samplers_prompt_is_an_exact_prefix_of_the_row(name):
  template = chat.template(name)
  tokenizer = tokenize.train_bpe(["un believable", "unbelievable"] * 20, 330, template.specials)
  record = Record("un", ("believable", " believable"), (1.0, 0.0))
  row = encode.encode(record, tokenizer, template, max_length=100)
  prompt = chat.prompt_ids("un", tokenizer, template)
  for ids in row.ids:
    assert ids[: row.prompt].tolist() == prompt
    assert ids[-1] == chat.stop_id(tokenizer, template)


def test_earlier_assistant_turns_count_where_the_record_says_so():
  turns = (
    {"role": "user", "content": "a"},
    {"role": "assistant", "content": "b", "counts": True},
    {"role": "user", "content": "c"},
  )
  row = _encode(Record(turns, ("d",)))
  assert row.ids[0].tolist() == [BOS, *_ids("ab"), EOS, *_ids("cd"), EOS]
  assert row.counted[0].tolist() == [0, 0, 1, 1, 0, 1, 1]


def test_a_row_that_fits_exactly_is_not_truncated():
  for truncate in encode.TRUNCATE:
    assert not _encode(PAIR, max_length=7, truncate=truncate).truncated


def test_too_long_is_refused_by_default_with_place_lengths_and_remedy():
  with pytest.raises(
    Refused, match=r"x.jsonl:3 has 7 tokens \(prompt 3, .* 4\), .*max_length=6.*'"
  ):
    _encode(PAIR, max_length=6)


def test_truncating_the_prompt_keeps_bos_and_every_token_of_the_response():
  row = _encode(PAIR, max_length=6, truncate="prompt")
  assert row.ids[0].tolist() == [BOS, *_ids("bcde"), EOS]
  assert row.ids[1].tolist() == [BOS, *_ids("bf"), EOS]
  assert row.counted[0].tolist() == [0, 0, 1, 1, 1, 1]
  assert (row.prompt, row.truncated) == (2, True)
  with pytest.raises(Refused, match="the response alone does not fit"):
    _encode(PAIR, max_length=4, truncate="prompt")


def test_truncating_the_response_cuts_its_end_token_and_says_so():
  row = _encode(PAIR, max_length=5, truncate="response")
  assert row.ids[0].tolist() == [BOS, *_ids("abcd")]
  assert row.counted[0].tolist() == [0, 0, 0, 1, 1]
  assert row.ids[1].tolist() == [BOS, *_ids("abf"), EOS]
  assert row.truncated
  with pytest.raises(Refused, match="the prompt alone fills it"):
    _encode(PAIR, max_length=3, truncate="response")


def test_unknown_truncation_and_no_response_are_refused():
  with pytest.raises(Refused, match="no 'promt'. Did you mean 'prompt'"):
    _encode(PAIR, truncate="promt")
  with pytest.raises(Refused, match="has no response to encode"):
    _encode(Record("q", ()))


def test_encoding_many_is_encoding_one_by_one():
  rng = np.random.default_rng(0)
  words = ["cat", "dog", "the", "é", "sat"]
  texts = [" ".join(rng.choice(words, rng.integers(1, 9))) for _ in range(60)]
  tokenizer = tokenize.train_bpe(texts, 280)
  records = [
    Record(texts[i], (texts[i + 1], texts[i + 2]), (1.0, 0.0), source=f"r:{i}") for i in range(50)
  ]
  rows, report = encode.encode_all(records, tokenizer, PLAIN, max_length=64)
  assert (report.total, report.truncated, report.dropped) == (50, 0, 0)
  for record, row in zip(records, rows, strict=True):
    one = encode.encode(record, tokenizer, PLAIN, max_length=64)
    np.testing.assert_equal(
      (row.ids, row.counted, row.prompt, row.source), (one.ids, one.counted, one.prompt, one.source)
    )


def test_what_is_dropped_or_cut_is_counted_and_listed(capsys):
  records = [Record("p", ("r" * n,), source=f"r:{n}") for n in range(1, 41)]
  rows, report = encode.encode_all(records, TOKENIZER, PLAIN, max_length=10, truncate="drop")
  assert [r.source for r in rows] == [f"r:{n}" for n in range(1, 8)]
  assert (report.total, report.dropped, len(report.first)) == (40, 33, 20)
  printed = capsys.readouterr().err
  assert "of 40 records, 0 were truncated and 33 dropped" in printed
  assert "r:8 dropped" in printed and "... and 13 more" in printed
  rows, report = encode.encode_all(records, TOKENIZER, PLAIN, max_length=10, truncate="response")
  assert (len(rows), report.truncated, report.dropped) == (40, 33, 0)
  assert "33 were truncated" in capsys.readouterr().err
  with pytest.raises(Refused, match="all 33 records are longer than max_length=10"):
    encode.encode_all(records[7:], TOKENIZER, PLAIN, max_length=10, truncate="drop")


def _collate(rows, **knobs):
  return encode.collate(rows, **{"length": 9, "scored": 5, "pad": 0, "candidates": 3} | knobs)


def test_arrays_hold_what_the_rows_hold():
  rows = [_encode(PAIR), _encode(Record("x", ("yz",), (1.0,), weight=0.5))]
  batch = _collate(rows)
  vocabulary.check(batch)
  assert batch["tokens"][0, 0].tolist() == [BOS, *_ids("abcde"), EOS, 0, 0]
  assert batch["mask"][0, 0].tolist() == [0, 0, 0, 1, 1, 1, 1, 0, 0]
  assert batch["prompt_mask"][0, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
  assert batch["position"][0, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 0]
  assert batch["scored"][0, 0].tolist() == [3, 4, 5, 6, -1]
  assert batch["present"].tolist() == [[1, 1, 0], [1, 0, 0]]
  assert batch["relevance"].tolist() == [[1, 0, 0], [1, 0, 0]]
  assert batch["weight"].tolist() == [1.0, 0.5]
  assert batch["index"].tolist() == [0, 1]
  assert batch["scored"][1, 1].tolist() == [-1] * 5


def test_both_sides_of_padding_hold_the_same_content():
  rows = [_encode(PAIR), _encode(Record("xyz", ("q", "rs"), (1.0, 0.0)))]
  right, left = (_collate(rows, candidates=2, side=side) for side in ("right", "left"))
  for b in range(2):
    for k in range(2):
      n = len(rows[b].ids[k])
      for name in ("tokens", "mask", "prompt_mask", "position"):
        np.testing.assert_array_equal(left[name][b, k, -n:], right[name][b, k, :n])
        assert not left[name][b, k, :-n].any() and not right[name][b, k, n:].any()
      counted = left["scored"][b, k] >= 0
      np.testing.assert_array_equal(counted, right["scored"][b, k] >= 0)
      np.testing.assert_array_equal(
        left["tokens"][b, k][left["scored"][b, k][counted]],
        right["tokens"][b, k][right["scored"][b, k][counted]],
      )


def test_masks_do_not_depend_on_the_padding_id():
  rows = [_encode(PAIR)]
  plain, same = _collate(rows, pad=0), _collate(rows, pad=EOS)
  for name in ("mask", "prompt_mask", "position", "scored"):
    np.testing.assert_array_equal(plain[name], same[name])
  assert (same["tokens"] == EOS).sum() > (plain["tokens"] == EOS).sum()
  assert same["mask"][0, 0, 6] == 1.0  # the real end token


def test_outcome_fields_are_made_where_all_rows_have_them():
  full = Record("a", ("b", "c"), (1.0, 0.0), label=0.75, strength=2.0, who=3, group=1)
  batch = _collate([_encode(full), _encode(full)])
  vocabulary.check(batch)
  found = [batch[n].tolist() for n in ("label", "strength", "who", "group")]
  assert found == [[0.75] * 2, [2.0] * 2, [3] * 2, [1] * 2]
  assert "label" not in _collate([_encode(full), _encode(PAIR)])
  assert "relevance" not in _collate([_encode(Record("a", ("b",)))])
  with pytest.raises(Refused, match="x.jsonl:3 has no label"):
    _collate([_encode(PAIR)], names=("label",))


@pytest.mark.parametrize(
  ("knobs", "what"),
  [
    ({"length": 6}, "7 tokens; the batch has room for 6"),
    ({"scored": 3}, "4 tokens that count; the batch has room for 3"),
    ({"candidates": 1}, "2 candidates; the batch has room for 1"),
    ({"side": "top"}, "side is 'top'"),
  ],
)
def test_rows_that_do_not_fit_are_refused(knobs, what):
  with pytest.raises(Refused, match=what):
    _collate([_encode(PAIR)], **knobs)


def test_a_mismatched_row_is_one_prompt_with_another_response():
  rows = [_encode(Record("ab", ("cd",), (1.0,))), _encode(Record("xyz", ("w",), (0.0,)))]
  batch = encode.mismatched(rows, rows[::-1], length=8, scored=4, pad=0, side="right")
  vocabulary.check(batch)
  assert batch["mismatch_tokens"][0, 0].tolist() == [BOS, *_ids("abw"), EOS, 0, 0, 0]
  assert batch["mismatch_tokens"][1, 0].tolist() == [BOS, *_ids("xyzcd"), EOS, 0]
  assert batch["mismatch_mask"][1, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 0]
  assert batch["mismatch_scored"].tolist() == [[[3, 4, -1, -1]], [[4, 5, 6, -1]]]


def test_a_mismatched_prompt_is_cut_and_never_the_response():
  rows = [_encode(Record("abcdef", ("g",), (1.0,))), _encode(Record("x", ("tuvw",), (0.0,)))]
  batch = encode.mismatched(rows, rows[::-1], length=8, scored=6, pad=0, side="right")
  assert batch["mismatch_tokens"][0, 0].tolist() == [BOS, *_ids("eftuvw"), EOS]
