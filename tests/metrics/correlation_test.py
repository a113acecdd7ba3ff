"""Rank correlation against scipy."""

import numpy as np
import pytest
from scipy import stats

from jaxpref.metrics.correlation import average_ranks, spearman


@pytest.mark.parametrize("values", [3, 50])
def test_spearman_equals_scipy_with_ties_and_without(values):
  rng = np.random.default_rng(0)
  x = rng.integers(0, values, 200) if values == 3 else rng.normal(size=200)
  y = 0.5 * x + rng.normal(size=200)
  np.testing.assert_allclose(spearman(x, y), stats.spearmanr(x, y).statistic, rtol=1e-12)
  np.testing.assert_array_equal(average_ranks(x), stats.rankdata(x))


def test_a_constant_sample_has_no_order():
  assert spearman(np.zeros(5), np.arange(5)) == 0.0
