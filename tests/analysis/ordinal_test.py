"""The ordinal model against its definition, scipy, closed forms, identities and separated data."""

import definitions_ordinal as by_hand
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from jaxpref.analysis import likelihood_ratio, odds_ratios, ordinal, partial_odds
from jaxpref.types import Refused


def _data(seed, n=160, levels=4, p=2, q=1):
  rng = np.random.default_rng(seed)
  x, z = rng.normal(size=(n, p)), rng.integers(0, 2, (n, q)).astype(float)
  latent = x @ rng.normal(size=p) + 0.7 * z.sum(1) + rng.logistic(size=n)
  cuts = np.quantile(latent, np.arange(1, levels) / levels)
  return np.searchsorted(cuts, latent), x, z


def _none(y):
  return np.zeros((len(y), 0))


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_likelihood_and_probabilities_equal_the_definition(levels):
  y, x, z = _data(0, n=25, levels=levels, q=2)
  rng = np.random.default_rng(1)
  beta = rng.normal(size=2)
  thresholds = np.concatenate(
    [np.linspace(-2, 2, levels - 1)[:, None], rng.normal(0, 0.1, (levels - 1, 2))], 1
  )
  with jax.enable_x64(True):
    ours = ordinal.nll(beta, thresholds, jnp.asarray(y), *map(jnp.asarray, (x, z, np.ones(25))))
    logp = np.asarray(ordinal.category_logp(*map(jnp.asarray, (beta, thresholds, x, z))))
  np.testing.assert_allclose(ours, by_hand.nll(beta, thresholds, y, x, z), rtol=1e-12)
  np.testing.assert_allclose(-logp[np.arange(25), y].sum(), ours, rtol=1e-12)
  np.testing.assert_allclose(np.exp(logp).sum(1), 1.0, rtol=1e-12)


@pytest.mark.parametrize(
  ("levels", "p", "q"), [(2, 2, 0), (2, 0, 2), (3, 2, 1), (4, 1, 2), (5, 3, 0)]
)
def test_the_maximum_and_its_errors_are_those_of_scipy_on_the_definition(levels, p, q):
  y, x, z = _data(levels, levels=levels, p=p, q=q)
  fit = partial_odds(y, x, z)

  def total(v):
    return by_hand.nll(v[:p], v[p:].reshape(levels - 1, -1), y, x, z)

  start = np.zeros(p + (levels - 1) * (1 + q))
  start[p :: 1 + q] = np.linspace(-1, 1, levels - 1) if levels > 2 else 0.0
  start = np.where(np.arange(len(start)) < p, 0.0, start)
  best = scipy.optimize.minimize(total, start, method="BFGS", options={"gtol": 1e-6})
  ours = np.concatenate([fit.beta, fit.thresholds.ravel()])
  np.testing.assert_allclose(ours, best.x, atol=2e-5)
  np.testing.assert_allclose(fit.nll, best.fun, rtol=1e-9)
  hessian = by_hand.numeric_hessian(total, ours)
  np.testing.assert_allclose(fit.errors, np.sqrt(np.diag(np.linalg.inv(hessian))), rtol=1e-4)


def test_the_gradient_at_the_estimate_is_zero():
  y, x, z = _data(7)
  fit = partial_odds(y, x, z)
  with jax.enable_x64(True):
    rest = tuple(map(jnp.asarray, (y, x, z, np.ones(len(y)))))
    slopes = jax.grad(lambda b, t: ordinal.nll(b, t, *rest), (0, 1))(
      jnp.asarray(fit.beta), jnp.asarray(fit.thresholds)
    )
  assert max(np.abs(s).max() for s in slopes) < 1e-7


def test_without_columns_cut_points_are_the_logits_of_cumulative_shares():
  y = np.repeat(np.arange(4), [5, 20, 3, 12])
  fit = partial_odds(y, _none(y), _none(y))
  below = np.cumsum([5, 20, 3])
  np.testing.assert_allclose(fit.thresholds[:, 0], np.log(below / (40 - below)), rtol=1e-10)
  np.testing.assert_allclose(fit.nll, -sum(c * np.log(c / 40) for c in (5, 20, 3, 12)), rtol=1e-12)


def test_a_two_by_two_table_gives_its_odds_ratio_and_woolfs_error():
  a, b, c, d = 12, 8, 5, 15  # group 0: a zeros, b ones; group 1: c zeros, d ones
  y, x = np.repeat([0, 1, 0, 1], [a, b, c, d]), np.repeat([0.0, 1.0], [a + b, c + d])[:, None]
  fit = partial_odds(y, x, _none(y))
  np.testing.assert_allclose(np.exp(fit.beta), [a * d / (b * c)], rtol=1e-10)
  np.testing.assert_allclose(fit.errors[0], np.sqrt(1 / a + 1 / b + 1 / c + 1 / d), rtol=1e-8)
  np.testing.assert_allclose(fit.thresholds[0, 0], np.log(a / b), rtol=1e-10)


def test_free_effects_of_a_group_are_the_logits_of_each_groups_shares():
  counts = np.asarray([[4, 6, 10], [9, 2, 5]])
  y = np.concatenate([np.repeat(np.arange(3), c) for c in counts])
  z = np.repeat([0.0, 1.0], counts.sum(1))[:, None]
  fit = partial_odds(y, _none(y), z)
  below = counts.cumsum(1)[:, :2] / counts.sum(1)[:, None]
  logit = np.log(below / (1 - below))
  np.testing.assert_allclose(fit.thresholds[:, 0], logit[0], atol=1e-9)
  np.testing.assert_allclose(fit.thresholds.sum(1), logit[1], atol=1e-9)


def test_a_reversed_scale_flips_the_effects_and_the_order_of_cut_points():
  y, x, z = _data(3)
  fit, back = partial_odds(y, x, z), partial_odds(3 - y, x, z)
  np.testing.assert_allclose(back.beta, -fit.beta, atol=1e-8)
  np.testing.assert_allclose(back.thresholds, -fit.thresholds[::-1], atol=1e-8)
  np.testing.assert_allclose(back.nll, fit.nll, rtol=1e-12)


def test_another_coding_of_the_nominal_columns_changes_nothing_else():
  y, x, _ = _data(4, n=400)
  level = np.random.default_rng(0).integers(0, 3, len(y))
  dummy, steps = np.eye(3)[level][:, 1:], by_hand.coding(3)[level]
  a, b = partial_odds(y, x, dummy), partial_odds(y, x, steps)
  np.testing.assert_allclose(a.beta, b.beta, atol=1e-8)
  np.testing.assert_allclose([a.nll, *a.errors[:2]], [b.nll, *b.errors[:2]], rtol=1e-8)


def test_each_larger_model_fits_better_and_the_tests_tail_is_scipys():
  y, x, z = _data(5)
  null = partial_odds(y, _none(y), _none(y))
  small = partial_odds(y, np.concatenate([x, z], 1), _none(y))
  large = partial_odds(y, x, z)
  assert large.nll <= small.nll <= null.nll
  test = likelihood_ratio(small, large)
  assert test["df"] == 2
  np.testing.assert_allclose(test["p"], scipy.stats.chi2.sf(test["statistic"], 2), rtol=1e-10)
  with pytest.raises(Refused, match="larger model second; it has -2 more"):
    likelihood_ratio(large, small)


def test_a_weight_counts_a_row_so_often_and_zero_leaves_it_out():
  y, x, z = _data(6, n=120)
  often = np.random.default_rng(2).integers(0, 3, len(y))
  rows = np.repeat(np.arange(len(y)), often)
  fit = partial_odds(y[rows], x[rows], z[rows])
  with jax.enable_x64(True):
    solve = jax.vmap(lambda w: ordinal.solve(y, x, z, w, levels=4))
    found = jax.jit(solve)(np.stack([often, np.ones(len(y))]).astype(float))
  assert found["converged"].all() and not found["separated"].any()
  np.testing.assert_allclose(found["beta"][0], fit.beta, atol=1e-8)
  np.testing.assert_allclose(found["beta"][1], partial_odds(y, x, z).beta, atol=1e-8)
  np.testing.assert_allclose(found["covariance"][0], fit.covariance, atol=1e-8)


def test_large_and_small_columns_scale_the_estimates_only():
  y, x, z = _data(8)
  scale = np.asarray([1e3, 1e-3])
  a, b = partial_odds(y, x, z), partial_odds(y, x * scale, z)
  np.testing.assert_allclose(b.beta * scale, a.beta, rtol=1e-5)
  np.testing.assert_allclose(b.nll, a.nll, rtol=1e-10)


def _separated(kind):
  x = np.linspace(-1, 1, 20)[:, None]
  if kind == "complete":
    return (x[:, 0] > 0).astype(int), x, np.zeros((20, 0)), r"beta\[0\]"
  if kind == "quasi":  # the group of ones never has a 0, the other has both
    group = np.repeat([0.0, 1.0], 10)[:, None]
    return np.repeat([0, 1, 1], [5, 5, 10]), group, np.zeros((20, 0)), r"beta\[0\]"
  y = np.tile([0, 1, 2, 3], 5)
  z = (y % 2 == 0).astype(float)[:, None] * (np.arange(20) > 3)[:, None]
  return np.where(z[:, 0] * (y == 2) > 0, 0, y), np.zeros((20, 0)), z, r"thresholds\["


@pytest.mark.parametrize("kind", ["complete", "quasi", "free"])
def test_separation_is_said_with_the_effects_that_run_off(kind):
  y, x, z, named = _separated(kind)
  with pytest.raises(Refused, match=f"separation: the likelihood rises for ever in .*{named}"):
    partial_odds(y, x, z)


def test_a_level_that_a_resample_misses_is_flagged_there_only():
  y, x, z = _data(9)
  weight = np.stack([np.ones(len(y)), (y < 3).astype(float)])
  with jax.enable_x64(True):
    found = jax.jit(jax.vmap(lambda w: ordinal.solve(y, x, z, w, levels=4)))(weight)
  np.testing.assert_array_equal(found["separated"], [False, True])


def test_nearly_separated_data_have_a_maximum():
  x = np.linspace(-1, 1, 40)
  y = (x > 0).astype(int)
  y[[18, 21]] = 1, 0
  fit = partial_odds(y, x[:, None], _none(y))
  assert 1 < fit.beta[0] < 100 and np.isfinite(fit.errors).all()


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    (lambda y, x, z: (y, np.concatenate([x, x[:, :1]], 1), z), "have rank 4: drop"),
    (lambda y, x, z: (y, x, np.ones_like(z)), "have rank 3: drop"),
    (lambda y, x, z: (y - 1, x, z), r"needs ratings 0..2; they are -1..2"),
    (lambda y, x, z: (y[1:], x, z), r"it got \(159,\)"),
    (lambda y, x, z: (y * 1.0, x, z), "integers as outcome"),
    (lambda y, x, z: (y, x * np.nan, z), "finite columns"),
    (lambda y, x, z: (y * 0, x, z), None),
  ],
)
def test_wrong_input_is_refused(change, sentence):
  with pytest.raises(Refused, match=sentence):
    partial_odds(*change(*_data(0)))


def test_odds_ratios_equal_scipys_normal():
  beta, error = np.asarray([0.5945, -0.2, 4.0]), np.asarray([0.1856, 0.19, 0.1])
  found = odds_ratios(beta, error, level=0.9)
  q = scipy.stats.norm.ppf(0.95)
  np.testing.assert_allclose(found["low"], np.exp(beta - q * error), rtol=1e-12)
  np.testing.assert_allclose(found["high"], np.exp(beta + q * error), rtol=1e-12)
  np.testing.assert_allclose(found["p"], 2 * scipy.stats.norm.sf(abs(beta / error)), rtol=1e-9)
  np.testing.assert_allclose(found["preference"][0], 1.812 / 2.812, atol=2e-4)
  with pytest.raises(Refused, match="odds_ratios needs 1 - level > 0"):
    odds_ratios(beta, error, level=1.0)
