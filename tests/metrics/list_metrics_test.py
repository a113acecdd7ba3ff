"""Metrics of graded lists against definitions by sorting, identities and padding."""

import definitions_lists
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import metrics
from jaxpref.metrics.correlation import kendall
from jaxpref.numerics import before, masked_logsumexp, places
from jaxpref.types import Refused

NAMES = ("dcg", "ndcg", "reciprocal_rank", "average_precision", "recall", "mean_relevance")


def _inputs(seed, k=7, rows=9):
  rng = np.random.default_rng(seed)
  score = rng.normal(0.0, 1.0, (rows, k)).round(1)  # some ties
  relevance = rng.integers(0, 3, (rows, k))
  present = (rng.random((rows, k)) < 0.8).astype(np.float32)
  present[0], present[1], relevance[2] = 1, 0, 0
  return tuple(jnp.asarray(x, jnp.float32) for x in (score, relevance, present))


@pytest.mark.parametrize("top", [0, 1, 3, 9])
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_definition(name, top):
  arrays = _inputs(0)
  ((key, value),) = getattr(metrics, name)(*arrays, top=top).items()
  assert key == (f"{name}@{top}" if top else name) and value.dtype == jnp.float32
  wanted = definitions_lists.metric(name, *arrays, top=top)
  np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_padded_candidates_change_nothing_whatever_stands_in_them(name):
  *arrays, present = _inputs(1)
  wild = [jnp.where(present > 0, x, jnp.nan) for x in arrays]
  (own,), (other,) = (getattr(metrics, name)(*x, present).values() for x in (arrays, wild))
  np.testing.assert_array_equal(own, other)


def test_the_best_order_has_ndcg_one_and_no_gain_is_zero():
  _, relevance, present = _inputs(2)
  best = metrics.ndcg(relevance, relevance, present)["ndcg"]
  some = np.asarray((relevance * present).sum(1) > 0)
  np.testing.assert_allclose(best[some], 1.0, rtol=1e-6)
  np.testing.assert_array_equal(best[~some], 0.0)


def test_all_of_recall_is_one_and_precision_of_the_best_order_too():
  _, relevance, present = _inputs(3)
  some = np.asarray((relevance * present).sum(1) > 0).astype(np.float32)
  for name in ("recall", "average_precision", "reciprocal_rank"):
    (value,) = getattr(metrics, name)(relevance, relevance, present, top=0).values()
    np.testing.assert_allclose(value, some, rtol=1e-6)


def test_a_negative_cut_is_refused():
  with pytest.raises(Refused, match="ndcg needs top >= 0; it is -2"):
    metrics.ndcg(*_inputs(4), top=-2)


def test_places_are_those_of_a_stable_sort_of_the_present():
  score, _, present = _inputs(5)
  for s, there, place in zip(
    *map(np.asarray, (score, present, places(score, present))), strict=True
  ):
    order = np.argsort(-s[there > 0], kind="stable")
    wanted = np.empty(len(order))
    wanted[order] = 1 + np.arange(len(order))
    np.testing.assert_array_equal(place[there > 0], wanted)
  above = np.asarray(before(score, present))
  both = np.asarray(present)[:, :, None] * np.asarray(present)[:, None, :] * (1 - np.eye(7))
  np.testing.assert_array_equal(above + above.swapaxes(1, 2), both > 0)


def test_masked_logsumexp_is_exact_at_extremes_and_zero_where_nothing_counts():
  x = jnp.asarray([[1e6, 1e6, jnp.inf], [-1e6, -1e6, jnp.nan], [jnp.nan, jnp.nan, jnp.nan]])
  mask = jnp.asarray([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
  found = masked_logsumexp(x, mask)
  np.testing.assert_allclose(found, [1e6 + np.log(2), -1e6 + np.log(2), 0.0], rtol=1e-6)


def test_kendall_of_equal_reversed_and_constant_samples():
  x = np.asarray([0.3, 2.0, 1.0, 5.0])
  assert kendall(x, 3 * x + 1) == 1 and kendall(x, -x) == -1 and kendall(x, 0 * x) == 0


def test_kendall_is_tau_b_with_ties():
  # pairs of (1, 1, 2, 3) and (1, 2, 2, 3): C = 4, D = 0, one tie in each sample only
  assert np.isclose(kendall([1, 1, 2, 3], [1, 2, 2, 3]), 4 / 5)
