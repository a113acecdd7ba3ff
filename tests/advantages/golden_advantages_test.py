"""Our advantages are those that other implementations gave."""

import golden_files
import golden_rl
import numpy as np
import pytest

from jaxpref import rewards
from jaxpref.advantages import whiten
from jaxpref.advantages.spread import spread

ROOM = "advantages"


def _row(file, case):
  return golden_files.parameters(file)[case] | {"knobs": golden_files.knobs(file, case)}


def _check(file, case, row, arrays, index, mask, folded_mask):
  """Compares `adv` (or the lone array) and what `then` names, over the mask where per token."""
  wanted = golden_files.outputs(file, case)
  ours = {"adv": golden_rl.apply(row, arrays)}
  for what, other in row.get("then", {}).items():
    if other.get("plus"):
      ours[what] = ours["adv"] + arrays["value"]
    else:
      ours[what] = golden_rl.apply({"room": ROOM} | other, arrays)
  assert set(wanted) in ({"value"}, set(ours)), f"{file}:{case} holds {set(wanted)}"
  for what, array in wanted.items():
    got = ours["adv" if what == "value" else what]
    if got.ndim == 2 and array.ndim == 2:
      got = spread(got, folded_mask, None)
    rows = golden_rl.unfold(got, index)
    golden_rl.compare(rows, array, f"{file}:{case}:{what}", mask if rows.ndim == 2 else 1.0)


def _verl(z, row):
  """Arrays by vocabulary name, the index of groups and the mask of rows."""
  mask = z[row.get("reads", {}).get("mask", "mask")]
  rows = np.arange(len(mask))
  index = rows if row.get("rows") else rows % row["prompts"] if "prompts" in row else z["index"]
  reads = {"token_reward": "reward"} | row.get("reads", {})
  fold = lambda x: golden_rl.fold(x, index)
  parts = np.stack([z["gdpo_r1"], z["gdpo_r2"]], -1)
  present = fold(np.ones(len(mask)))
  return {
    "reward": fold((z[reads.get("reward", "reward")] * z["mask"]).sum(1)),
    "token_reward": fold(z[reads["token_reward"]]),
    "value": fold(z["values"]),
    "old_token_logp": fold(z["old_logp"]),
    "old_collision": fold(np.log(z["sum_pi_squared"])),
    "rollout_weight": fold(z["is_weights"]),
    "greedy_reward": fold(z["reward_baselines"])[:, 0],
    "reward_parts": fold(parts),
    "part_weight": np.tile(np.float32(row.get("weights", [1.0, 1.0])), (len(present), 1)),
    "mask": fold(mask),
    "present": present,
  }, (index, mask)


@pytest.mark.parametrize("case", golden_rl.cases("verl_advantages", ROOM))
def test_verl_advantages(case):
  z, row = golden_files.load("verl_advantages"), _row("verl_advantages", case)
  arrays, (index, mask) = _verl(z, row)
  _check("verl_advantages", case, row, arrays, index, mask, arrays["mask"])


@pytest.mark.parametrize("case", ["masked_whiten", "masked_whiten_noshift"])
def test_verl_whitening(case):
  z = golden_files.load("verl_advantages")
  x, mask = z["reward_dense"], z["mask"]
  ours = whiten.tokens(x, mask)
  if case.endswith("noshift"):
    ours = ours + (x * mask).sum() / mask.sum()
  golden_rl.compare(ours, z[case], case, mask)


@pytest.mark.parametrize("case", ["masked_mean", "masked_var"])
def test_verl_moments(case):
  z = golden_files.load("verl_advantages")
  fn = golden_rl.find(_row("verl_advantages", case))
  x, mask = z["reward_dense"], z["mask"]
  ours = fn(x, mask) if case == "masked_mean" else fn(x, mask, axis=None)[1] ** 2
  golden_rl.compare(np.squeeze(ours), z[case], case)


@pytest.mark.parametrize("case", golden_rl.cases("trl_group_advantages", ROOM))
def test_trl_group_advantages(case):
  z, row = golden_files.load("trl_group_advantages"), _row("trl_group_advantages", case)
  parts = z[row["parts"]]
  index = np.arange(len(parts)) // int(z["num_generations"])
  weight = z["weights2"] if parts.shape[1] > 1 else np.ones(1)
  folded = golden_rl.fold(parts, index)
  weights = np.tile(np.float32(weight), (len(folded), 1))
  reward = rewards.weighted_sum(folded, weights)
  if "clip" in row:
    reward = rewards.clipped(reward, low=row["clip"][0], high=row["clip"][1])
  present = np.ones(reward.shape, np.float32)
  arrays = {"reward": reward, "reward_parts": folded, "part_weight": weights}
  ours = golden_rl.apply(row, arrays | {"present": present, "mask": present[..., None]})
  golden_rl.compare(golden_rl.unfold(ours, index).reshape(-1), z[case], case)


def _misc(z, row):
  reads = {"token_reward": "dense_reward", "mask": "mask"} | row.get("reads", {})
  index = z["nemo_prompt"] if row["fn"] not in ("gae", "gae_packed") else np.arange(len(z["mask"]))
  mask = np.ones_like(z["mask"]) if reads["mask"] == "ones" else z[reads["mask"]]
  fold = lambda x: golden_rl.fold(x, index)
  reward = fold(z["nemo_reward"])
  token_reward = z[reads["token_reward"]]
  token_reward = (
    fold(token_reward)
    if token_reward.ndim == 2
    else np.asarray(rewards.at_end(fold(token_reward), fold(mask)))
  )
  return {
    "reward": reward,
    "reward_parts": fold(np.stack([z["nemo_reward"], z["nemo_reward_b"]], -1)),
    "part_weight": np.tile(np.float32(row.get("weights", [1.0, 1.0])), (len(reward), 1)),
    "token_reward": token_reward,
    "value": fold(z["values"]),
    "done": fold(z["oi_dones"]),
    "old_token_logp": fold(z["logp"]),
    "ref_token_logp": fold(z["ref_logp"]),
    "mask": fold(mask),
    "present": fold(np.ones(len(mask))),
  }, (index, mask)


MISC = [c for c in golden_rl.cases("rl_misc", ROOM) if not c.startswith("passk_")]


@pytest.mark.parametrize("case", MISC)
def test_rl_misc(case):
  z, row = golden_files.load("rl_misc"), _row("rl_misc", case)
  arrays, (index, mask) = _misc(z, row)
  _check("rl_misc", case, row, arrays, index, mask, arrays["mask"])


@pytest.mark.parametrize("case", sorted(set(golden_rl.cases("rl_misc", ROOM)) - set(MISC)))
def test_pass_at_k(case):
  row, wanted = _row("rl_misc", case), golden_files.outputs("rl_misc", case)["value"]
  reward = (np.arange(wanted.size) < row["correct"]).astype(np.float32)[None]
  ours = golden_rl.apply(row, {"reward": reward, "present": np.ones_like(reward)})
  golden_rl.compare(ours[0], wanted, case)


@pytest.mark.parametrize("case", golden_rl.cases("tunix_rl", ROOM))
def test_tunix_rl(case):
  z, row = golden_files.load("tunix_rl"), _row("tunix_rl", case)
  if case.startswith("gae"):
    index, mask = np.arange(len(z["mask"])), z[row["reads"]["mask"]]
    fold = lambda x: golden_rl.fold(x, index)
    arrays = {"token_reward": fold(z["rewards"]), "value": fold(z["values"]), "mask": fold(mask)}
    return _check("tunix_rl", case, row, arrays, index, mask, arrays["mask"])
  reward = z["group_rewards"].reshape(3, -1)
  ours = golden_rl.apply(row, {"reward": reward, "present": np.ones_like(reward)})
  golden_rl.compare(np.ravel(ours), z[case], case)


@pytest.mark.parametrize("case", golden_rl.cases("rlax_returns", ROOM))
def test_rlax_returns(case):
  z, row = golden_files.load("rlax_returns"), _row("rlax_returns", case)
  one = lambda x: np.float32(x)[None, None]
  # the value behind the last step is the reward of one more step
  arrays = {
    "token_reward": one([*z["r"], z["v"][-1]]),
    "value": one(z["v"]),
    "done": one([*(z["discount"] == 0), 1.0]),
    "old_token_logp": one([*np.log(z["rho"]), 0.0]),
    "sampler_token_logp": one(np.zeros_like(z["v"])),
    "mask": one(np.ones_like(z["v"])),
  }
  knobs = row["knobs"] | {"gamma": float(z["discount"].max())}
  ours = np.asarray(golden_rl.apply(row | {"knobs": knobs}, arrays))[0, 0, :-1]
  ours = ours / np.minimum(z["rho"], knobs["cap"]) if "over" in row else ours
  ours = ours + z["v"][:-1] if "plus" in row else ours
  golden_rl.compare(ours, z[case], case)
