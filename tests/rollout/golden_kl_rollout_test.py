"""KL estimates, rollout correction and token rewards are those that other implementations gave."""

import golden_files
import golden_rl
import jax
import numpy as np
import pytest

from jaxpref import kl


def _row(file, case):
  return golden_files.parameters(file)[case] | {"knobs": golden_files.knobs(file, case)}


@pytest.mark.parametrize("case", golden_rl.cases("verl_kl_rollout", "kl"))
def test_verl_kl(case):
  z, row = golden_files.load("verl_kl_rollout"), _row("verl_kl_rollout", case)
  fn = lambda x: golden_rl.find(row)(x, z["ref_logp"], **row["knobs"])
  golden_rl.compare(fn(z["logp"]), z[case], case)
  grad = jax.grad(lambda x: fn(x).sum())(z["logp"])
  np.testing.assert_allclose(grad, z[f"{case}__grad"], rtol=1e-4, atol=2e-6)


def _three(z, file):
  """Token arrays as `[N, 1, T]`, by vocabulary name."""
  one = lambda x: np.asarray(x)[:, None]
  if file == "verl_kl_rollout":
    return {
      "token_reward": one(z["scores"]),
      "old_token_logp": one(z["logp"]),
      "ref_token_logp": one(z["ref_logp"]),
      "sampler_token_logp": one(z["rollout_logp"]),
      "mask": one(z["mask"]),
    }
  return {"old_token_logp": one(z["logp"]), "ref_token_logp": one(z["ref_logp"])} | {
    "mask": one(z["mask"])
  }


def test_verl_rewards_minus_kl():
  z, row = golden_files.load("verl_kl_rollout"), _row("verl_kl_rollout", "rewards_klpen")
  ours = golden_rl.apply(row, _three(z, "verl_kl_rollout"))[:, 0]
  golden_rl.compare(ours, z["rewards_klpen"], "rewards_klpen", z["mask"])


def test_openrlhf_rewards_minus_kl():
  z, row = golden_files.load("rl_misc"), _row("rl_misc", "orlhf_compute_reward")
  arrays = _three(z, "rl_misc")
  from jaxpref.rewards import at_end

  arrays["token_reward"] = at_end(z["seq_reward"][:, None], arrays["mask"])
  ours = golden_rl.apply(row, arrays)[:, 0]
  golden_rl.compare(ours, z["orlhf_compute_reward"], "orlhf_compute_reward", z["mask"])


def test_adaptive_kl_trace():
  z, row = golden_files.load("verl_kl_rollout"), _row("verl_kl_rollout", "adaptive_kl_trace")
  beta, trace = row["start"], []
  for measured in row["measured"]:
    beta = golden_rl.find(row)(beta, measured, row["count"], **row["knobs"])
    trace.append(beta)
  golden_rl.compare(trace, z["adaptive_kl_trace"], "adaptive_kl_trace")


CORRECTION = golden_rl.cases("verl_kl_rollout", "rollout_correction")


@pytest.mark.parametrize("case", [c for c in CORRECTION if not c.startswith("metric")])
def test_verl_weights_and_rejections(case):
  z, row = golden_files.load("verl_kl_rollout"), _row("verl_kl_rollout", case)
  ratio = z["log_ratio"][:, None]
  arrays = {"old_token_logp": ratio, "sampler_token_logp": np.zeros_like(ratio)}
  ours = golden_rl.apply(row, arrays | {"mask": z["mask"][:, None]})[:, 0]
  golden_rl.compare(ours, z[case], case, z["mask"])


@pytest.mark.parametrize("case", [c for c in CORRECTION if c.startswith("metric")])
def test_verl_diagnostics(case):
  z, row = golden_files.load("verl_kl_rollout"), _row("verl_kl_rollout", case)
  ours = golden_rl.apply(row, _three(z, "verl_kl_rollout"))[row["metric"]]
  golden_rl.compare(ours, z[case], case)


@pytest.mark.parametrize("case", [c for c in golden_rl.cases("rl_misc", "kl") if c != "oi_kl4"])
def test_openrlhf_and_slime_kl(case):
  z, row = golden_files.load("rl_misc"), _row("rl_misc", case)
  ours = golden_rl.find(row)(z["logp"], z["ref_logp"], **row["knobs"])
  if row.get("ratio"):
    ours = kl.ratio_corrected(ours, z["logp"], z["old_logp"])
  golden_rl.compare(ours, z[case], case)


def test_open_instruct_kl():
  z = golden_files.load("rl_misc")
  x, ref = z["logp"], z["ref_logp"]
  ratio_k1 = kl.ratio_corrected(kl.k1(x, ref), x, z["old_logp"])
  for i, ours in enumerate((kl.k1(x, ref), kl.k2(x, ref), kl.k3(x, ref), ratio_k1)):
    golden_rl.compare(ours, z["oi_kl4"][i], f"oi_kl4[{i}]")


@pytest.mark.parametrize("case", golden_rl.cases("tunix_rl", "kl"))
def test_tunix_kl(case):
  z, row = golden_files.load("tunix_rl"), _row("tunix_rl", case)
  ours = golden_rl.find(row)(z["logp"], z["ref_logp"], **row["knobs"])
  golden_rl.compare(ours, z[case], case)
