"""Device rewards: worked values, and nan stays nan."""

import numpy as np
import pytest

from jaxpref import rewards
from jaxpref.types import Refused


def test_worked_values_of_the_overlong_penalty():
  mask = np.float32(np.arange(110) < np.asarray([[80], [90], [100], [110]]))[None]
  ours = rewards.overlong_penalty(np.zeros((1, 4)), mask, longest=100, buffer=20)
  np.testing.assert_allclose(ours[0], (0.0, -0.5, -1.0, -1.5))
  with pytest.raises(Refused, match="overlong_penalty needs buffer > 0"):
    rewards.overlong_penalty(np.zeros((1, 4)), mask, buffer=0)


def test_stop_penalty_scales_or_replaces():
  reward, ended = np.float32([[2.0, 2.0, np.nan]]), np.float32([[1.0, 0.0, 0.0]])
  np.testing.assert_array_equal(rewards.stop_penalty(reward, ended), [[2.0, 1.0, np.nan]])
  ours = rewards.stop_penalty(reward, ended, coefficient=-1.0)
  np.testing.assert_array_equal(ours, [[2.0, -1.0, np.nan]])


def test_scale_and_clip():
  reward = np.float32([[2.0, -3.0, np.nan]])
  np.testing.assert_array_equal(rewards.scaled(reward, bias=1.0, scale=2.0), [[6, -4, np.nan]])
  np.testing.assert_array_equal(rewards.clipped(reward, low=-1.0, high=1.5), [[1.5, -1, np.nan]])


def test_the_outcome_stands_on_the_last_counted_token():
  mask = np.float32([[[1, 1, 0, 1, 0], [0, 0, 0, 0, 0]]])
  ours = rewards.at_end(np.float32([[2.0, 3.0]]), mask)
  np.testing.assert_array_equal(ours, [[[0, 0, 0, 2, 0], [0] * 5]])


def test_a_sum_leaves_missing_parts_out():
  parts = np.float32([[[1, np.nan], [np.nan, np.nan], [1, 1]]])
  ours = rewards.weighted_sum(parts, np.float32([[2.0, 3.0]]))
  np.testing.assert_array_equal(ours, [[2.0, np.nan, 5.0]])


def test_the_distance_is_taken_off_counted_tokens():
  mask = np.float32([[[1, 0]]])
  one = np.ones((1, 1, 2), np.float32)
  ours = rewards.minus_kl(one, -one, -2 * one, mask, beta=0.5, kind="k2")
  np.testing.assert_array_equal(ours, [[[0.75, 0.0]]])
