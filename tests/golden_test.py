"""Our objectives give the values and gradients that other implementations gave.

Sizes come from the arrays, knobs from the case's name or `golden/parameters/<file>.json`.
"""

import functools
import os
import re
import subprocess
import sys

import golden_files
import golden_other
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, numerics, objectives, reduce

FILES = golden_files.files()
GRADIENTS = ("grad", "gc", "gr", "g0", "g1", "gx", "gw", "gb")


def _objective(file, case):
  """The function of a case, with its knobs: arrays -> (loss, metrics)."""
  fn = getattr(objectives, golden_files.parameters(file)[case]["fn"])
  values = golden_files.knobs(file, case)
  return lambda *arrays: fn(*arrays, **values)


def _bound(file, case):
  """The function of a case, with its knobs; `call.feed` gives it arrays by name."""
  fn = getattr(objectives, golden_files.parameters(file)[case]["fn"])
  return call.bind(fn, **golden_files.knobs(file, case))


def _pairs(rows):
  """Rows [chosen..., rejected...] as [B, 2, ...]."""
  half = rows.shape[0] // 2
  return jnp.stack([rows[:half], rows[half:]], 1)


def _token_mean(token_logp, mask):
  """The mean over all counted tokens of the batch, as the loop takes it of `nll`."""
  loss, _ = objectives.nll(token_logp, mask)
  return (reduce.weights("token", 3, mask=mask[:, :1]) * loss).sum()


def _compare(file, case, ours, skip=(), where=1.0):
  """Every array of the case, at the tolerances of the folder's README; gradients where `where`."""
  wanted = golden_files.outputs(file, case)
  assert wanted, f"{file} has no array of case {case}"
  missing = set(wanted) - set(ours) - set(skip)
  assert not missing, f"{file}:{case} holds {missing}, which this test does not compare"
  for what in set(wanted) - set(skip):
    rtol, counted = (1e-4, where) if what in GRADIENTS else (2e-5, 1.0)
    counted = counted[what] if isinstance(counted, dict) else counted
    left, right = np.asarray(ours[what]) * counted, wanted[what] * counted
    np.testing.assert_allclose(left, right, rtol=rtol, atol=2e-6, err_msg=f"{file}:{case}:{what}")


@pytest.mark.parametrize("case", golden_files.covered("trl_dpo"))
def test_trl_dpo(case):
  z = golden_files.load("trl_dpo")
  mask, ref = jnp.asarray(z["mask"]), _pairs((z["ref_logp"] * z["mask"]).sum(1))
  lengths = _pairs(mask.sum(1))
  row = golden_files.parameters("trl_dpo")[case]
  arrays = {"ref_logp": ref, "length": lengths, "weight": jnp.ones(len(ref))}
  if row["fn"] == "nll":
    loss, grad = jax.value_and_grad(lambda x: _token_mean(_pairs(x), _pairs(mask)))(z["logp"])
    return _compare("trl_dpo", case, {"loss": loss, "grad": grad})
  fn = _bound("trl_dpo", case)

  def pair_losses(token_logp):
    return call.feed(fn, arrays | {"logp": _pairs((token_logp * mask).sum(1))})[0]

  if "metric" in row:
    fed = arrays | {"logp": _pairs((z["logp"] * mask).sum(1))}
    metric = call.feed(fn, fed)[1][row["metric"]].mean()
    return _compare("trl_dpo", case, {"value": metric})
  loss, grad = jax.value_and_grad(lambda x: pair_losses(x).mean())(z["logp"])
  pair = pair_losses(z["logp"])
  # TRL's gradient also runs through positions outside the mask, where log-probabilities are 0
  _compare("trl_dpo", case, {"loss": loss, "grad": grad, "pair": pair}, where=z["mask"])


@pytest.mark.parametrize("case", golden_files.covered("trl_dpo_legacy"))
def test_trl_dpo_legacy(case):
  z = golden_files.load("trl_dpo_legacy")
  row, fn = golden_files.parameters("trl_dpo_legacy")[case], _bound("trl_dpo_legacy", case)
  ref = jnp.stack([z["ref_chosen"], z["ref_rejected"]], 1)
  logp = jnp.stack([z["pol_chosen"], z["pol_rejected"]], 1)
  arrays = {"logp": logp, "ref_logp": ref, "weight": jnp.ones(len(logp))}
  if "carry" in call.needs(fn):
    arrays["carry"] = _carry_before("trl_dpo_legacy", case, arrays)
  losses, metrics = call.feed(fn, arrays)
  grad = jax.grad(lambda x: call.feed(fn, arrays | {"logp": x})[0].sum())(logp)
  if row["fn"] in ("aot", "aot_unpaired"):  # TRL's losses stand in the order of the ranks
    ranked = logp[:, 0] - (logp[:, 1] if row["fn"] == "aot" else ref[:, 0])
    losses = losses[jnp.argsort(ranked)]
  ours = {"losses": losses, "gc": grad[:, 0], "gr": grad[:, 1]}
  if "reward_mean" in metrics:
    ours["delta"] = metrics["reward_mean"][0]
  metric = row.get("metric")
  _compare("trl_dpo_legacy", case, {"value": metrics[metric]} if metric else ours)


def _carry_before(file, case, arrays):
  """The memory that the earlier cases of the same function leave, on the same arrays."""
  rows = golden_files.parameters(file)
  module = sys.modules[getattr(objectives, rows[case]["fn"]).__module__]
  carry = module.init_carry()
  for earlier in golden_files.covered(file):
    if earlier == case:
      break
    if rows[earlier]["fn"] == rows[case]["fn"]:
      _, metrics = call.feed(_bound(file, earlier), arrays | {"carry": carry})
      carry = module.next_carry(carry, {k: v.mean() for k, v in metrics.items()})
  return carry


@pytest.mark.parametrize("case", golden_files.covered("trl_unpaired"))
def test_trl_unpaired(case):
  z, out = golden_files.load("trl_unpaired"), golden_files.outputs("trl_unpaired", case)
  chosen, rejected = out["gc"].size, out["gr"].size
  fn = _objective("trl_unpaired", case)
  ref = jnp.concatenate([z["ref_chosen"][:chosen], z["ref_rejected"][:rejected]])[:, None]
  logp = jnp.concatenate([z["pol_chosen"][:chosen], z["pol_rejected"][:rejected]])[:, None]
  relevance = jnp.concatenate([jnp.ones(chosen), jnp.zeros(rejected)])[:, None]
  kl = max(0.0, float((out.get("pol_kl", z["pol_kl"]) - z["ref_kl"]).mean()))
  kl = golden_files.parameters("trl_unpaired")[case].get("baseline", kl)
  baseline = jnp.full(len(logp), kl)
  losses = fn(logp, ref, relevance, baseline)[0]
  grad = jax.grad(lambda x: fn(x, ref, relevance, baseline)[0].mean())(logp)[:, 0]
  ours = {"losses": losses, "gc": grad[:chosen], "gr": grad[chosen:], "kl": kl}
  _compare("trl_unpaired", case, ours, skip=("pol_kl",))


@pytest.mark.parametrize("case", golden_files.covered("trl_reference_free"))
def test_trl_reference_free(case):
  z = golden_files.load("trl_reference_free")
  name = golden_files.parameters("trl_reference_free")[case]["fn"]
  if name == "simpo":
    return _compare("trl_reference_free", case, _simpo_on_averages(z, case))
  token_logp, mask = _scored(jnp.asarray(z["logits"])[:, :-1], z["labels"][:, 1:])
  sums = (token_logp * mask).sum(1)
  average = numerics.average_logp(sums, mask.sum(1))
  ours = {"nll_chosen": _token_mean(_pairs(token_logp), _pairs(mask))}
  ours |= {"logps_sum": sums, "logps_avg": average}
  _compare("trl_reference_free", case, {"value": ours[case]})


def _simpo_on_averages(z, case):
  fn = _objective("trl_reference_free", case)
  logp = jnp.stack([z["avg_chosen"], z["avg_rejected"]], 1)
  losses, metrics = fn(logp, jnp.ones_like(logp))
  grad = jax.grad(lambda x: fn(x, jnp.ones_like(x))[0].sum())(logp)
  rewards = {"rewards_c": metrics["rewards/chosen"], "rewards_r": metrics["rewards/rejected"]}
  return {"losses": losses, "gc": grad[:, 0], "gr": grad[:, 1]} | rewards


def _scored(logits, targets):
  """f32[N, T] log-probability of each target, and 1 where the target is not -100."""
  mask = (targets != -100).astype(np.float32)
  index = np.where(targets == -100, 0, targets)[..., None]
  picked = jnp.take_along_axis(jax.nn.log_softmax(logits), index, -1)[..., 0]
  return picked * mask, jnp.asarray(mask)


@pytest.mark.parametrize("case", golden_files.covered("trl_reward"))
def test_trl_reward(case):
  z, fn = golden_files.load("trl_reward"), _objective("trl_reward", case)
  golden_files.outputs("trl_reward", case)
  rest = (z["margin"],) if "margin" in case else ()
  loss, grad = jax.value_and_grad(lambda s: fn(_pairs(s), *rest)[0].mean())(z["scores"])
  accuracy = fn(_pairs(z["scores"]), *rest)[1]["rewards/accuracies"].mean()
  _compare("trl_reward", case, {"loss": loss, "grad": grad, "accuracy": accuracy})


@pytest.mark.parametrize("case", golden_files.covered("liger_preference"))
def test_liger_preference(case):
  z = golden_files.load("liger_preference")
  row = golden_files.parameters("liger_preference")[case]
  one = _liger_kto if row["fn"] == "kto" else _liger_pair

  def batch_loss(x, w, b):
    losses, metrics = one(z, case, _scored(x @ w.T + b, z["t"]))
    return losses.mean(), metrics

  value = jax.value_and_grad(batch_loss, argnums=(0, 1, 2), has_aux=True)
  (loss, metrics), grads = value(*(jnp.asarray(z[k]) for k in ("x", "w", "b")))
  ours = dict(zip(("gx", "gw", "gb"), grads, strict=True)) | metrics | {"loss": loss}
  # means of raw logits are no quantity of an objective; nll is 0 in the cases without that term
  skip = ("chosen_logits_mean", "rejected_logits_mean", "nll")
  _compare("liger_preference", case, ours, skip)


def _liger_pair(z, case, scored):
  row, fn = golden_files.parameters("liger_preference")[case], _objective("liger_preference", case)
  logp, length = _pairs(scored[0].sum(1)), _pairs(scored[1].sum(1))
  ref = _scored(jnp.asarray(z["rx"]) @ z["rw"].T + z["rb"], z["t"])[0]
  simpo = row["fn"] == "simpo"
  losses, metrics = fn(logp, length if simpo else _pairs(ref.sum(1)))
  shown = numerics.average_logp(logp, length) if simpo else logp  # Liger logs SimPO's averages
  return losses, {
    "chosen_logps": shown[:, 0],
    "rejected_logps": shown[:, 1],
    "chosen_rewards": metrics["rewards/chosen"],
    "rejected_rewards": metrics["rewards/rejected"],
  }


def _liger_kto(z, case, scored):
  row, fn = golden_files.parameters("liger_preference")[case], _objective("liger_preference", case)
  assert not row["reference"], "recorded without a reference: its log-probabilities are 0"
  sums = scored[0].sum(1)
  if row["average"]:
    sums = numerics.average_logp(sums, scored[1].sum(1))
  relevance = jnp.asarray(z["kto_labels"], jnp.float32)[:, None]
  baseline = jnp.full(len(sums), row["baseline"], jnp.float32)
  return fn(sums[:, None], jnp.zeros((len(sums), 1)), relevance, baseline)[0], {}


@pytest.mark.parametrize(
  "case", [c for c in golden_files.covered("paper_offline") if c not in ("dft", "asft")]
)
def test_paper_offline(case):
  z = golden_files.load("paper_offline")
  ours = _halo(z, case) if case.startswith("halo_") else _paper_pair(z, case)
  where = {"gc": z["halo_pol_c"] != 0, "gr": z["halo_pol_r"] != 0}
  _compare("paper_offline", case, ours, where=where if case.startswith("halo_") else 1.0)


def _paper_pair(z, case):
  """Sequence-level cases: `loss` is per pair, or the batch mean where it is a scalar."""
  fn, arrays = _bound("paper_offline", case), _paper_arrays(z, case)
  scalar = golden_files.outputs("paper_offline", case)["loss"].ndim == 0
  losses = lambda x: call.feed(fn, arrays | {"logp": x})[0]
  total = jnp.mean if scalar else jnp.sum
  loss, grad = losses(arrays["logp"]), jax.grad(lambda x: total(losses(x)))(arrays["logp"])
  if case.startswith("cal_dpo"):  # recorded with the batch's mean of the squares in every pair
    logistic = objectives.dpo(arrays["logp"], arrays["ref_logp"], beta=1.0)[0]
    loss = logistic + (loss - logistic).mean()
  grads = {"g0": grad[:, 0], "g1": grad[:, 1], "gc": grad[:, 0], "gr": grad[:, 1]}
  return grads | {"loss": loss.mean() if scalar else loss}


def _paper_arrays(z, case):
  """What a sequence-level case reads, by name."""
  pair = lambda one, other: jnp.stack([z[one], z[other]], 1)
  row = golden_files.parameters("paper_offline")[case]
  logp, length = pair("pol_chosen", "pol_rejected"), pair("len_chosen", "len_rejected")
  arrays = {"logp": logp, "ref_logp": pair("ref_chosen", "ref_rejected"), "length": length}
  if case.startswith("simpo"):  # recorded on averages of these sums
    arrays |= {"logp": logp / length, "length": jnp.ones_like(length)}
  if "margin" in row:  # a margin that is asked for is a reference that prefers the first response
    arrays["ref_logp"] = jnp.tile(jnp.asarray([row["margin"], 0.0]), (len(logp), 1))
  if row["fn"] == "sppo":
    arrays["reward"] = pair("sppo_p_win", "sppo_p_lose")
  if row["fn"] == "wpo_length":  # the length that gives the recorded weight
    weighed = logp.sum(1) / jnp.log(z["wpo_weight"])
    arrays["length"] = jnp.stack([weighed, weighed], 1)
  return arrays


def _halo(z, case):
  """Token-level cases; the gradient is that of the summed losses, at every position."""
  fn, name = _objective("paper_offline", case), golden_files.parameters("paper_offline")[case]["fn"]
  ref = jnp.stack([z["halo_ref_c"], z["halo_ref_r"]], 1)
  tokens = jnp.stack([z["halo_pol_c"], z["halo_pol_r"]], 1)
  length = (tokens != ref if name == "ipo" else tokens != 0).astype(jnp.float32).sum(2)
  if name == "kto":
    return _halo_kto(z, fn, tokens, ref)
  rest = {"ipo": (ref.sum(2), length), "simpo": (length,)}.get(name, (ref.sum(2),))
  grad = jax.grad(lambda x: fn(x.sum(2), *rest)[0].sum())(tokens)
  return {"losses": fn(tokens.sum(2), *rest)[0], "gc": grad[:, 0], "gr": grad[:, 1]}


def _halo_kto(z, fn, tokens, ref):
  kl = max(0.0, float((z["halo_kl_pol"] - z["halo_kl_ref"]).sum(1).mean()))

  def flat(x):
    return jnp.concatenate([x[:, 0], x[:, 1]])  # chosen, then rejected

  relevance = flat(jnp.broadcast_to(jnp.asarray([1.0, 0.0]), tokens.shape[:2]))[:, None]
  baseline = jnp.full(len(relevance), kl)

  def losses(x):
    return fn(flat(x).sum(1)[:, None], flat(ref).sum(1)[:, None], relevance, baseline)[0]

  grad = jax.grad(lambda x: losses(x).sum())(tokens)
  return {"losses": losses(tokens), "gc": grad[:, 0], "gr": grad[:, 1], "KL": kl}


@pytest.mark.parametrize("case", golden_files.covered("pref_ranking"))
def test_pref_ranking(case):
  z = golden_files.load("pref_ranking")
  row = golden_files.parameters("pref_ranking")[case]
  values = golden_files.knobs("pref_ranking", case) | {"beta": float(z["beta"])}
  with jax.enable_x64(True):  # recorded in float64, with margins of hundreds of nats
    logp, ref = (jnp.asarray(x.T) for x in np.split(z["logps_pc_pr_rc_rr"], 2))
    ref = ref * row.get("reference", True)
    fn = functools.partial(getattr(objectives, row["fn"]), ref_logp=ref, **values)
    loss, grad = fn(logp)[0], jax.grad(lambda x: fn(x)[0].sum())(logp)
  np.testing.assert_allclose(loss, z[f"loss_{case}"], rtol=2e-5, atol=2e-6)
  np.testing.assert_allclose(grad.T, z[f"grad_{case}"], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("file", FILES)
def test_every_array_is_an_input_covered_here_or_listed_for_a_later_objective(file):
  rows = golden_files.parameters(file)
  for array in golden_files.load(file):
    case = array.split("__")[0]
    if file == "pref_ranking" and case not in rows:
      case = case.removeprefix("loss_").removeprefix("grad_")
    assert case in rows, f"{file}: {array} is not in its table"
    assert {"fn", "terms", "later", "input", "refused"} & set(rows[case])


@pytest.mark.parametrize("file", FILES)
def test_knobs_in_a_name_are_those_of_the_table(file):
  for case in golden_files.covered(file):
    table = golden_files.parameters(file)[case]["knobs"]
    assert golden_files.knobs(file, case) == table


def _golden_tests(folder, which):
  """A pytest of its own on the golden files of a folder."""
  command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", which]
  env = os.environ | {"JAXPREF_GOLDEN": str(folder)}
  return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_golden_tests_follow_another_folder_with_other_sizes(tmp_path):
  golden_other.write(tmp_path)
  files = [path.stem for path in tmp_path.glob("*.npz")]
  for file in files:
    with np.load(tmp_path / f"{file}.npz") as other:
      shapes = {k: v.shape for k, v in other.items() if v.ndim and v.size}
    assert shapes and all(golden_files.load(file)[k].shape != v for k, v in shapes.items())
  run = _golden_tests(tmp_path, " or ".join(f"test_{file}[" for file in files))
  cases = sum(len(golden_other.cases(file)) for file in files)
  passed = re.search(r"(\d+) passed", run.stdout)
  assert run.returncode == 0 and 0 < cases <= int(passed[1]), run.stdout[-3000:]


@pytest.mark.slow
def test_golden_tests_fail_where_the_other_folder_is_wrong(tmp_path):
  golden_other.write(tmp_path)
  with np.load(tmp_path / "trl_reward.npz") as file:
    arrays = dict(file)
  np.savez(tmp_path / "trl_reward.npz", **arrays | {"bt__loss": arrays["bt__loss"] * 1.001})
  run = _golden_tests(tmp_path, "test_trl_reward[")
  assert "trl_reward:bt:loss" in run.stdout and run.returncode == 1
