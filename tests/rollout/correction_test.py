"""Rollout correction: weights, rejections and diagnostics on and off policy."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import rollout_correction as rc
from jaxpref.types import Refused

WEIGHTS = ("token_tis", "token_mis", "sequence_tis", "sequence_mis", "sequence_tis_filter")
REJECTIONS = ("reject_tokens", "reject_sequences")


def _draw(seed, spread=0.5):
  rng = np.random.default_rng(seed)
  old = -rng.gamma(2.0, 0.5, (2, 3, 6)).astype(np.float32)
  sampler = (old + rng.normal(0.0, spread, old.shape)).astype(np.float32)
  mask = (rng.random(old.shape) < 0.7).astype(np.float32)
  mask[1, 2] = 0
  return old, sampler, mask


@pytest.mark.parametrize("name", WEIGHTS + REJECTIONS)
def test_on_policy_every_token_has_weight_one(name):
  old, _, mask = _draw(0)
  np.testing.assert_array_equal(getattr(rc, name)(old, old, mask), mask)


def test_token_weights_equal_the_definition():
  old, sampler, mask = _draw(1)
  w = np.exp(np.float64(old) - sampler)
  np.testing.assert_allclose(
    rc.token_tis(old, sampler, mask, cap=1.2), np.minimum(w, 1.2) * mask, rtol=1e-5
  )
  inside = np.where((w >= 0.7) & (w <= 1.4), w, 0) * mask
  np.testing.assert_allclose(rc.token_mis(old, sampler, mask, low=0.7, high=1.4), inside, rtol=1e-5)


def test_sequence_weights_equal_the_definition():
  old, sampler, mask = _draw(2)
  r = (np.float64(old) - sampler) * mask
  w = np.exp(r.sum(2, keepdims=True)) * mask
  np.testing.assert_allclose(
    rc.sequence_tis(old, sampler, mask, cap=1.3), np.minimum(w, 1.3), rtol=1e-5
  )
  inside = np.where((w >= 0.5) & (w <= 2), w, 0)
  ours = rc.sequence_mis(old, sampler, mask, low=0.5, high=2.0)
  np.testing.assert_allclose(ours, inside, rtol=1e-5)
  mean = np.exp(r.sum(2, keepdims=True) / np.maximum(mask.sum(2, keepdims=True), 1))
  wanted = np.exp(r) * mask * ((mean >= 0.9) & (mean <= 1.1))
  ours = rc.sequence_tis_filter(old, sampler, mask, low=0.9, high=1.1)
  np.testing.assert_allclose(ours, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", ["token_tis", "token_mis"])
def test_normalised_token_weights_have_mean_one(name):
  old, sampler, mask = _draw(3)
  ours = np.asarray(getattr(rc, name)(old, sampler, mask, normalise="batch"))
  assert abs(ours.sum() / mask.sum() - 1) < 1e-5
  with pytest.raises(Refused, match=f"{name} has no normalise='bath'. Did you mean 'batch'"):
    getattr(rc, name)(old, sampler, mask, normalise="bath")


@pytest.mark.parametrize("name", ["sequence_tis", "sequence_mis"])
def test_normalised_sequence_weights_have_mean_one_over_sequences(name):
  old, sampler, mask = _draw(4)
  ours = np.asarray(getattr(rc, name)(old, sampler, mask, normalise="batch")).max(2)
  assert abs(ours.sum() / mask.any(2).sum() - 1) < 1e-5


@pytest.mark.parametrize("name", WEIGHTS + REJECTIONS)
def test_extremes_nan_and_empty_batches_are_finite(name):
  old, sampler, mask = _draw(5)
  fn = getattr(rc, name)
  for size in (-1e6, 1e6, np.nan):
    wild = sampler.copy()
    wild[:, 0] = size
    assert np.isfinite(fn(old, wild, mask)).all()
  assert (np.asarray(fn(old, sampler, 0 * mask)) == 0).all()


@pytest.mark.parametrize("name", WEIGHTS + REJECTIONS)
def test_a_missing_sampler_counts_as_on_policy(name):
  old, sampler, mask = _draw(6)
  missing, filled = sampler.copy(), sampler.copy()
  missing[0, 0, :3], filled[0, 0, :3] = np.nan, old[0, 0, :3]
  fn = getattr(rc, name)
  np.testing.assert_array_equal(fn(old, missing, mask), fn(old, filled, mask))


@pytest.mark.parametrize("statistic", ["k1", "k2", "k3"])
@pytest.mark.parametrize("reduction", ["sum", "mean", "max"])
def test_sequences_are_rejected_whole(statistic, reduction):
  old, sampler, mask = _draw(7)
  knobs = {"statistic": statistic, "reduction": reduction, "low": 0.8, "high": 1.25}
  if statistic != "k1":
    knobs["high"] = 0.1
  keep = np.asarray(rc.reject_sequences(old, sampler, mask, **knobs))
  r = np.float64(old) - sampler
  k = {"k1": -r, "k2": r**2 / 2, "k3": np.exp(r) - 1 - r}[statistic]
  for where in np.ndindex(mask.shape[:2]):
    values = k[where][mask[where] > 0]
    if len(values) == 0:
      continue
    whole = {"sum": values.sum(), "mean": values.mean(), "max": values.max()}[reduction]
    fine = np.log(0.8) <= whole <= np.log(1.25) if statistic == "k1" else whole <= 0.1
    np.testing.assert_array_equal(keep[where], mask[where] * fine)


def test_diagnostics_on_policy_and_of_an_empty_batch():
  old, _, mask = _draw(8)
  same = rc.diagnostics(old, old, mask)
  assert same["ess"] == pytest.approx(1.0) and same["max_weight"] == 1 == same["ppl_ratio"]
  for name in ("kl", "k3_kl", "chi2_token", "chi2_seq", "log_ppl_diff"):
    assert abs(same[name]) < 1e-6, name
  empty = rc.diagnostics(old, old, 0 * mask)
  assert all(jnp.isfinite(v) for v in empty.values())


def test_effective_sample_size_and_extremes():
  old = jnp.log(jnp.asarray([[[0.9, 0.1]]]))
  ours = rc.diagnostics(old, jnp.log(jnp.full((1, 1, 2), 0.5)), jnp.ones((1, 1, 2)))
  assert ours["ess"] == pytest.approx((1.8 + 0.2) ** 2 / (2 * (1.8**2 + 0.2**2)), rel=1e-5)
  assert ours["max_weight"] == pytest.approx(1.8, rel=1e-5)
  wild = rc.diagnostics(jnp.full((1, 1, 2), -1e6), jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 2)))
  assert all(jnp.isfinite(v) for v in wild.values())
