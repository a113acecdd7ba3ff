"""Brant's test against an estimate of its covariance by the sandwich, and its behaviour."""

import numpy as np
import pytest
import scipy.stats

from jaxpref.analysis import brant, partial_odds
from jaxpref.types import Refused


def _data(seed, bend, n=400):
  """Ratings 0..2 with effect 1 at the first cut point and 1 + bend at the second."""
  rng = np.random.default_rng(seed)
  x, u = rng.normal(size=(n, 2)), rng.random(n)
  below = 1 / (1 + np.exp(-np.stack([-1 - x[:, 0], 1.5 - (1 + bend) * x[:, 0]], 1)))
  return (u[:, None] > np.maximum.accumulate(below, 1)).sum(1), x


def test_equals_the_definition_with_scores_of_each_row():
  """Joint covariance of estimating equations, with the model's expected products of residuals."""
  y, x = _data(0, 0.5)
  z = np.concatenate([np.ones((len(y), 1)), x], 1)
  effects, bread, prob = [], [], []
  for cut in (0, 1):
    fit = partial_odds((y > cut).astype(int), x, np.zeros((len(y), 0)))
    prob.append(1 / (1 + np.exp(fit.thresholds[0, 0] - x @ fit.beta)))
    effects.append(fit.beta)
    each = [p * (1 - p) * np.outer(r, r) for p, r in zip(prob[cut], z, strict=True)]
    bread.append(np.linalg.inv(np.sum(each, 0)))
  both = np.sum([(b - a * b) * np.outer(r, r) for a, b, r in zip(*prob, z, strict=True)], 0)
  cross = bread[0] @ both @ bread[1]
  d = effects[0] - effects[1]
  v = (bread[0] + bread[1] - cross - cross.T)[1:, 1:]
  found = brant(y, x)
  np.testing.assert_allclose(found["statistic"], d @ np.linalg.solve(v, d), rtol=1e-8)
  np.testing.assert_allclose(found["column_statistic"], d**2 / np.diag(v), rtol=1e-8)
  assert found["df"] == 2
  np.testing.assert_allclose(found["p"], scipy.stats.chi2.sf(found["statistic"], 2), rtol=1e-9)


def test_parallel_lines_are_rejected_where_they_bend_and_rarely_elsewhere():
  bent = brant(*_data(1, 1.5))
  assert bent["column_p"][0] < 1e-3 < bent["column_p"][1]
  straight = [brant(*_data(seed, 0.0))["p"] < 0.05 for seed in range(60)]
  assert np.mean(straight) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)


def test_two_levels_are_refused():
  with pytest.raises(Refused, match="at least 3 levels; there are 2"):
    brant(np.asarray([0, 1]), np.zeros((2, 1)))
