"""GiGPO and Rank-GRPO give the advantages that their authors' code gave."""

import golden_files
import golden_rl
import numpy as np
import pytest

from jaxpref.advantages import anchors, gigpo, rank_grpo
from jaxpref.advantages.rank_grpo import length_shaping
from jaxpref.advantages.returns import discounted
from jaxpref.advantages.spread import spread

NORMALISE = {"mean_norm": "mean", "mean_std_norm": "std"}
OVER = {"steps": "step", "traj": "episode"}


def _gigpo():
  """Rewards, keys and mask `[B, K, S]`, and where each row is."""
  z = golden_files.load("gigpo")
  group, place = golden_rl.places(z["group"])
  episode = np.zeros_like(place)
  for g in np.unique(group):
    episode[group == g] = golden_rl.places(z["traj"][group == g])[0]
  where = (group, episode, z["step"])
  shape = tuple(x.max() + 1 for x in where)
  reward, key, mask = np.zeros(shape, np.float32), np.zeros(shape, np.uint32), np.zeros(shape)
  reward[where], key[where], mask[where] = z["reward"], z["anchor"], 1
  return z, (reward, key, mask.astype(np.float32)), where


def _compare(z, ours, where, name):
  golden_rl.compare(np.asarray(ours)[where][:, None] * z["mask"], z[name], name, z["mask"])


def test_gigpo_inputs_are_what_the_estimator_assumes():
  z, (reward, _, mask), where = _gigpo()
  golden_rl.compare(((reward * mask).sum(2))[where[:2]], z["episode_return"], "episode_return")
  golden_rl.compare(z["token_level_rewards"].sum(1), z["episode_return"], "token_level_rewards")


@pytest.mark.parametrize(
  "case", [c for c in golden_files.covered("gigpo") if c.startswith("step_return")]
)
def test_gigpo_step_returns(case):
  z, (reward, _, mask), where = _gigpo()
  gamma = golden_files.knobs("gigpo", case)["gamma"]
  golden_rl.compare(np.asarray(discounted(reward, mask, gamma))[where], z[case], case)


@pytest.mark.parametrize("what", golden_files.outputs("gigpo", "episode_adv"))
def test_gigpo_episode_level(what):
  z, arrays, where = _gigpo()
  mode, over = what.split("__")
  knobs = {"normalise": NORMALISE[mode], "over": OVER[over]}
  ours = gigpo(*arrays, **knobs, **golden_files.knobs("gigpo", "episode_adv"))
  _compare(z, ours, where, f"episode_adv__{what}")


@pytest.mark.parametrize("mode", golden_files.outputs("gigpo", "step_adv"))
def test_gigpo_step_level(mode):
  z, arrays, where = _gigpo()
  knobs = golden_files.knobs("gigpo", "step_adv") | {"normalise": NORMALISE[mode]}
  both = [np.asarray(gigpo(*arrays, step_weight=w, **knobs), np.float64) for w in (1.0, 0.0)]
  _compare(z, both[0] - both[1], where, f"step_adv__{mode}")


@pytest.mark.parametrize("what", golden_files.outputs("gigpo", "adv"))
def test_gigpo_sum(what):
  z, arrays, where = _gigpo()
  mode, weight = what.split("__")
  knobs = {"normalise": NORMALISE[mode], "step_weight": float(weight[1:])}
  ours = gigpo(*arrays, **knobs, **golden_files.knobs("gigpo", "adv"))
  _compare(z, ours, where, f"adv__{what}")


@pytest.mark.parametrize("threshold", golden_files.outputs("gigpo", "sim_label"))
def test_gigpo_similar_anchors(threshold):
  z = golden_files.load("gigpo")
  ours = anchors.similar(z["sim_obs"].tolist(), z["sim_group"], threshold=float(threshold))
  wanted = golden_rl.places(z[f"sim_label__{threshold}"])[0]  # numbered by first appearance
  np.testing.assert_array_equal(ours, wanted)


def _ranks():
  z = golden_files.load("rank_grpo")
  # groups are contiguous blocks: the first is known to have no variance, so count by 3 prompts
  shape = (3, len(z["mask"]) // 3)
  folded = lambda x: x.reshape(*shape, *x.shape[1:])
  return z, folded


@pytest.mark.parametrize("what", golden_files.outputs("rank_grpo", "rank_adv"))
def test_rank_grpo_advantages(what):
  z, folded = _ranks()
  reward = folded(z["rank_reward"])
  scale = {"scale1": "std", "scale0": "none"}[what]
  knobs = golden_files.knobs("rank_grpo", "rank_adv") | {"scale": scale}
  ours = rank_grpo(reward, np.ones_like(reward), **knobs)
  golden_rl.compare(np.asarray(ours).reshape(z["rank_reward"].shape), z[f"rank_adv__{what}"], what)


@pytest.mark.parametrize("what", golden_files.outputs("rank_grpo", "token_adv"))
def test_rank_grpo_token_advantages(what):
  z, folded = _ranks()
  reward, mask, segment = (folded(z[k]) for k in ("rank_reward", "mask", "segment"))
  scale, shape = what.split("_")
  knobs = golden_files.knobs("rank_grpo", "token_adv")
  knobs |= {"scale": {"scale1": "std", "scale0": "none"}[scale]}
  ours = spread(rank_grpo(reward, np.ones_like(reward), **knobs), mask, segment)
  # without length shaping the last token of a list still has its advantage set to 0
  size = 0.1 if shape == "shape1" else 0.0
  ended = folded(z["terminated"])
  ours = length_shaping(ours, segment, ended, mask, ranks=reward.shape[2], size=size)
  golden_rl.compare(np.asarray(ours).reshape(z["mask"].shape), z[f"token_adv__{what}"], what)
