"""Calibration of reward models against a loop, and margins against numpy."""

import numpy as np
import pytest
from scipy.special import expit

from jaxpref import metrics
from jaxpref.metrics import calibration, score


def _by_loop(probability, outcome, bins):
  total = 0.0
  for b in range(bins):
    inside = [
      i
      for i, p in enumerate(probability)
      if b / bins <= p < (b + 1) / bins or (b == bins - 1 and p == 1)
    ]
    if inside:
      stated = np.mean([probability[i] for i in inside])
      right = np.mean([outcome[i] for i in inside])
      total += len(inside) / len(probability) * abs(stated - right)
  return total


@pytest.mark.parametrize("bins", [1, 4, 10])
def test_error_is_the_weighted_gap_of_bins(bins):
  rng = np.random.default_rng(bins)
  probability, outcome = rng.random(200), rng.integers(0, 2, 200)
  probability[:2] = 0.0, 1.0
  found = calibration.calibration_error(probability, outcome, bins)
  np.testing.assert_allclose(found, _by_loop(probability, outcome, bins), rtol=1e-12)


def test_bins_hold_every_record_once_and_empty_ones_are_nan():
  found = calibration.reliability([0.05, 0.95, 0.9, 1.0], [0, 1, 1, 0], 10)
  assert found.count.tolist() == [1] + [0] * 8 + [3]
  np.testing.assert_allclose(found.right[[0, 9]], [0.0, 2 / 3])
  assert np.isnan(found.stated[1:9]).all() and len(found.edges) == 11


def test_a_calibrated_model_has_a_small_error_and_an_overconfident_one_a_large_one():
  rng = np.random.default_rng(0)
  margin = rng.normal(0, 2, 20_000)
  margin *= np.where(rng.random(20_000) < expit(np.abs(margin)), 1, -1) * np.sign(margin)
  assert calibration.pair_calibration(margin) < 0.015
  assert calibration.pair_calibration(5 * margin) > 0.1


def test_pairs_are_judged_by_the_favoured_response():
  margin = np.asarray([2.0, -2.0])
  gap = expit(2.0) - 0.5  # both in one bin: stated .88, right .5
  np.testing.assert_allclose(calibration.pair_calibration(margin), gap)
  assert calibration.pair_calibration(np.asarray([1e6, 1e6])) == 0


def test_margin_statistics_are_those_of_numpy():
  margin = np.random.default_rng(1).normal(size=101)
  found = calibration.margin_statistics(margin)
  np.testing.assert_allclose(found["std"], margin.std())
  for q in (5, 25, 50, 75, 95):
    np.testing.assert_allclose(found[f"q{q:02d}"], np.quantile(margin, q / 100))


def test_the_summary_of_an_evaluation_has_calibration_and_quantiles():
  pairs = np.random.default_rng(2).normal(size=(50, 2)).astype(np.float32)
  each = {k: np.asarray(v) for k, v in metrics.score_accuracy(pairs).items()}
  found = score.summary(each)
  margin = np.float64(pairs[:, 0]) - pairs[:, 1]
  np.testing.assert_allclose(found["rewards/margins/q50"], np.median(margin), rtol=1e-5)
  np.testing.assert_allclose(found["rewards/ece"], calibration.pair_calibration(margin), rtol=1e-3)


def test_the_mean_of_parts_and_the_form_of_embeddings_decide():
  parts = np.random.default_rng(3).normal(size=(9, 2, 4)).astype(np.float32)
  one = metrics.parts_accuracy(parts)["rewards/accuracies"]
  np.testing.assert_array_equal(one, parts.mean(-1)[:, 0] > parts.mean(-1)[:, 1])
  swapped = metrics.preference_accuracy(parts[:, ::-1])["rewards/margins"]
  np.testing.assert_allclose(metrics.preference_accuracy(parts)["rewards/margins"], -swapped)
  same = metrics.preference_accuracy(np.repeat(parts[:, :1], 2, 1))
  assert (same["rewards/ties"] == 1).all() and (same["rewards/accuracies"] == 0).all()
