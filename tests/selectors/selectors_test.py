"""Selectors against brute force, worked values and degenerate batches."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, selectors
from jaxpref.selectors.extremes import extremes
from jaxpref.types import Refused

CARD = np.float32([1.5, 0.5, -0.5, -0.5, -1.0])


def _best(x, count):
  return max(np.var(x[list(s)], ddof=1) for s in itertools.combinations(range(len(x)), count))


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_extremes_have_the_largest_variance_of_all_subsets(count):
  for seed in range(4):
    x = np.random.default_rng(seed).normal(size=8).astype(np.float32)
    keep = np.asarray(extremes(x, np.ones(8), count))
    assert keep.sum() == count
    np.testing.assert_allclose(np.var(x[keep > 0], ddof=1), _best(x, count), rtol=1e-4)


def test_worked_values_of_the_card():
  keep = np.asarray(extremes(CARD, np.ones(5), 2)) > 0
  np.testing.assert_array_equal(CARD[keep], [1.5, -1.0])
  keep = np.asarray(extremes(CARD, np.ones(5), 3)) > 0
  np.testing.assert_allclose(np.var(CARD[keep], ddof=1), 1.75)


def test_shift_and_scale_keep_the_subset_and_negation_mirrors_it():
  x = np.random.default_rng(5).normal(size=9).astype(np.float32)
  keep = extremes(x, np.ones(9), 4)
  np.testing.assert_array_equal(keep, extremes(3 * x + 2, np.ones(9), 4))
  np.testing.assert_array_equal(keep, extremes(-x, np.ones(9), 4))


def test_invalid_numbers_are_never_kept_and_change_nothing():
  x = np.float32([9.0, *CARD, -9.0])
  valid = np.float32([0, 1, 1, 1, 1, 1, 0])
  for count in range(6):
    ours = np.asarray(extremes(x, valid, count))
    assert ours[0] == ours[-1] == 0 and ours.sum() == count
    np.testing.assert_array_equal(ours[1:-1], extremes(CARD, np.ones(5), count))


def _advantages():
  return jnp.asarray(np.random.default_rng(6).normal(size=(4, 6)), jnp.float32), jnp.ones((4, 6))


def test_d3s_with_all_kept_is_no_selection():
  a, present = _advantages()
  np.testing.assert_array_equal(selectors.d3s_rollouts(a, present, 0.0, keep_from=1.0), 1.0)
  tokens, mask = (
    jnp.ones((2, 2, 3)),
    jnp.asarray(np.arange(12).reshape(2, 2, 3) % 4 > 0, jnp.float32),
  )
  np.testing.assert_array_equal(selectors.d3s_tokens(tokens, tokens, mask, 1.0), mask)


def test_d3s_keeps_more_and_more():
  a, present = _advantages()
  kept = [float(selectors.d3s_rollouts(a, present, p).sum()) for p in (0.0, 0.3, 0.6, 1.0)]
  assert kept[0] == 6 and kept[-1] == 24 and kept == sorted(kept)


def test_d3s_within_prompts_keeps_as_many_of_each():
  a, present = _advantages()
  keep = selectors.d3s_rollouts(a, present, 0.0, keep_from=0.5, across="prompt")
  np.testing.assert_array_equal(keep.sum(1), 3)


def test_d3s_takes_groups_without_variance_last():
  a = jnp.concatenate([jnp.zeros((1, 4)), jnp.asarray([[1.5, -0.5, -0.5, -0.5]])])
  keep = selectors.d3s_rollouts(a, jnp.ones((2, 4)), 0.0, keep_from=0.5)
  assert keep[1].sum() == 4 or float(a[keep > 0].var()) >= float(a[1].var())


def test_d3s_tokens_of_equal_advantage_are_those_of_highest_entropy():
  entropy = jnp.asarray(np.random.default_rng(7).gamma(2.0, 1.0, (2, 3, 5)), jnp.float32)
  mask = jnp.ones_like(entropy).at[0, 0].set(0)
  keep = selectors.d3s_tokens(jnp.ones_like(entropy), entropy, mask, 0.0, keep_from=0.2)
  assert keep.sum() == 5 and (keep[0, 0] == 0).all()
  assert entropy[keep > 0].min() >= jnp.where((mask > 0) & (keep == 0), entropy, 0).max()
  apart = selectors.d3s_tokens(jnp.ones_like(entropy), entropy, mask, 0.0, across="response")
  np.testing.assert_array_equal(apart.sum(2), mask[..., 0])


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 1.0])
def test_top_entropy_is_numpys_quantile(share):
  rng = np.random.default_rng(8)
  entropy = rng.gamma(2.0, 1.0, (3, 2, 9)).astype(np.float32)
  mask = (rng.random(entropy.shape) < 0.6).astype(np.float32)
  bound = np.quantile(entropy[mask > 0], 1 - share)
  wanted = (mask > 0) & (entropy >= bound * (1 - 1e-6))
  np.testing.assert_array_equal(selectors.top_entropy(entropy, mask, share=share), wanted)


def test_dynamic_sampling_drops_groups_without_variance():
  reward = np.float32([[1, 0, 1], [0.424] * 3, [1e4] * 3, [np.nan, 1, 1], [0, 1, np.nan]])
  present = np.ones_like(reward)
  keep = selectors.dynamic_sampling(reward, present)
  np.testing.assert_array_equal(keep, [[1, 1, 1], [0] * 3, [0] * 3, [0] * 3, [1, 1, 0]])
  assert (np.asarray(selectors.dynamic_sampling(reward[:, :1], present[:, :1])) == 0).all()
  assert (np.asarray(selectors.dynamic_sampling(reward, present, threshold=2.0)) == 0).all()


def test_down_sampling_keeps_all_of_a_small_group():
  reward, present = np.float32([[1.0, 0.0, 5.0]]), np.float32([[1, 1, 0]])
  np.testing.assert_array_equal(selectors.down_sampling(reward, present, count=4), present)


def test_opsm_drops_bad_tokens_of_sequences_that_were_left():
  one = np.ones((1, 4, 2), np.float32)
  advantage = one * np.float32([1, -1, -1, -1])[:, None]
  moved = np.float32([0.5, 0.5, 0.01, 0.5])[:, None] * one
  mask = one.copy()
  mask[0, 3] = 0
  keep = selectors.opsm(advantage, moved, 0 * one, mask)
  np.testing.assert_array_equal(keep[0, :, 0], [1, 0, 1, 0])


@pytest.mark.parametrize("threshold", [1e-9, 0.05, 0.3, 1e9])
def test_m2po_drops_the_fewest_tokens(threshold):
  rng = np.random.default_rng(9)
  moved = rng.normal(0, 0.7, (2, 3, 5)).astype(np.float32)
  mask = (rng.random(moved.shape) < 0.7).astype(np.float32)
  keep = np.asarray(selectors.m2po(moved, 0 * moved, mask, threshold=threshold))
  square = np.sort((np.float64(moved) ** 2)[mask > 0])[::-1]
  fine = [k for k in range(len(square)) if square[k:].mean() < threshold]
  assert keep.sum() == (len(square) - fine[0] if fine else 1)
  assert (moved[keep > 0] ** 2).max() <= square[len(square) - int(keep.sum())] + 1e-7
  assert (keep <= mask).all()


ALL = sorted(selectors.__all__)


@pytest.mark.parametrize("name", ALL)
def test_values_are_zeros_and_ones_for_empty_batches_too_and_jit_equals_eager(name):
  fn = getattr(selectors, name)
  for alive in (1.0, 0.0):
    arrays = []
    for array in call.needs(fn):
      rng = np.random.default_rng([3, *array.encode()])
      tokens = array in ("mask", "old_entropy", "entropy", "token_logp", "old_token_logp")
      wide = tokens or (array == "advantage" and name in ("d3s_tokens", "opsm"))
      x = rng.normal(size=(2, 3, 4) if wide else (2, 3)).astype(np.float32)
      x = np.full_like(x, alive) if array in ("mask", "present") else x
      arrays.append(jnp.float32(0.5) if array == "progress" else jnp.asarray(x))
    keep = fn(*arrays)
    assert set(np.unique(keep)) <= {0.0, 1.0} and keep.dtype == jnp.float32
    assert alive or keep.sum() == 0
    np.testing.assert_array_equal(jax.jit(fn)(*arrays), keep)


def test_wrong_knobs_are_refused():
  with pytest.raises(Refused, match="down_sampling needs count > 0; it is 0"):
    selectors.down_sampling(np.ones((1, 2)), np.ones((1, 2)), count=0)
  with pytest.raises(Refused, match="d3s_rollouts has no across='bach'. Did you mean 'batch'"):
    selectors.d3s_rollouts(np.ones((1, 2)), np.ones((1, 2)), 0.0, across="bach")
