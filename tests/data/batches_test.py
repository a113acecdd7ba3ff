import collections
import itertools

import numpy as np
import pytest

from jaxpref import vocabulary
from jaxpref.data import batches, chat, encode, tokenize
from jaxpref.types import Record, Refused

TOKENIZER = tokenize.byte_tokenizer()
PLAIN = chat.template("plain")
BUCKETS = (8, 16, 32)


def _rows(size, letter="x", responses=2):
  """Rows of several lengths; the prompt is the letter and the row's number."""
  outcome = {1: (1.0,), 2: (1.0, 0.0)}[responses]
  records = [
    Record(
      f"{letter}{i}", tuple(f"r{i}" * (1 + i % 5) + "!" * k for k in range(responses)), outcome
    )
    for i in range(size)
  ]
  return encode.encode_all(records, TOKENIZER, PLAIN, max_length=32)[0]


def _stream(sets=None, **knobs):
  sets = {"main": _rows(23)} if sets is None else sets
  return batches.make_stream(
    sets, **{"seed": 3, "batch": 4, "buckets": BUCKETS, "pad": TOKENIZER.pad} | knobs
  )


def _equal(one, other):
  assert one.keys() == other.keys()
  for name in one:
    np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("step", [0, 1, 7, 1_000_003])
@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_makes_the_same_global_batch(step, processes):
  stream = _stream({"a": _rows(23), "b": _rows(9, "y")}, mix={"a": 3.0, "b": 1.0})
  whole = batches.batch_at(stream, step)
  parts = [batches.batch_at(stream, step, p, processes) for p in range(processes)]
  _equal(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})


def test_mismatched_pairs_do_not_depend_on_the_number_of_processes():
  stream = _stream({"a": _rows(23, responses=1)}, mismatch=True)
  for step in range(6):
    parts = [batches.batch_at(stream, step, p, 4) for p in range(4)]
    whole = batches.batch_at(stream, step)
    vocabulary.check(whole)
    _equal(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})


def test_a_batch_is_a_function_of_seed_and_step_alone():
  one, other = _stream(), _stream()
  for step in (5, 0, 5, 2):
    _equal(batches.batch_at(one, step), batches.batch_at(other, step))
  orders = [[batches.indices(_stream(seed=s), i) for i in range(5)] for s in (3, 4)]
  assert orders[0] != orders[1]


def test_iterating_from_any_step_gives_the_batches_of_those_steps():
  stream = _stream()
  for start in (0, 6):
    found = list(itertools.islice(batches.iterate(stream, start, 1, 2), 9))
    for step, batch in enumerate(found, start):
      _equal(batch, batches.batch_at(stream, step, 1, 2))


def test_every_epoch_holds_every_record_once_in_another_order():
  stream = _stream(batch=23)
  epochs = [batches.indices(stream, step) for step in range(3)]
  assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
  assert epochs[0] != epochs[1] != epochs[2]


def test_sets_are_mixed_by_their_shares_and_each_goes_through_its_own_epochs():
  stream = _stream({"b": _rows(10, "y"), "a": _rows(20)}, mix={"b": 1.0, "a": 3.0}, batch=80)
  assert stream.sets == {"a": (0, 20), "b": (20, 10)}
  count = collections.Counter(batches.indices(stream, 0))
  assert count == dict.fromkeys(range(20), 3) | dict.fromkeys(range(20, 30), 2)


def test_the_order_of_the_sets_names_does_not_matter():
  a, b = _rows(7), _rows(5, "y")
  one, other = _stream({"a": a, "b": b}), _stream({"b": b, "a": a})
  assert [batches.indices(one, s) for s in range(9)] == [
    batches.indices(other, s) for s in range(9)
  ]


def test_every_batch_fits_the_vocabulary_and_its_buckets_and_holds_its_rows():
  stream = _stream()
  shapes = set()
  for step in range(30):
    batch = batches.batch_at(stream, step)
    vocabulary.check(batch)
    rows = [stream.rows[i] for i in batches.indices(stream, step)]
    longest = max(len(ids) for r in rows for ids in r.ids)
    counted = max(c.sum() for r in rows for c in r.counted)
    t, r = batch["tokens"].shape[2], batch["scored"].shape[2]
    assert t == min(b for b in BUCKETS if b >= longest)
    assert r == t >= counted  # short buckets score all their places
    shapes.add((t, r))
    for b, row in enumerate(rows):
      assert batch["index"][b] == batches.indices(stream, step)[b]
      for k, ids in enumerate(row.ids):
        real = (batch["mask"] + batch["prompt_mask"])[b, k] > 0
        np.testing.assert_array_equal(batch["tokens"][b, k][real], ids)
  assert len(shapes) > 1


def test_sets_of_pairs_and_singles_share_a_batch_with_absent_candidates():
  stream = _stream({"a": _rows(6), "b": _rows(6, "y", responses=1)}, batch=12)
  batch = batches.batch_at(stream, 0)
  vocabulary.check(batch)
  single = batch["index"] >= 6
  np.testing.assert_array_equal(batch["present"][:, 1], np.where(single, 0.0, 1.0))
  assert not (batch["mask"] + batch["prompt_mask"])[single, 1].any()


def test_a_row_is_mismatched_with_the_response_of_the_next_row_of_the_global_batch():
  stream = _stream({"a": _rows(9, responses=1)}, mismatch=True)
  for step in range(5):
    batch = batches.batch_at(stream, step)
    for b in range(4):
      texts = []
      for name in ("prompt_mask", "mask"):
        kept = batch[f"mismatch_{name}"][b, 0] > 0
        texts.append(TOKENIZER.decode(batch["mismatch_tokens"][b, 0][kept]))
      own = TOKENIZER.decode(batch["tokens"][b, 0][batch["prompt_mask"][b, 0] > 0])
      c = (b + 1) % 4
      other = TOKENIZER.decode(batch["tokens"][c, 0][batch["mask"][c, 0] > 0])
      assert texts == [own, other]
      places = batch["mismatch_scored"][b, 0]
      np.testing.assert_array_equal(
        places[places >= 0], np.flatnonzero(batch["mismatch_mask"][b, 0])
      )


@pytest.mark.parametrize("size", [1, 7, 8, 11])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_pass_holds_each_record_once_in_order_and_fills_up_at_weight_zero(size, processes):
  rows = _rows(size)
  knobs = {"batch": 4, "buckets": BUCKETS, "pad": 0, "processes": processes}
  parts = [list(batches.passes(rows, process=p, **knobs)) for p in range(processes)]
  seen = []
  for together in zip(*parts, strict=True):
    assert {len(part["weight"]) for part in together} == {4 // processes}
    for part in together:
      vocabulary.check(part)
      seen += part["index"][part["weight"] > 0].tolist()
  assert seen == list(range(size))
  assert len(parts[0]) == -(-size // 4)


def test_the_last_row_of_a_pass_is_mismatched_with_another_record():
  rows = _rows(5, responses=1)
  last = list(batches.passes(rows, batch=4, buckets=BUCKETS, pad=0, mismatch=True))[-1]
  assert last["weight"].tolist() == [1, 0, 0, 0]
  kept = last["mismatch_mask"][0, 0] > 0
  assert TOKENIZER.decode(last["mismatch_tokens"][0, 0][kept]) == "r0"
  with pytest.raises(Refused, match="at least two records; this pass has one"):
    list(batches.passes(rows[:1], batch=4, buckets=BUCKETS, pad=0, mismatch=True))


@pytest.mark.parametrize(
  ("knobs", "says"),
  [
    ({"sets": {}}, "there is no data set"),
    ({"sets": {"a": []}}, "data set 'a' is empty"),
    ({"mix": {"mian": 1.0}}, "mix has no share for data set 'main'"),
    ({"mix": {"main": 1.0, "mian": 1.0}}, "mix names 'mian'.*Did you mean 'main'"),
    ({"mix": {"main": 0.0}}, "share of data set 'main' is 0.0; it must be > 0"),
    ({"batch": 0}, "batch is 0"),
    ({"buckets": (32, 16)}, "increasing lengths"),
    ({"buckets": (8, 12)}, "more than the largest bucket 12; encode with max_length=12"),
    ({"mismatch": True}, "one response per record.*pairs.to_single"),
    ({"mismatch": True, "batch": 1}, "the batch must be at least 2; it is 1"),
  ],
)
def test_streams_that_cannot_be_are_refused(knobs, says):
  with pytest.raises(Refused, match=says):
    _stream(**knobs)


def test_a_batch_that_does_not_divide_over_the_processes_is_refused():
  with pytest.raises(Refused, match="batch 4 does not divide over 3 processes"):
    batches.batch_at(_stream(), 0, 0, 3)


def _lengths(stream, step):
  batch = batches.batch_at(stream, step)
  return (batch["mask"] + batch["prompt_mask"]).sum(-1).max(-1)


def test_grouping_by_length_keeps_the_records_of_every_window_and_saves_padding():
  plain, grouped = _stream(), _stream(group=6)
  for window in range(3):
    steps = range(6 * window, 6 * (window + 1))
    one, other = ([batches.indices(s, step) for step in steps] for s in (plain, grouped))
    assert sorted(sum(one, [])) == sorted(sum(other, []))
  spread = [np.mean([np.ptp(_lengths(s, i)) for i in range(12)]) for s in (plain, grouped)]
  assert spread[1] < 0.5 * spread[0]


def test_grouped_batches_are_a_function_of_seed_and_step_alone():
  for step in (13, 2, 100):
    _equal(batches.batch_at(_stream(group=5), step), batches.batch_at(_stream(group=5), step))
  assert batches.indices(_stream(group=5), 0) != batches.indices(_stream(group=5, seed=4), 0)


def test_long_buckets_halve_the_places_that_count_where_that_is_enough():
  prompt, answer = "p" * 150, "a" * 20
  rows, _ = encode.encode_all(
    [Record(prompt, (answer, answer + "b"), (1.0, 0.0))] * 4, TOKENIZER, PLAIN, max_length=256
  )
  batch = batches.batch_at(_stream({"main": rows}, buckets=(256,)), 0)
  assert batch["tokens"].shape == (4, 2, 256) and batch["scored"].shape == (4, 2, 128)
  assert (batch["scored"] >= 0).sum() == batch["mask"].sum()
