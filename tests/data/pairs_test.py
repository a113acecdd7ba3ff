import pytest
import scipy.stats

from jaxpref.data import pairs
from jaxpref.types import Record, Refused

LIST = Record("q", ("a", "b", "c", "d"), (1.0, 4.0, 2.0, 2.0), aspects=(1, 2, 3, 4), who=5)
PAIR = Record("q", ("a", "b"), (1.0, 0.0), label=0.9, aspects=({"x": 1}, {"x": 2}), group=3)


def test_best_against_worst_makes_one_pair_with_its_gap():
  (pair,) = pairs.to_pairs([LIST])
  assert (pair.responses, pair.relevance, pair.strength) == (("b", "a"), (1.0, 0.0), 3.0)
  assert (pair.aspects, pair.who) == ((2, 1), 5)


def test_all_pairs_are_every_two_of_unequal_grade():
  got = {(p.responses, p.strength) for p in pairs.to_pairs([LIST], how="all")}
  grade = dict(zip(LIST.responses, LIST.relevance, strict=True))
  want = {((x, y), grade[x] - grade[y]) for x in grade for y in grade if grade[x] > grade[y]}
  assert got == want


def test_equal_grades_make_no_pair():
  assert pairs.to_pairs([Record("q", ("a", "b"), (1.0, 1.0))]) == []


def test_a_pair_becomes_one_desirable_and_one_undesirable_response():
  for record in (PAIR, *pairs.swap([PAIR])):
    singles = pairs.to_single([record])
    assert {(s.responses, s.relevance) for s in singles} == {(("a",), (1.0,)), (("b",), (0.0,))}
    assert all(s.group == 3 and s.label is None and len(s.aspects) == 1 for s in singles)


def test_single_responses_stay_as_they_are_beside_pairs():
  single = Record("q", ("a",), (0.0,), weight=2.0)
  assert pairs.to_single([single, PAIR])[0] is single and len(pairs.to_single([single, PAIR])) == 3


def test_the_best_response_alone_is_the_first_with_all_that_goes_along():
  one, two = pairs.to_best([PAIR, Record("q", ("a", "b"))])
  assert (one.responses, one.relevance, one.aspects) == (("a",), (1.0,), ({"x": 1},))
  assert two.responses == ("a",) and two.relevance is None


def test_a_list_gathers_the_responses_of_a_prompt_best_first():
  records = [
    Record("q", ("a", "b"), (1.0, 0.0)),
    Record("r", ("z",), (1.0,)),
    Record("q", ("c", "a"), (1.0, 0.0)),
    Record("q", ("a",), (1.0,), who=2),
  ]
  out = [(r.prompt, r.who, r.responses, r.relevance) for r in pairs.to_list(records)]
  assert out == [
    ("q", None, ("c", "a", "b"), (1.0, 0.5, 0.0)),
    ("r", None, ("z",), (1.0,)),
    ("q", 2, ("a",), (1.0,)),
  ]


def test_a_list_of_single_responses_undoes_singles():
  (back,) = pairs.to_list(pairs.to_single([PAIR]))
  assert (back.responses, back.relevance) == (PAIR.responses, PAIR.relevance)


def test_swapping_keeps_the_fact_and_twice_is_nothing():
  (swapped,) = pairs.swap([PAIR])
  assert (swapped.responses, swapped.relevance) == (("b", "a"), (0.0, 1.0))
  assert swapped.label == pytest.approx(0.1)
  assert swapped.aspects == ({"x": 2}, {"x": 1})
  assert pairs.swap(pairs.swap([LIST])) == [LIST]


def test_a_flipped_pair_prefers_the_other_response():
  (flipped,) = pairs.flip([PAIR], 1.0, seed=0)
  assert (flipped.responses, flipped.relevance) == (("b", "a"), (1.0, 0.0))
  (single,) = pairs.flip([Record("q", ("a",), (1.0,))], 1.0, seed=0)
  assert single.relevance == (0.0,)
  assert pairs.flip([PAIR], 0.0, seed=0) == [PAIR]


def test_as_many_are_flipped_as_the_rate_says_and_the_same_ones_by_seed():
  records = [PAIR] * 2000
  flipped = pairs.flip(records, 0.2, seed=3)
  wrong = sum(r.responses == ("b", "a") for r in flipped)
  assert scipy.stats.binomtest(wrong, 2000, 0.2).pvalue > 1e-3
  assert flipped == pairs.flip(records, 0.2, seed=3) != pairs.flip(records, 0.2, seed=4)


@pytest.mark.parametrize(
  ("call", "says"),
  [
    (lambda: pairs.to_pairs([LIST], how="al"), "no how='al'. Did you mean 'all'"),
    (
      lambda: pairs.to_pairs([Record("q", ("a", "b"), source="f:1")]),
      "f:1 has 2 .* relevance None",
    ),
    (lambda: pairs.to_pairs([Record("q", ("a",), (1.0,))]), "at least 2"),
    (lambda: pairs.to_single([LIST]), "has 4 responses.*Make them with to_pairs"),
    (lambda: pairs.to_single([Record("q", ("a", "b"), (1.0, 1.0))]), "pairs of unequal grade"),
    (lambda: pairs.flip([PAIR], 1.5, 0), "rate 1.5; it is a probability"),
    (lambda: pairs.flip([LIST], 1.0, 0), "flip takes pairs or single"),
  ],
)
def test_records_that_do_not_fit_are_refused(call, says):
  with pytest.raises(Refused, match=says):
    call()


def test_the_best_leaves_out_single_responses_that_nobody_wanted():
  both = pairs.to_single([Record("p", ("good", "bad"), (1.0, 0.0))])
  assert [r.responses for r in pairs.to_best(both)] == [("good",)]
