"""The parts of the item_fairness experiment: lists that it builds and clicks that it draws."""

import importlib
import pathlib
import sys

import definitions_fairness as by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
lists = importlib.import_module("experiments.item_fairness.lists")
recommender = importlib.import_module("experiments.item_fairness.recommender")


def test_insertion_goes_from_the_same_items_for_all_to_every_item_once():
  users, top = 6, 4
  for step in range(top + 1):
    found = lists.inserted(users, top, step)
    assert all(len(set(row)) == top for row in found.tolist())
    assert len(np.unique(found)) == top + step * (users - 1)
  np.testing.assert_array_equal(lists.inserted(users, top, 0), np.tile(np.arange(top), (users, 1)))
  np.testing.assert_array_equal(np.sort(found.ravel()), np.arange(users * top))


def test_the_last_place_is_refilled_first():
  before, after = lists.inserted(5, 3, 1), lists.inserted(5, 3, 2)
  np.testing.assert_array_equal(before[:, :2], np.tile([0, 1], (5, 1)))
  np.testing.assert_array_equal(after[:, 0], 0)
  np.testing.assert_array_equal(after[:, 2], before[:, 2])


def test_what_is_undefined_is_counted_and_left_out():
  same = lists.inserted(5, 3, 0)
  found, wanted = lists.measured(same, 15), by_hand.values(same + 1, 15)
  assert found.pop("undefined") == 1 and "entropy" not in found
  assert len(found) == 14 and np.isnan(wanted["Ent_ori"])
  for name, ours in by_hand.OURS.items():
    if name != "Ent_ori":
      np.testing.assert_allclose(found[ours], wanted[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("users", "top", "catalogue"), [(7, 3, 10), (4, 3, 12), (3, 2, 50)])
def test_the_fairest_lists_have_counts_that_differ_by_one_at_most(users, top, catalogue):
  found = lists.fairest(users, top, catalogue)
  counts = np.bincount(found.ravel(), minlength=catalogue)
  assert np.ptp(counts) <= 1 and all(len(set(row)) == top for row in found.tolist())


def test_clicks_are_long_tailed_and_no_click_is_in_both_parts():
  train, test = recommender.clicks(0, users=300, items=200, factors=4, each=8, tail=1.0)
  np.testing.assert_array_equal(train.sum(1), 8)
  np.testing.assert_array_equal(test.sum(1), 8)
  assert not (train & test).any()
  count = np.sort(train.sum(0))[::-1]
  assert count[:20].sum() > count[-100:].sum()  # a tenth of the items has more than half of them


def test_bpr_ranks_held_out_clicks_above_chance_and_follows_its_weights():
  train, test = recommender.clicks(0, users=60, items=40, factors=2, each=5, tail=1.0)
  fit = lambda weight: np.asarray(
    recommender.train_scores(
      jax.random.key(0),
      *(jnp.asarray(x) for x in np.nonzero(train)),
      jnp.asarray(weight, jnp.float32),
      users=60,
      factors=4,
      steps=300,
      batch=128,
      lr=0.02,
      decay=1e-3,
    )
  )
  plain = fit(np.ones(40))
  assert plain[test].mean() > plain[~test & ~train].mean()
  only = fit(np.where(np.arange(40) < 20, 2.0, 0.0))
  assert only[:, :20].mean() > only[:, 20:].mean() + 1.0
