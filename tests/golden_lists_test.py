"""Unpaired, listwise and self-play objectives give the values that other implementations gave.

Sizes come from the arrays, knobs and inputs of a case from `golden/parameters/<file>.json`.
"""

import functools
import os
import re
import subprocess
import sys

import golden_files
import golden_lists_other
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import metrics, numerics, objectives, reduce
from jaxpref.metrics import correlation
from jaxpref.objectives import density
from jaxpref.objectives.bco import init_carry, next_carry

ME = "golden_lists_test"
GRADIENTS = ("grad", "gc", "gr", "g_model", "g_ref", "gradnorm")


def _cases(file, *functions):
  """Cases of a file that are compared here; of these functions if some are named."""
  rows = golden_files.parameters(file)
  found = golden_files.covered(file, ME)
  return [case for case in found if not functions or rows[case]["fn"] in functions]


def _row(file, case):
  return golden_files.parameters(file)[case]


def _bound(room, file, case):
  fn = getattr(room, _row(file, case)["fn"])
  return functools.partial(fn, **golden_files.knobs(file, case))


def _close(file, case, what, ours, wanted, rtol=2e-5):
  rtol = max(rtol, 1e-4) if what in GRADIENTS else rtol
  assert np.shape(ours) == np.shape(wanted)
  np.testing.assert_allclose(ours, wanted, rtol=rtol, atol=2e-6, err_msg=f"{file}:{case}:{what}")


def _compare(file, case, ours):
  """Every array of a case of several arrays."""
  wanted = golden_files.outputs(file, case)
  assert wanted and set(wanted) <= set(ours), f"{file}:{case} holds {set(wanted) - set(ours)}"
  for what in wanted:
    _close(file, case, what, ours[what], wanted[what])


def _unpaired(z, chosen=0.0, rejected=0.0):
  """logp, ref_logp and relevance [B, 1], chosen responses first, shifted."""
  logp = np.concatenate([z["pol_chosen"] + chosen, z["pol_rejected"] + rejected])
  ref = np.concatenate([z["ref_chosen"], z["ref_rejected"]])
  good = np.arange(len(logp)) < len(z["pol_chosen"])
  return (jnp.asarray(x, jnp.float32)[:, None] for x in (logp, ref, good))


def _by_class(z, fn, logp):
  """Losses, and the gradient of their mean by class."""
  grad = jax.grad(lambda x: fn(x)[0].mean())(logp)[:, 0]
  first = len(z["pol_chosen"])
  return {"losses": fn(logp)[0], "gc": grad[:first], "gr": grad[first:]}


@pytest.mark.parametrize("case", _cases("trl_unpaired", "apo_zero_unpaired"))
def test_apo_zero_unpaired(case):
  z = golden_files.load("trl_unpaired")
  logp, ref, good = _unpaired(z)
  fn = _bound(objectives, "trl_unpaired", case)
  ours = _by_class(z, lambda x: fn(x, ref, good), logp)
  _compare("trl_unpaired", case, ours | {"kl": 0.0})  # it has none


def test_bco_over_its_steps():
  z, carry = golden_files.load("trl_unpaired"), init_carry()
  for case in sorted(_cases("trl_unpaired", "bco")):
    row, fn = _row("trl_unpaired", case), _bound(objectives, "trl_unpaired", case)
    logp, ref, good = _unpaired(z, row["chosen_shift"], row["rejected_shift"])
    step = lambda x, fn=fn, ref=ref, good=good, carry=carry: fn(
      x, ref, good, jnp.ones(len(x)), carry
    )
    ours = _by_class(z, step, logp)
    means = {k: v.mean() for k, v in step(logp)[1].items() if k.startswith("bco/")}
    carry = next_carry(carry, means)
    _compare("trl_unpaired", case, ours | {"delta": carry["mean"]})


@pytest.mark.parametrize("case", _cases("trl_unpaired", "bco_udm"))
def test_bco_udm(case):
  z = golden_files.load("trl_unpaired")
  logp, ref, good = _unpaired(z)
  weights = jnp.concatenate([jnp.full(len(z["pol_chosen"]), 7.0), z["udm_weight"]])
  fn = _bound(objectives, "trl_unpaired", case)
  losses, found = fn(logp, ref, good, weights, jnp.ones(len(logp)), init_carry())
  _compare("trl_unpaired", case, {"losses": losses, "delta": found["bco/delta"][0]})


@pytest.mark.parametrize("case", _cases("trl_unpaired", "density_ratio"))
def test_density_ratio(case):
  z = golden_files.load("trl_unpaired")
  fn = _bound(density, "trl_unpaired", case)
  _compare("trl_unpaired", case, {"value": fn(jnp.asarray(z["udm_prob"]))})


@pytest.mark.parametrize("case", _cases("trl_online", "xpo", "xpo_ipo"))
def test_xpo(case):
  z, fn = golden_files.load("trl_online"), _bound(objectives, "trl_online", case)
  own, other = jnp.asarray(z["logp_model_on_model"]), jnp.asarray(z["logp_model_on_ref"])
  ref = jnp.stack([z["logp_ref_on_model"].sum(1), z["logp_ref_on_ref"].sum(1)], 1)
  won = jnp.stack([z["chosen_mask"], ~z["chosen_mask"]], 1).astype(jnp.float32)

  def total(own, other):
    loss, found = fn(jnp.stack([own.sum(1), other.sum(1)], 1), ref, won)
    return loss.mean(), found

  (loss, found), grads = jax.value_and_grad(total, (0, 1), has_aux=True)(own, other)
  counts = {"g_model": z["logp_ref_on_model"] != 0, "g_ref": z["logp_ref_on_ref"] != 0}
  # padding has log-probability 0 and no gradient there
  grads = {k: g * counts[k] for k, g in zip(("g_model", "g_ref"), grads, strict=True)}
  parts = {"dpo": found["xpo/preference"], "xpo": found["xpo/optimism"]}
  wanted = golden_files.outputs("trl_online", case)
  ours = parts | grads | {"loss": loss}
  for what, value in wanted.items():
    _close("trl_online", case, what, ours[what], value * counts.get(what, 1.0))


@pytest.mark.parametrize("case", _cases("trl_online", "nash_md"))
def test_nash_md(case):
  z, fn = golden_files.load("trl_online"), _bound(objectives, "trl_online", case)
  ref, prob = jnp.asarray(z["logp_ref_on_model"])[:, None], jnp.asarray(z["prob"])
  mask = jnp.asarray(z["logp_ref_on_model"] != 0, jnp.float32)[:, None]

  def total(x):
    loss, found = fn(x[:, None], ref, mask, prob)
    return loss.mean(), found

  (loss, found), grad = jax.value_and_grad(total, has_aux=True)(
    jnp.asarray(z["logp_model_on_model"])
  )
  wanted = dict(golden_files.outputs("trl_online", case))
  wanted["grad"] = wanted["grad"] * mask[:, 0]
  ours = {"loss": loss, "grad": grad, "score": found["nash_md/score"]}
  ours["kl_log"] = found["nash_md/log_ratio"]
  for what, value in wanted.items():
    _close("trl_online", case, what, ours[what], value)


def test_a2po_on_given_values():
  z = golden_files.load("trl_distill")
  arrays = [jnp.asarray(z[f"a2po_{k}"])[:, None] for k in ("logp", "ref_logp", "reward")]
  fn = lambda x: objectives.a2po(x, *arrays[1:], jnp.asarray(z["a2po_vstar"]), beta=1e-3)[0].mean()
  loss, grad = jax.value_and_grad(fn)(arrays[0])
  _compare("trl_distill", "a2po", {"loss": loss, "grad": grad[:, 0]})


def _rax(case, names=("score", "relevance", "present")):
  """Score, relevance and present of a case; all present where it names no mask."""
  z, row = golden_files.load("rax_listwise"), _row("rax_listwise", case)
  score, relevance = (jnp.asarray(z[row.get(k, "scores")]) for k in names[:2])
  present = jnp.asarray(z[row["present"]], jnp.float32) if "present" in row else 0 * score + 1
  return score, relevance, present


@pytest.mark.parametrize("case", [c for c in _cases("rax_listwise") if not c.startswith("metric_")])
def test_rax_losses(case):
  score, relevance, present = _rax(case)
  fn = _bound(objectives, "rax_listwise", case)
  size = score.shape[1] if _row("rax_listwise", case).get("times_size") else 1.0
  grad = jax.grad(lambda x: fn(x, relevance, present)[0].sum())(score)
  losses = fn(score, relevance, present)[0]
  _compare("rax_listwise", case, {"losses": size * losses, "grad": size * grad})


@pytest.mark.parametrize("case", [c for c in _cases("rax_listwise") if c.startswith("metric_")])
def test_rax_metrics(case):
  score, relevance, present = _rax(case)
  fn = _bound(metrics, "rax_listwise", case)
  if fn.func is metrics.order_accuracy:
    value = fn(score, present, relevance)["order_pairs"]
  else:
    (value,) = fn(score, relevance, present).values()
  _compare("rax_listwise", case, {"value": value})


@pytest.mark.parametrize(
  "case",
  [
    case
    for case in _cases("rax_listwise", "plackett_luce", "list_softmax", "list_hinge")
    if _row("rax_listwise", case)["knobs"].get("pairs") != "mean"  # the policy's losses sum
  ],
)
def test_rax_losses_on_implicit_rewards(case):
  score, relevance, present = _rax(case)
  policy = {"plackett_luce": "pl_dpo", "list_softmax": "lipo_softmax", "list_hinge": "lipo_hinge"}
  fn = getattr(objectives, policy[_row("rax_listwise", case)["fn"]])
  losses = fn(score / 0.5 - 3, jnp.full(score.shape, -3.0), relevance, present, beta=0.5)[0]
  wanted = golden_files.outputs("rax_listwise", case)["losses"]
  _close("rax_listwise", case, "losses", losses, wanted)


@pytest.mark.parametrize("case", _cases("paper_offline", "infonca", "nca"))
def test_nca_of_four(case):
  z, fn = golden_files.load("paper_offline"), _bound(objectives, "paper_offline", case)
  logp, ref, grades = (jnp.asarray(z[f"k4_{k}"].T) for k in ("pol", "ref", "scores"))
  grades = grades.at[:, 0].add(_row("paper_offline", case)["first_score"])
  scalar = golden_files.outputs("paper_offline", case)["loss"].ndim == 0
  total = jnp.mean if scalar else jnp.sum
  run = lambda x: fn(x, ref, grades, jnp.ones_like(x))[0]
  grad = jax.grad(lambda x: total(run(x)))(logp).T
  _compare("paper_offline", case, {"loss": run(logp).mean() if scalar else run(logp), "grad": grad})


@pytest.mark.parametrize("case", _cases("paper_offline", "exo", "dpo_rw"))
def test_exo_and_dpo_rw(case):
  z, fn = golden_files.load("paper_offline"), _bound(objectives, "paper_offline", case)
  size, ids = int(re.search(r"_N(\d+)", case)[1]), z["exo_ids"]
  after = np.arange(ids.shape[1])[None] >= z["exo_prompt_len"]
  mask = (z["exo_attn"] * after)[:, 1:]
  grades, log_eps = z["exo_energy"].reshape(-1, size), _row("paper_offline", case).get("log_eps")
  if log_eps is not None:
    grades = np.where(grades == grades.max(1, keepdims=True), 0.0, log_eps)
  constant = 0.0 if log_eps is None else np.log1p((size - 1) * np.exp(log_eps))

  def logp(logits):
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), ids[:, 1:, None], 2)[..., 0]
    return (picked * mask).sum(1).reshape(-1, size)

  def total(logits):
    ref = logp(jnp.asarray(z["exo_ref_logits"]))
    lists = (logp(logits), ref, jnp.asarray(grades), jnp.ones_like(ref))
    return fn(*lists)[0].mean() - constant  # their labels are not normalised

  loss, grad = jax.value_and_grad(total)(jnp.asarray(z["exo_logits"]))
  norms = jnp.sqrt((grad**2).sum((1, 2)))
  _compare("paper_offline", case, {"loss": loss, "gradnorm": norms})


@pytest.mark.parametrize(
  "case", _cases("ranklist", "list_net", "plackett_luce", "rm_all_pairs", "approx_ndcg")
)
def test_ranklist_losses(case):
  z, fn = golden_files.load("ranklist"), _bound(objectives, "ranklist", case)
  relevance = jnp.asarray(z[_row("ranklist", case)["relevance"]], jnp.float32)
  present = (relevance >= 0).astype(jnp.float32)
  score = jnp.asarray(z["scores"], jnp.float32)

  def total(x):
    loss = fn(x, relevance, present)[0]
    if fn.func is not objectives.rm_all_pairs:
      return loss.mean()
    there = present[:, :, None] * present[:, None, :]
    pairs = (relevance[:, :, None] > relevance[:, None, :]) * there
    return loss.sum() / pairs.sum()

  loss, grad = jax.value_and_grad(total)(score)
  what = "grad" if "_grad" in case else "loss"
  _close("ranklist", case, what, {"loss": loss, "grad": grad}[what], z[case])


@pytest.mark.parametrize("case", _cases("ranklist", "ndcg", "kendall", "spearman"))
def test_ranklist_metrics(case):
  z, name = golden_files.load("ranklist"), _row("ranklist", case)["fn"]
  score, relevance = z["scores"], z[_row("ranklist", case)["relevance"]]
  if name == "ndcg":
    arrays = [jnp.asarray(x, jnp.float32) for x in (score, relevance, np.ones_like(score))]
    ours = np.stack([next(iter(metrics.ndcg(*arrays, top=t).values())) for t in (1, 3, 0)], 1)
  else:
    fn = getattr(correlation, name)
    ours = np.asarray([fn(s, r) for s, r in zip(score, relevance, strict=True)])
  _close("ranklist", case, "value", ours, z[case])


@pytest.mark.parametrize("case", _cases("irpo", "irpo", "s_dpo"))
def test_irpo_and_s_dpo(case):
  z, fn, row = golden_files.load("irpo"), _bound(objectives, "irpo", case), _row("irpo", case)
  leak = 1e-4 if row["fn"] == "irpo" and golden_files.knobs("irpo", case)["beta"] < 0.2 else 2e-5
  with jax.enable_x64(True):  # recorded in float64, row 2 with large magnitudes
    logp, ref, grades, rank = (
      jnp.asarray(z[k], float) for k in ("policy_logps", "ref_logps", "relevance", "rank")
    )
    one = jnp.ones_like(logp)
    rest = (ref, one, grades, rank, one) if row["fn"] == "irpo" else (ref, one)
    loss, grad = fn(logp, *rest)[0], jax.grad(lambda x: fn(x, *rest)[0].sum())(logp)
    ours = {"per": loss, "losses": loss, "total": loss.sum(), "grad": grad}
  _close("irpo", case, row["what"], ours[row["what"]], z[case], rtol=leak)


@pytest.mark.parametrize(
  "case", _cases("irpo", "ndcg", "recall", "mean_relevance", "reciprocal_rank")
)
def test_irpo_metrics(case):
  z, fn = golden_files.load("irpo"), _bound(metrics, "irpo", case)
  score, relevance = (jnp.asarray(z[f"metric_{k}"], jnp.float32) for k in ("scores", "relevance"))
  (value,) = fn(score, relevance, jnp.ones_like(score)).values()
  _close("irpo", case, "value", value, z[case])


@pytest.mark.parametrize("case", _cases("irpo", "masked_mean"))
def test_irpo_mean_log_probability_of_items(case):
  z = golden_files.load("irpo")
  logp = jax.nn.log_softmax(jnp.asarray(z["item_logits"], jnp.float32))
  picked = jnp.take_along_axis(logp, z["item_input_ids"][..., None], 2)[..., 0]
  items = np.arange(z[case].shape[1])[None, :, None] == z["item_ids"][:, None, :]
  ours = numerics.masked_mean(picked[:, None, :], items.astype(np.float32), 2)
  _close("irpo", case, "value", ours, z[case])


@pytest.mark.parametrize("case", _cases("spo"))
def test_spo_degree_loss(case):
  z, fn = golden_files.outputs("spo", case), _bound(objectives, "spo", case)
  degree, weight = jnp.asarray(z["degree"]), jnp.asarray(z["weight"], jnp.float32)

  def total(x):
    losses = fn(x, degree)[0]
    return (reduce.weights("example", 1, weight=weight) * losses).sum(), losses

  (loss, losses), grad = jax.value_and_grad(total, has_aux=True)(
    jnp.asarray(z["logits"], jnp.float32)
  )
  ours = {"loss": loss, "losses": losses, "grad": grad} | {
    k: z[k] for k in ("logits", "degree", "weight")
  }
  _compare("spo", case, ours)


@pytest.mark.parametrize("file", golden_files.files())
def test_knobs_in_a_name_are_those_of_the_table(file):
  for case in _cases(file):
    assert golden_files.knobs(file, case) == _row(file, case)["knobs"]


@pytest.mark.slow
def test_these_tests_follow_another_folder_with_other_sizes(tmp_path):
  golden_lists_other.write(tmp_path)
  command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
  env = os.environ | {"JAXPREF_GOLDEN": str(tmp_path)}
  which = ["-k", "rax or irpo or test_xpo or nash_md"]
  run = subprocess.run([*command, *which], env=env, capture_output=True, text=True)
  cases = sum(len(_cases(name)) for name in ("rax_listwise", "irpo", "trl_online"))
  passed = re.search(r"(\d+) passed", run.stdout)
  assert run.returncode == 0 and cases <= int(passed[1]), run.stdout[-3000:]
