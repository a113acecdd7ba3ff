"""Item fairness against the card's definitions, worked values, invariances and degenerate lists."""

import definitions_fairness as by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from definitions_fairness import NAMES, OURS

from jaxpref.metrics import item_fairness
from jaxpref.types import Refused


def _lists(seed, m, k, n):
  """Zipf-like lists, ids 0..n-1."""
  rng = np.random.default_rng(seed)
  return (np.log(1.0 / np.arange(1, n + 1)) + rng.gumbel(size=(m, n))).argsort(1)[:, ::-1][:, :k]


@pytest.mark.parametrize(
  ("m", "k", "n"), [(30, 4, 25), (5, 3, 40), (8, 5, 40), (7, 1, 3), (2, 3, 5), (13, 4, 50)]
)
def test_equals_the_definition(m, k, n):
  rec = _lists(m, m, k, n)
  ours, wanted = item_fairness.evaluate(rec, catalogue=n), by_hand.values(rec + 1, n)
  assert set(ours) == set(OURS.values()) and set(wanted) == set(OURS)
  for name, value in wanted.items():
    np.testing.assert_allclose(ours[OURS[name]], value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_most_unfair_and_the_most_fair_lists_have_the_cards_values():
  same = np.tile(np.arange(5), (12, 1))
  found = item_fairness.evaluate(same, catalogue=60)
  for name, value in (("jain", 1 / 12), ("qualification", 1 / 12), ("gini", 11 / 12)):
    np.testing.assert_allclose(found[name], value, rtol=1e-12)
  for name in ("jain", "qualification", "entropy", "satisfaction"):
    np.testing.assert_allclose(found[f"{name}_corrected"], 0.0, atol=1e-12)
  for name in ("gini", "gini_attention"):
    np.testing.assert_allclose(found[f"{name}_corrected"], 1.0, rtol=1e-12)
  assert np.isnan(found["entropy"]) and found["vocd"] == 0.0
  found = item_fairness.evaluate(np.arange(60).reshape(12, 5), catalogue=60)
  for name in ("jain", "qualification", "entropy", "satisfaction"):
    np.testing.assert_allclose([found[name], found[f"{name}_corrected"]], 1.0, rtol=1e-12)
  np.testing.assert_allclose([found["gini"], found["gini_corrected"]], 0.0, atol=1e-12)


@pytest.mark.parametrize(
  ("lists", "n", "wanted"),
  [
    ([[0, 1, 2], [0, 1, 2]], 3, {"gini_attention": 0.156426242}),
    ([[0, 1, 2], [2, 1, 0]], 3, {"gini_attention": 0.0372514224}),
    ([[0], [0]], 3, {"iid": 2 / 9, "aid": 2 / 9}),
    ([[0], [1]], 3, {"iid": 2 / 9, "aid": 1 / 18}),
    ([[0], [0]], 2, {"iid": 0.25, "aid": 0.25}),
    ([[0], [1]], 2, {"iid": 0.25, "aid": 0.0}),
  ],
)
def test_worked_values_of_the_card(lists, n, wanted):
  found = item_fairness.evaluate(np.asarray(lists), catalogue=n)
  for name, value in wanted.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-8, atol=1e-15)


def test_corrected_forms_without_a_choice_are_undefined():
  whole = item_fairness.evaluate(np.asarray([[0, 1, 2], [2, 1, 0]]), catalogue=3)
  one = item_fairness.evaluate(np.asarray([[0, 1]]), catalogue=7)
  for name in NAMES.values():
    assert np.isnan(whole[f"{name}_corrected"])
    assert np.isnan(one[f"{name}_corrected"]) == (name != "satisfaction")
  assert np.isnan(item_fairness.evaluate(np.asarray([[0], [0]]), catalogue=3)["vocd"])


def test_users_and_labels_do_not_matter_and_places_do_for_two_measures_only():
  rng, rec = np.random.default_rng(0), _lists(0, 20, 5, 30)
  base = item_fairness.evaluate(rec, catalogue=30)
  moved = item_fairness.evaluate(rng.permutation(30)[rng.permutation(rec)], catalogue=30)
  shuffled = item_fairness.evaluate(rng.permuted(rec, axis=1), catalogue=30)
  for name, value in base.items():
    np.testing.assert_allclose(moved[name], value, rtol=1e-9, atol=1e-15, err_msg=name)
    same = np.allclose(shuffled[name], value, rtol=1e-9, atol=1e-15, equal_nan=True)
    assert same == (not name.startswith(("gini_attention", "aid"))), name


def test_individual_difference_does_not_see_what_is_recommended():
  found = [item_fairness.evaluate(_lists(s, 9, 10, 200), catalogue=200)["iid"] for s in range(2)]
  np.testing.assert_allclose(found, 0.0132, atol=5e-5)
  np.testing.assert_allclose(*found, rtol=1e-12)


def test_blocks_of_users_and_streams_give_the_same():
  rec = _lists(1, 50, 4, 30)
  whole = item_fairness.evaluate(rec, catalogue=30)
  for other in (
    item_fairness.evaluate(rec, catalogue=30, block=7),
    item_fairness.evaluate((part for part in np.array_split(rec, 3)), catalogue=30),
  ):
    for name, value in whole.items():
      np.testing.assert_allclose(other[name], value, rtol=1e-12, err_msg=name)


def test_measures_are_pure_and_can_be_mapped():
  several = np.stack([_lists(s, 12, 3, 20) for s in range(4)])
  one = lambda x: item_fairness.measures(item_fairness.exposure(x, catalogue=20), top=3)
  found = jax.jit(jax.vmap(one))(jnp.asarray(several))
  for i, rec in enumerate(several):
    for name, value in item_fairness.evaluate(rec, catalogue=20).items():
      np.testing.assert_allclose(found[name][i], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
  ("lists", "sentence"),
  [
    ([[1, 2], [3, 4]], "ids 0..3; they are 1..4. Subtract 1"),
    ([[0, 0], [1, 2]], "has one twice"),
    ([[0.0, 1.0]], "integer ids"),
    ([[0, 1, 2, 3, 0]], "one has 5"),
    (np.zeros((0, 2), int), "at least one user"),
  ],
)
def test_wrong_lists_are_refused(lists, sentence):
  with pytest.raises(Refused, match=sentence):
    item_fairness.evaluate(np.asarray(lists), catalogue=4)


def test_lists_of_several_lengths_are_refused():
  with pytest.raises(Refused, match="one has 3"):
    item_fairness.evaluate(iter([np.asarray([[0, 1]]), np.asarray([[0, 1, 2]])]), catalogue=4)


def test_accuracy_curves_equal_the_definition():
  rng = np.random.default_rng(3)
  hit, relevant = rng.random((30, 8)) < 0.3, rng.integers(1, 12, 30)
  relevant = np.maximum(relevant, hit.sum(1))
  hit[0], relevant[0] = False, 0
  found = item_fairness.accuracy_curves(jnp.asarray(hit, jnp.float32), jnp.asarray(relevant))
  wanted = by_hand.curves(hit, relevant)
  ours = dict(hit="hit", mrr="reciprocal_rank", prec="precision", map="average_precision")
  for name, value in wanted.items():
    np.testing.assert_allclose(found[ours.get(name, name)].mean(0), value, rtol=1e-5, atol=1e-7)


def _largest_array(fn, *args):
  """Elements of the largest array that a jitted function makes."""
  jaxpr = jax.make_jaxpr(fn)(*args)
  return max(v.aval.size for e in jaxpr.eqns for v in e.outvars)


def test_no_array_has_the_size_of_users_times_items():
  lists = jax.ShapeDtypeStruct((100_000, 50), jnp.int32)

  def whole(x):
    return item_fairness.measures(item_fairness.exposure(x, catalogue=10_000), top=50)

  assert _largest_array(whole, lists) <= 100_000 * 50 + 50


@pytest.mark.slow
def test_a_hundred_thousand_users_and_ten_thousand_items_need_little_memory():
  import resource

  rng = np.random.default_rng(0)
  parts = ((rng.integers(0, 10_000, (1000, 1)) + np.arange(50) * 199) % 10_000 for _ in range(100))
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  found = item_fairness.evaluate(parts, catalogue=10_000)
  used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024  # MiB
  assert used < 500 and found["qualification"] == 1.0  # users x items in float64 takes 7,600 MiB
