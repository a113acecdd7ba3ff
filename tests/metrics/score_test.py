"""Metrics of scores and of likelihood per token: definitions, ties, empty responses."""

import jax
import numpy as np

from jaxpref import metrics


def _draw(seed, b=32):
  rng = np.random.default_rng(seed)
  score = rng.normal(0.0, 1.0, (b, 2)).astype(np.float32)
  return score, -rng.gamma(4.0, 5.0, (b, 2)).astype(np.float32), rng.integers(1, 30, (b, 2))


def test_a_score_is_right_where_the_preferred_response_has_more():
  score, _, _ = _draw(0)
  score[3] = 0.25
  found = metrics.score_accuracy(score)
  wanted = [float(a > b) for a, b in score.astype(np.float64)]
  np.testing.assert_array_equal(found["rewards/accuracies"], wanted)
  np.testing.assert_array_equal(found["rewards/ties"], [i == 3 for i in range(32)])
  np.testing.assert_allclose(found["rewards/margins"], score[:, 0] - score[:, 1])


def test_swapping_both_responses_makes_right_wrong_and_keeps_ties():
  score, _, _ = _draw(1)
  score[5] = -2.0
  one, other = metrics.score_accuracy(score), metrics.score_accuracy(score[:, ::-1])
  total = one["rewards/accuracies"] + other["rewards/accuracies"] + one["rewards/ties"]
  np.testing.assert_array_equal(total, 1.0)


def test_the_mean_of_response_nll_counts_every_token_once():
  _, logp, length = _draw(2)
  value, count = jax.jit(metrics.response_nll)(logp, length.astype(np.float32))["nll"]
  mean = (np.float64(value) * count).sum() / count.sum()
  np.testing.assert_allclose(mean, -np.float64(logp[:, 0]).sum() / length[:, 0].sum(), rtol=1e-6)


def test_an_empty_response_counts_nothing_and_is_finite():
  value, count = metrics.response_nll(np.zeros((1, 1)), np.zeros((1, 1)))["nll"]
  assert np.isfinite(value).all() and count[0] == 0


def test_further_responses_do_not_matter():
  _, logp, length = _draw(3)
  one = metrics.response_nll(logp[:, :1], length[:, :1].astype(np.float32))["nll"]
  both = metrics.response_nll(logp, length.astype(np.float32))["nll"]
  np.testing.assert_array_equal(one, both)
