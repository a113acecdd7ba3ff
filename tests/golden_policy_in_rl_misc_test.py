"""Policy, KL and value losses of OpenRLHF, ROLL, AReaL, slime, open-instruct and tunix.

The table of cases stands here; rows are as in `golden_policy`, `tokens` where the file holds
losses per token.
"""

import golden_files
import golden_policy
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import reduce

MISC, TUNIX = "rl_misc", "tunix_rl"
READ = {"old_token_logp": "old_logp", "advantage": "adv", "mask": "mask"}


def _row(fn, mode="token", arrays=None, **knobs):
  return {"fn": fn, "knobs": knobs, "reduce": mode, "arrays": READ | (arrays or {})}


EPSILON = {"epsilon_low": 0.2, "epsilon_high": 0.2}
TENTH = {"cap_low": 0.9, "cap_high": 1.1}
POLICY = {
  "orlhf_ppo_token": _row("ppo_clip", **EPSILON),
  "orlhf_ppo_seq": _row("ppo_clip", "sequence", **EPSILON),
  "orlhf_ppo_dual": _row("dual_clip", dual=3.0, **EPSILON),
  "orlhf_ppo_cliphigh": _row("ppo_clip", epsilon_low=0.2, epsilon_high=0.28),
  "orlhf_gspo": _row("gspo", "sequence", **EPSILON),
  "orlhf_tis": _row("ppo_clip", **EPSILON) | {"rollout": ("tis", 0.5, 2.0)},
  "orlhf_icepop": _row("ppo_clip", **EPSILON) | {"rollout": ("icepop", 0.5, 2.0)},
  "orlhf_seqmasktis": _row("ppo_clip", **EPSILON) | {"rollout": ("seq-mask-tis", 0.9, 1.1)},
  "areal_ppo_token": _row("ppo_clip", **EPSILON),
  "areal_ppo_seq": _row("ppo_clip", level="sequence", **EPSILON),
  "areal_ppo_dual": _row("dual_clip", dual=3.0, **EPSILON),
  "roll_tis": _row("tis_pg", cap_low=0.0, cap_high=1.0),
  "roll_topr": _row("topr", level="token"),
  "roll_cispo": _row("cispo", **TENTH),
  "roll_cispo_unified": _row("cispo_unified", **TENTH),
  "roll_kimi15": _row("kimi15", tau=0.3),
}
KL = {  # case: function, estimator, bound of the estimate
  "orlhf_kl_k1": ("kl_penalty", "k1", 10.0),
  "orlhf_kl_k2": ("kl_penalty", "k2", 10.0),
  "orlhf_kl_k3": ("kl_penalty", "k3", 10.0),
  "slime_kl_k1_is0": ("kl_penalty", "k1", 0.0),
  "slime_kl_k1_is1": ("kl_corrected", "k1", 0.0),
  "slime_kl_k2_is0": ("kl_penalty", "k2", 0.0),
  "slime_kl_k2_is1": ("kl_corrected", "k2", 0.0),
  "slime_kl_k3_is0": ("kl_penalty", "k3", 0.0),
  "slime_kl_k3_is1": ("kl_corrected", "k3", 0.0),
  "slime_kl_low_var_kl_is0": ("kl_penalty", "k3", 10.0),
  "slime_kl_low_var_kl_is1": ("kl_corrected", "k3", 10.0),
}
OPEN_INSTRUCT = (  # the four rows of oi_kl4
  ("kl_penalty", "k1"),
  ("kl_penalty", "k2"),
  ("kl_penalty", "k3"),
  ("kl_corrected", "k1"),
)
TUNIX_KL = {"kl": "k1", "mse_kl": "k2", "low_var_kl": "k3"}
VALUE = {"orlhf_value_None": ("value_mse", {}), "orlhf_value_0.5": ("value_clip", {"epsilon": 0.5})}
AGGREGATIONS = {  # case: mode, what it divides by
  "agg_token-mean": ("token", 0.0),
  "agg_sequence-mean-token-mean": ("sequence", 0.0),
  "agg_sequence-mean-token-scale": ("sequence_sum_constant", "T"),
  "agg_seq-mean-token-sum": ("sequence_sum", 0.0),
  "agg_sequence-mean-token-sum-norm": ("constant", "rows"),
  "packed_token-mean": ("token", 0.0),
  "packed_sequence-mean-token-mean": ("sequence", 0.0),
  "packed_seq-mean-token-sum": ("sequence_sum", 0.0),
  "packed_sequence-mean-token-sum-norm": ("constant", "rows"),
  "packed_token-scale16": ("sequence_sum_constant", 16.0),
}


def _keep(z, kind, low, high):
  """Weights of a rollout correction; where they are made otherwise, they are fixed numbers."""
  ratio = np.exp(z["old_logp"] - z["rollout_logp"])
  if kind == "tis":
    return np.clip(ratio, low, high)
  if kind == "icepop":
    return ratio * ((ratio >= low) & (ratio <= high))
  log = ((z["old_logp"] - z["rollout_logp"]) * z["mask"]).sum(1) / z["mask"].sum(1)
  inside = (np.exp(log) >= low) & (np.exp(log) <= high)
  return ratio * inside[:, None]


@pytest.mark.parametrize("case", POLICY)
def test_rl_misc_policy_losses(case):
  z, row = golden_files.load(MISC), POLICY[case]
  if "rollout" in row:
    z, row = z | {"weights": _keep(z, *row["rollout"])}, row | {"keep": "weights"}

  def loss(x):
    found = golden_policy.arrays(z, row, x)
    found |= {"reward": jnp.asarray(z["roll_scores"])[:, None]}
    total, metrics = golden_policy.total(z, row, found)
    return total, (metrics, golden_policy.losses(row, found))

  (value, (metrics, tokens)), grad = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(z["logp"]))
  ours = {"loss": value, "grad": grad, "clipfrac": metrics.get("ratio/clip")}
  ours |= {"tok": tokens[:, 0]}
  # outside the mask ROLL's token losses hold something, which its means leave out
  golden_policy.compare(MISC, case, ours, where={"tok": z["mask"]})


def _kl(z, fn, estimator, bound):
  """Estimates at every position, also outside the mask."""
  row = {"fn": fn, "knobs": {"estimator": estimator, "max_kl": bound}}
  length = z["logp"].shape[1]
  found = {k: golden_policy.rows(z[v], length) for k, v in _kl_reads(z).items()}
  return golden_policy.losses(row, found | {"mask": jnp.ones_like(found["token_logp"])})[:, 0]


def _kl_reads(z):
  reads = {"token_logp": "logp", "ref_token_logp": "ref_logp", "old_token_logp": "old_logp"}
  return {k: v for k, v in reads.items() if v in z}


@pytest.mark.parametrize("case", KL)
def test_rl_misc_kl_estimators(case):
  golden_policy.compare(MISC, case, {"value": _kl(golden_files.load(MISC), *KL[case])})


def test_open_instruct_kl_estimators():
  z = golden_files.load(MISC)
  ours = jnp.stack([_kl(z, fn, estimator, 0.0) for fn, estimator in OPEN_INSTRUCT])
  golden_policy.compare(MISC, "oi_kl4", {"value": ours})


@pytest.mark.parametrize("name", TUNIX_KL)
@pytest.mark.parametrize("bound", ["None", "0.5"])
def test_tunix_kl_estimators(name, bound):
  number = 0.0 if bound == "None" else float(bound)
  ours = _kl(golden_files.load(TUNIX), "kl_penalty", TUNIX_KL[name], number)
  golden_policy.compare(TUNIX, f"kl_{name}_{bound}", {"value": ours})


@pytest.mark.parametrize("case", VALUE)
def test_rl_misc_value_losses(case):
  z, (fn, knobs) = golden_files.load(MISC), VALUE[case]
  names = {"value": "values", "old_value": "old_values", "returns": "returns", "mask": "mask"}
  found = {k: golden_policy.rows(z[v], z["mask"].shape[1]) for k, v in names.items()}
  row = {"fn": fn, "knobs": knobs, "reduce": "token"}
  golden_policy.compare(MISC, case, {"value": golden_policy.total(z, row, found)[0]})


@pytest.mark.parametrize("case", AGGREGATIONS)
def test_tunix_aggregations(case):
  z, (mode, constant) = golden_files.load(TUNIX), AGGREGATIONS[case]
  loss, mask = z["tok_loss"], z["mask"]
  if case.startswith("packed"):
    loss, mask = _unpacked(z)
  constant = {"T": loss.shape[1], "rows": len(loss)}.get(constant, constant)
  loss, mask = (golden_policy.rows(x, loss.shape[1]) for x in (loss, mask))
  value = (reduce.weights(mode, 3, mask=mask, constant=constant) * loss).sum()
  wanted = golden_files.outputs(TUNIX, case)
  np.testing.assert_allclose(value, wanted["val"], rtol=2e-5, atol=2e-6)
  if "den" in wanted:
    np.testing.assert_allclose(value * wanted["den"], wanted["sum"], rtol=2e-5, atol=2e-6)


def _unpacked(z):
  """Every segment of a packed row as a row of its own."""
  ids = range(1, z["seg"].max() + 1)
  own = [(i, row == s) for i, row in enumerate(z["seg"]) for s in ids if (row == s).any()]
  return np.stack([z["tok_loss"][i] for i, _ in own]), np.stack([z["pmask"][i] * s for i, s in own])
