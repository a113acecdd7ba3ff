"""Our selections are those that other implementations, or a brute force, gave."""

import golden_files
import golden_rl
import numpy as np
import pytest

from jaxpref import advantages, selectors

CASES = golden_files.covered("d3s")


def _of(fn):
  return [c for c in CASES if golden_files.parameters("d3s")[c]["fn"] == fn]


@pytest.mark.parametrize("case", _of("down_sampling"))
def test_down_sampling_and_the_advantages_of_what_is_kept(case):
  out = golden_files.outputs("d3s", case)
  reward = out["reward"][None]
  keep = np.asarray(selectors.down_sampling(reward, np.ones_like(reward), count=int(out["m"])))[0]
  values = out["reward"][keep > 0]
  golden_rl.compare(np.sort(values), np.sort(out["value"]), f"{case}:value")
  golden_rl.compare(np.float64(values).var(ddof=1), out["var"], f"{case}:var")
  golden_rl.compare(np.float64(values).var(ddof=1), out["bruteforce_var"], f"{case}:bruteforce")
  ours = advantages.grpo(reward, keep[None], eps=1e-4)[0]
  # ties fall differently, so advantages are compared in the order of the rewards
  order = np.argsort(values, kind="stable")
  wanted = out["adv"][np.argsort(out["reward"][out["index"]], kind="stable")]
  golden_rl.compare(np.asarray(ours)[keep > 0][order], wanted, f"{case}:adv")


@pytest.mark.parametrize("case", _of("d3s_rollouts"))
def test_rollouts_of_the_batch(case):
  out = golden_files.outputs("d3s", case)
  advantage = np.float32(out["advantage"])
  golden_rl.compare(
    advantages.grpo(np.float32(out["reward"]), np.ones_like(advantage)), advantage, case
  )
  share = int(out["n"]) / advantage.size
  knobs = golden_files.knobs("d3s", case) | {"keep_from": share, "keep_to": 1.0}
  keep = np.asarray(selectors.d3s_rollouts(advantage, np.ones_like(advantage), 0.0, **knobs))
  values = np.sort(out["advantage"][keep > 0])
  golden_rl.compare(values, np.sort(out["value"]), f"{case}:value")
  golden_rl.compare(values.var(ddof=1), out["var"], f"{case}:var")


@pytest.mark.parametrize("case", _of("d3s_tokens"))
def test_tokens_of_the_batch(case):
  out = golden_files.outputs("d3s", case)
  entropy, mask = (np.float32(out[k])[None] for k in ("entropy", "mask"))
  advantage = np.broadcast_to(np.float32(out["advantage"])[None, :, None], mask.shape)
  fraction = float(out["fraction"])
  knobs = golden_files.knobs("d3s", case) | {"keep_from": fraction, "keep_to": 1.0}
  keep = np.asarray(selectors.d3s_tokens(advantage, entropy, mask, 0.0, **knobs))[0]
  golden_rl.compare((np.abs(advantage) * entropy * mask)[0], out["key"], f"{case}:key")
  kept = out["key"][keep > 0]
  golden_rl.compare(np.sort(kept), np.sort(out["kept_keys"]), f"{case}:kept_keys")
  tied = np.isin(out["key"], out["kept_keys"].min())
  golden_rl.compare(keep, out["keep"], f"{case}:keep", ~tied)


@pytest.mark.parametrize("case", golden_rl.cases("rl_misc", "selectors"))
def test_masks_of_off_policy_tokens(case):
  z, row = golden_files.load("rl_misc"), golden_files.parameters("rl_misc")[case]
  if row["fn"] == "m2po":
    moved = np.sqrt(z["m2po_sorted"])[None, None]
    arrays = {"token_logp": moved, "old_token_logp": 0 * moved, "mask": np.ones_like(moved)}
    return golden_rl.compare(golden_rl.apply(row, arrays)[0, 0], z[case], case)
  one = lambda x: x[:, None]
  arrays = {"advantage": one(z["adv"]), "old_token_logp": one(z["old_logp"])}
  arrays |= {"token_logp": one(z["logp"]), "mask": one(z["mask"])}
  golden_rl.compare(golden_rl.apply(row, arrays)[:, 0], z[case], case, z["mask"])
