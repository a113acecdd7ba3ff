"""GiGPO, Rank-GRPO and TreePO against definitions, the card's hand examples, and identities."""

import definitions_advantages as definitions
import numpy as np
import pytest

from jaxpref import advantages
from jaxpref.advantages import anchors, gigpo, rank_grpo, treepo

HAND = (
  np.float32([[[0, 10, 0], [0, 0, 0]]]),
  np.uint32([[[1, 2, 0], [1, 1, 2]]]),
  np.float32([[[1, 1, 0], [1, 1, 1]]]),
)


def _draw(seed, b=3, k=4, s=5, states=3):
  rng = np.random.default_rng(seed)
  mask = np.float32(np.arange(s) < rng.integers(1, s + 1, (b, k))[..., None])
  mask[1, 2] = 0
  reward = rng.integers(-4, 5, (b, k, s)).astype(np.float32) * mask
  return reward, rng.integers(0, states, (b, k, s)).astype(np.uint32), mask


@pytest.mark.parametrize("over", ["episode", "step"])
@pytest.mark.parametrize("normalise", ["mean", "std"])
def test_gigpo_equals_the_definition(normalise, over):
  knobs = {"normalise": normalise, "over": over, "gamma": 0.9, "step_weight": 0.7}
  wanted = definitions.gigpo(*_draw(0), **knobs)
  np.testing.assert_allclose(gigpo(*_draw(0), **knobs), wanted, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize(
  ("knobs", "wanted"),
  [
    ({}, ((8.3333, 10), (-6.6667, -6.6667, -10))),
    ({"over": "step"}, ((9.3333, 11), (-5.6667, -5.6667, -9))),
    (
      {"normalise": "std"},
      ((0.70711 + 1.1547, 2 * 0.70711), (-0.70711 - 0.57735, -0.70711 - 0.57735, -2 * 0.70711)),
    ),
  ],
)
def test_gigpo_hand_example(knobs, wanted):
  ours = gigpo(*HAND, gamma=0.5, **knobs)
  np.testing.assert_allclose(ours[0, 0, :2], wanted[0], atol=6e-5)
  np.testing.assert_allclose(ours[0, 1], wanted[1], atol=6e-5)
  assert ours[0, 0, 2] == 0


def test_distinct_states_give_the_episode_level_alone():
  reward, key, mask = _draw(1)
  key = np.arange(key.size, dtype=np.uint32).reshape(key.shape)
  episode = advantages.dr_grpo(reward.sum(2), np.float32(mask.any(2)))
  ours = gigpo(reward, key, mask)
  np.testing.assert_allclose(ours, np.asarray(episode)[..., None] * mask, atol=2e-6)
  np.testing.assert_array_equal(ours, gigpo(reward, key, mask, step_weight=0.0))


def test_one_step_episodes_count_both_levels_alike():
  reward = np.float32(np.random.default_rng(2).normal(size=(2, 5, 1)))
  key, one = np.zeros(reward.shape, np.uint32), np.ones_like(reward)
  wanted = 2 * (reward - reward.mean(1, keepdims=True))
  np.testing.assert_allclose(gigpo(reward, key, one), wanted, atol=2e-6)


def test_keys_may_be_renamed_and_are_not_shared_between_prompts():
  reward, key, mask = _draw(3)
  np.testing.assert_array_equal(gigpo(reward, key, mask), gigpo(reward, key * 7 + 11, mask))
  apart = key + np.arange(3, dtype=np.uint32)[:, None, None] * 100
  np.testing.assert_array_equal(gigpo(reward, key, mask), gigpo(reward, apart, mask))


def test_more_padding_of_steps_changes_nothing():
  wide = [np.pad(x, ((0, 0), (0, 0), (0, 4))) for x in _draw(4)]
  ours = np.asarray(gigpo(*wide))
  np.testing.assert_allclose(ours[..., :5], gigpo(*_draw(4)), rtol=1e-6, atol=1e-6)
  assert (ours[..., 5:] == 0).all()


def test_step_advantages_of_a_state_sum_to_zero():
  reward, key, mask = _draw(5)
  step = np.float64(gigpo(reward, key, mask)) - np.float64(
    gigpo(reward, key, mask, step_weight=0.0)
  )
  for b in range(3):
    for state in range(3):
      assert abs(step[b][(key[b] == state) & (mask[b] > 0)].sum()) < 1e-4


def test_an_episode_alone_is_zero_or_keeps_its_return():
  reward, key, mask = (x[:, :1] for x in HAND)
  np.testing.assert_array_equal(gigpo(reward, key, mask, gamma=1.0), 0.0)
  kept = gigpo(reward, key, mask, gamma=1.0, singleton="keep")
  np.testing.assert_array_equal(kept, 10 * mask)


def test_equal_returns_that_floats_cannot_hold_have_no_variance():
  reward = np.full((1, 5, 1), 0.424, np.float32)
  key, one = np.zeros(reward.shape, np.uint32), np.ones_like(reward)
  np.testing.assert_array_equal(gigpo(reward, key, one, normalise="std"), 0.0)


def test_exact_anchors():
  keys = anchors.exact(["you are at r1", "you are at r2", "you are at r1"])
  assert keys.dtype == np.uint32 and keys[0] == keys[2] != keys[1]


def test_similar_anchors_depend_on_the_first_member_and_on_the_prompt():
  texts = ["abcdefghij", "abcdefghiX", "abcdefghXX", "abcdefghij"]
  np.testing.assert_array_equal(anchors.similar(texts, [0] * 4, threshold=0.9), [0, 0, 1, 0])
  np.testing.assert_array_equal(anchors.similar(texts, [0, 0, 0, 1], threshold=0.9), [0, 0, 1, 2])


@pytest.mark.parametrize("missing", ["leave_out", "zero"])
@pytest.mark.parametrize("scale", ["std", "none"])
def test_rank_grpo_equals_the_definition(scale, missing):
  reward, _, mask = _draw(6)
  knobs = {"scale": scale, "missing": missing}
  ours, wanted = rank_grpo(reward, mask, **knobs), definitions.rank_grpo(reward, mask, **knobs)
  np.testing.assert_allclose(ours, wanted, rtol=2e-5, atol=2e-6)


def test_rank_grpo_with_equal_rewards_in_all_ranks_is_grpo():
  reward = np.float32(np.random.default_rng(7).normal(size=(2, 4, 1)))
  ranks = np.repeat(reward, 3, 2)
  one = np.ones((2, 4), np.float32)
  wanted = np.repeat(np.asarray(advantages.grpo(reward[..., 0], one, eps=1e-4))[..., None], 3, 2)
  np.testing.assert_allclose(rank_grpo(ranks, np.ones_like(ranks)), wanted, rtol=1e-5)


def test_treepo_equals_the_definition():
  rng = np.random.default_rng(8)
  reward, present = rng.normal(size=(3, 6)).astype(np.float32), np.ones((3, 6), np.float32)
  reward[0, 0], present[1, 2] = np.nan, 0
  key = np.zeros((3, 6, 3), np.uint32)
  key[..., 1], key[..., 2] = np.arange(6) // 3, np.arange(6) // 2
  mask = np.ones(key.shape, np.float32)
  mask[2, 4, 2] = 0
  ours, wanted = treepo(reward, key, mask, present), definitions.treepo(reward, key, mask, present)
  np.testing.assert_allclose(ours, wanted, rtol=2e-5, atol=2e-6)


def test_treepo_with_the_root_alone_is_the_mean_baseline_scaled():
  reward = np.float32(np.random.default_rng(9).normal(size=(2, 5)))
  key, one = np.zeros((2, 5, 1), np.uint32), np.ones((2, 5), np.float32)
  ours = np.asarray(treepo(reward, key, one[..., None], one))
  off = np.asarray(advantages.dr_grpo(reward, one))
  np.testing.assert_allclose(ours, off / off.std(ddof=1), rtol=1e-4)
