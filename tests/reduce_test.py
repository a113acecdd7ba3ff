"""Weights against sums by hand in float64; splitting a batch does not change a loss."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import reduce
from jaxpref.types import Refused

B, K, T = 5, 3, 6


def _batch(seed=0):
  rng = np.random.default_rng(seed)
  mask = (rng.random((B, K, T)) < 0.6).astype(np.float32)
  mask[1], mask[2, 0] = 0, 0  # an empty situation, an empty sequence
  present = np.ones((B, K), np.float32)
  present[0, 2] = 0
  weight = np.asarray([1.0, 2.0, 0.5, 0.0, 1.0], np.float32)
  return mask, present, weight, rng.normal(size=(B, K, T)).astype(np.float32)


SEGMENT = np.broadcast_to(np.asarray([0, 0, 1, 1, 1, 2]), (B, K, T))
SEGMENTS = {"segment": SEGMENT}
FIXED = ("constant", "token_sum", "sequence_sum", "sequence_sum_constant")  # the sum is not 1


def _by_hand(mode, loss, mask, present, weight, constant):
  """The definitions of the module's table, in loops."""
  top, bottom = 0.0, 0.0
  loss, mask = np.float64(loss), np.float64(mask) * np.float64(present)[..., None]
  for i in range(B):
    if mode in ("token", "example", "constant", "token_sum"):
      top += weight[i] * (loss[i] * mask[i]).sum()
      bottom += weight[i] * mask[i].sum()
    elif mode == "prompt" and mask[i].sum():
      top += weight[i] * (loss[i] * mask[i]).sum() / mask[i].sum()
      bottom += weight[i]
    elif mode == "sequence":
      for k in range(K):
        if mask[i, k].sum():
          top += weight[i] * (loss[i, k] * mask[i, k]).sum() / mask[i, k].sum()
          bottom += weight[i]
    elif mode == "segment":
      for k in range(K):
        for rows in (SEGMENT[i, k] == j for j in range(3)):
          if mask[i, k][rows].sum():
            top += weight[i] * (loss[i, k] * mask[i, k])[rows].sum() / mask[i, k][rows].sum()
            bottom += weight[i]
    elif mode in ("sequence_sum", "sequence_sum_constant"):
      top += weight[i] * (loss[i] * mask[i]).sum()
      bottom += weight[i] * (mask[i].sum(1) > 0).sum()
  bottom *= constant if mode == "sequence_sum_constant" else 1
  return top / {"constant": constant, "token_sum": 1.0}.get(mode, bottom)


@pytest.mark.parametrize("mode", reduce.MODES)
def test_token_losses_equal_the_sums_by_hand(mode):
  mask, present, weight, loss = _batch()
  w = reduce.weights(
    mode, 3, mask=mask, present=present, weight=weight, constant=7.0, segment=SEGMENT
  )
  assert w.shape == loss.shape
  wanted = _by_hand(mode, loss, mask, present, weight, 7.0)
  np.testing.assert_allclose((np.asarray(w) * loss).sum(), wanted, rtol=1e-5)
  if mode not in FIXED:
    np.testing.assert_allclose(w.sum(), 1.0, rtol=1e-6)


def test_example_losses_are_the_weighted_mean():
  _, _, weight, loss = _batch()
  w = reduce.weights("example", 1, weight=weight)
  wanted = np.average(np.float64(loss[:, 0, 0]), weights=weight)
  np.testing.assert_allclose((w * loss[:, 0, 0]).sum(), wanted, rtol=1e-5)


def test_candidate_losses_are_the_weighted_mean_over_those_present():
  _, present, weight, loss = _batch()
  w = reduce.weights("example", 2, present=present, weight=weight)
  wanted = np.average(np.float64(loss[..., 0]), weights=present * weight[:, None])
  np.testing.assert_allclose((w * loss[..., 0]).sum(), wanted, rtol=1e-5)


def test_constant_divides_whatever_counts():
  _, present, weight, _ = _batch()
  np.testing.assert_allclose(reduce.weights("constant", 1, weight=weight, constant=4.0), weight / 4)
  w = reduce.weights("constant", 2, present=present, constant=2.0)
  np.testing.assert_allclose(w, present / 2)


@pytest.mark.parametrize("mode", reduce.MODES)
def test_what_does_not_count_has_weight_zero(mode):
  mask, present, weight, _ = _batch()
  w = reduce.weights(
    mode, 3, mask=mask, present=present, weight=weight, constant=3.0, segment=SEGMENT
  )
  dead = (mask == 0) | (present[..., None] == 0) | (weight[:, None, None] == 0)
  np.testing.assert_array_equal(np.asarray(w)[dead], 0.0)
  assert (np.asarray(w)[~dead] > 0).all()


@pytest.mark.parametrize("mode", reduce.MODES)
def test_a_batch_in_which_nothing_counts_has_weights_zero_not_nan(mode):
  more = {"constant": 3.0, "segment": SEGMENT}
  w = reduce.weights(mode, 3, mask=jnp.zeros((B, K, T)), weight=jnp.ones(B), **more)
  np.testing.assert_array_equal(w, 0.0)
  w = reduce.weights(mode, 3, mask=jnp.ones((B, K, T)), weight=jnp.zeros(B), **more)
  np.testing.assert_array_equal(w, 0.0)


@pytest.mark.parametrize("mode", reduce.MODES)
def test_splitting_the_batch_into_micro_batches_does_not_change_the_loss(mode):
  mask, present, weight, loss = _batch()
  w = reduce.weights(
    mode, 3, mask=mask, present=present, weight=weight, constant=3.0, segment=SEGMENT
  )
  whole = float((w * loss).sum())
  for parts in ([[0, 1], [2, 3, 4]], [[0], [1], [2], [3], [4]]):
    split = sum(float((w[np.asarray(p)] * loss[np.asarray(p)]).sum()) for p in parts)
    np.testing.assert_allclose(split, whole, rtol=1e-5)
  # the mean of micro-batch means is another number: the mistake that this design excludes
  if mode == "token":
    means = [
      float((reduce.weights(mode, 3, mask=mask[s], weight=weight[s]) * loss[s]).sum())
      for s in (slice(0, 2), slice(2, 5))
    ]
    assert abs(np.mean(means) - whole) > 1e-3


@pytest.mark.parametrize("mode", [m for m in reduce.MODES if m not in ("constant", "token_sum")])
def test_doubling_every_weight_changes_nothing(mode):
  mask, present, weight, _ = _batch()
  rows = {"mask": mask, "present": present, "constant": 3.0, "segment": SEGMENT}
  one = reduce.weights(mode, 3, weight=weight, **rows)
  two = reduce.weights(mode, 3, weight=2 * weight, **rows)
  np.testing.assert_allclose(one, two, rtol=1e-6)


def test_rows_that_only_fill_the_batch_change_nothing():
  mask, present, weight, loss = _batch()
  for mode in reduce.MODES:
    rows = {"mask": mask, "present": present, "weight": weight, "segment": SEGMENT}
    filled = {k: np.concatenate([v, np.ones_like(v[:2])]) for k, v in rows.items()}
    filled["weight"][B:] = 0
    one = reduce.weights(mode, 3, constant=2.0, **rows)
    two = reduce.weights(mode, 3, constant=2.0, **filled)
    np.testing.assert_allclose(two[:B], one, rtol=1e-6)
    np.testing.assert_array_equal(two[B:], 0.0)


def test_default_is_the_mean_over_tokens_where_there_are_tokens():
  assert [reduce.default_mode(rank) for rank in (1, 2, 3)] == ["example", "example", "token"]


@pytest.mark.parametrize(
  ("mode", "rank", "sentence"),
  [
    ("tokens", 3, r"no mode 'tokens'. Did you mean 'token'\?"),
    ("token", 1, "one number per example; use 'example' or 'constant'"),
    ("sequence", 2, "one number per candidate"),
    ("constant", 1, "needs reduce_constant > 0"),
    ("sequence_sum_constant", 3, "reduce='sequence_sum_constant' needs reduce_constant > 0"),
    ("sequence_sum", 1, "one number per example"),
    ("segment", 3, "reduce='segment' needs segment"),
  ],
)
def test_modes_that_do_not_fit_are_refused(mode, rank, sentence):
  with pytest.raises(Refused, match=sentence):
    reduce.weights(mode, rank, mask=jnp.ones((B, K, T)), weight=jnp.ones(B))


def _token_weights(mode, mask, **more):
  return np.asarray(reduce.weights(mode, 3, mask=mask, weight=jnp.ones(B), **more))


@pytest.mark.parametrize("mode", reduce.MODES)
def test_keep_changes_the_numerator_and_not_what_it_is_divided_by(mode):
  mask, _, _, _ = _batch()
  more = {"constant": 3.0, "segment": SEGMENT}
  keep = np.random.default_rng(1).gamma(2.0, 1.0, mask.shape).astype(np.float32)
  keep[3] = 0
  wanted = _token_weights(mode, mask, **more) * keep
  np.testing.assert_allclose(_token_weights(mode, mask, keep=keep, **more), wanted, rtol=1e-6)


@pytest.mark.parametrize("mode", ["token", "sequence", "sequence_sum", "segment", "prompt"])
def test_a_masked_row_leaves_numerator_and_denominator_a_row_not_kept_only_the_numerator(mode):
  mask = np.ones((B, K, T), np.float32)
  masked, keep = mask.copy(), mask.copy()
  masked[3], keep[3] = 0, 0
  full = _token_weights(mode, mask, segment=SEGMENT)
  left = _token_weights(mode, masked, segment=SEGMENT)
  np.testing.assert_allclose(left.sum(), full.sum(), rtol=1e-6)
  kept = _token_weights(mode, mask, segment=SEGMENT, keep=keep)
  np.testing.assert_allclose(kept.sum(), full.sum() * (B - 1) / B, rtol=1e-6)


def test_equal_lengths_make_token_and_sequence_means_equal_and_sums_their_multiple():
  mask = np.ones((B, K, T), np.float32)
  token = _token_weights("token", mask)
  np.testing.assert_allclose(_token_weights("sequence", mask), token, rtol=1e-6)
  np.testing.assert_allclose(_token_weights("sequence_sum", mask) / T, token, rtol=1e-6)
  norm = _token_weights("sequence_sum_constant", mask, constant=float(T))
  np.testing.assert_allclose(norm, token, rtol=1e-6)


def test_splitting_a_segment_into_more_tokens_does_not_change_the_weight_of_its_mean():
  mask = np.ones((1, 1, T), np.float32)
  for segment in ([0, 0, 0, 0, 0, 1], [0, 1, 1, 1, 1, 1]):
    rows = np.asarray(segment)
    w = np.asarray(reduce.weights("segment", 3, mask=mask, segment=rows[None, None]))[0, 0]
    np.testing.assert_allclose([w[rows == 0].sum(), w[rows == 1].sum()], 0.5, rtol=1e-6)


def test_tokens_outside_every_segment_have_no_weight_in_mode_segment():
  segment = np.asarray([[[0, 0, -1, -1, 1, 1]]])
  w = reduce.weights("segment", 3, mask=np.ones((1, 1, T), np.float32), segment=segment)
  np.testing.assert_allclose(w[0, 0], [0.25, 0.25, 0, 0, 0.25, 0.25])


def test_keep_has_no_place_in_a_loss_without_tokens():
  with pytest.raises(Refused, match="keep has one number per token"):
    reduce.weights("example", 1, weight=jnp.ones(B), keep=jnp.ones((B, K, T)))
