"""Losses of reward models and of single papers give what their authors' code gave.

`trl_reward.npz` is compared in `golden_test.py`.
"""

import re

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpref import objectives, update
from jaxpref.numerics import average_logp, skew, unit
from jaxpref.objectives import contrastive
from jaxpref.types import TrainState


def _cases(file):
  return pytest.mark.parametrize("case", golden_files.covered(file))


def _fn(file, case):
  """The function of a case with its knobs."""
  fn = getattr(objectives, golden_files.parameters(file)[case]["fn"])
  knobs = golden_files.knobs(file, case)
  return lambda *arrays, **more: fn(*arrays, **knobs | more)


def _same(file, case, ours, gradient=False):
  wanted = golden_files.outputs(file, case)
  assert set(wanted) == {"value"} and np.shape(ours) == wanted["value"].shape
  rtol = 1e-4 if gradient else 2e-5
  name = f"{file}:{case}"
  np.testing.assert_allclose(ours, wanted["value"], rtol=rtol, atol=2e-6, err_msg=name)


def _stack(z, *names):
  return jnp.stack([jnp.asarray(z[n], jnp.float32) for n in names], 1)


@_cases("dove")
def test_dove(case):
  z, row = golden_files.load("dove"), golden_files.parameters("dove")[case]
  joint, ref_joint, logp, ref = (
    _stack(z, *(f"{kind}_{what}_{side}" for side in ("chosen", "rejected")))
    for kind in ("joint", "conditional")
    for what in ("logp", "ref_logp")
  )
  loss, metrics = _fn("dove", case)(logp, ref, joint - logp, ref_joint - ref)
  _same("dove", case, metrics[row["metric"]] if "metric" in row else loss)


def _scored_pairs(z, case, row):
  """Loss per pair of a scalar reward model on scores over the temperature."""
  score = _stack(z, "bt_chosen", "bt_reject") / row["tau"]
  margin = jnp.asarray(z["bt_margin"], jnp.float32) / row["tau"]
  fn = _fn("gpm", case)
  losses = lambda s: fn(s, margin)[0] if "margin" in case else fn(s)[0]
  gap = score[:, 0] - score[:, 1] - (margin if "margin" in case else 0.0)
  if "_prob_" in case:
    return jax.nn.sigmoid(gap).mean()
  if "_grad_" in case:  # with respect to the score, which is divided by the temperature
    return jax.grad(lambda s: losses(s / row["tau"]).mean())(score * row["tau"])[:, 0]
  return losses(score).mean()


def _embedded_pairs(z, case, row):
  d = row["d"]
  embedding = _stack(z, f"v_chosen_d{d}", f"v_reject_d{d}")
  rest = ()
  if "margin" in case:
    rest = (jnp.asarray(z[f"margin_d{d}"]),)
  if "gated" in case:
    embedding = unit(embedding) if row["unit"] else embedding
    rest = (jax.nn.softmax(jnp.asarray(z[f"h_prompt_d{d}"] @ z[f"W_gate_d{d}"].T), -1),)
  fn = _fn("gpm", case)
  if case.startswith("grad"):
    grad = jax.grad(lambda v: fn(v, *rest)[0].mean())(embedding)
    return grad[:, 0 if case.startswith("gradv") else 1]
  loss, metrics = fn(embedding, *rest)
  if case.startswith("prob"):
    return metrics["preference/probability"].mean()
  return metrics["preference/score"] if case.startswith("score") else loss.mean()


@_cases("gpm")
def test_gpm(case):
  z, row = golden_files.load("gpm"), golden_files.parameters("gpm")[case]
  if row["fn"] != "gpo":
    ours = _scored_pairs(z, case, row) if "tau" in row else _embedded_pairs(z, case, row)
    return _same("gpm", case, ours, "grad" in case)
  with jax.enable_x64(True):  # squares of differences of thousands
    logp, ref = (np.stack([z[f"lp_{p}_w"], z[f"lp_{p}_l"]], 1) for p in ("pol", "ref"))
    won = case.startswith("sppo")
    reward = np.stack([z["sppo_p_w"] - 0.5, z["sppo_p_l"] - 0.5], 1)
    reward = reward if won else np.stack([z["gpo_s_w"], z["gpo_s_l"]], 1)
    losses = lambda x: _fn("gpm", case)(x, ref, reward)[0]
    ours = jax.grad(lambda x: losses(x).mean())(logp)[:, 0] if "grad" in case else losses(logp)
  _same("gpm", case, ours, "grad" in case)


def test_the_form_of_two_embeddings_is_that_of_the_operator():
  z = golden_files.load("gpm")
  for name in [n for n in z if re.fullmatch(r"R_d\d+", n)]:
    v, w = z[f"v_chosen_{name[2:]}"], z[f"v_reject_{name[2:]}"]
    by_matrix = np.einsum("be,ef,bf->b", w, z[name], v)  # <R v, w>
    np.testing.assert_allclose(skew(v, w), by_matrix, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(by_matrix, z[f"score_{name[2:]}"], rtol=1e-9, atol=1e-9)


KINDS = ("chosen", "rejected", "rationale")


def _tokens(z, kind, logits=None):
  """Log-probabilities of the labels, shifted by one, and which count: [B, T - 1]."""
  labels = z[f"labels_{kind}"][:, 1:]
  logits = z[f"logits_{kind}"] if logits is None else logits
  logps = jax.nn.log_softmax(jnp.asarray(logits, jnp.float32)[:, :-1], -1)
  picked = jnp.take_along_axis(logps, np.maximum(labels, 0)[..., None], -1)[..., 0]
  return jnp.where(labels >= 0, picked, 0.0), (labels >= 0).astype(np.float32)


def _rationales(z, case, logits):
  """Loss per row, with these logits of the rationale."""
  each = [_tokens(z, k, logits if k == "rationale" else None) for k in KINDS]
  logp = jnp.stack([t.sum(1) for t, _ in each], 1)
  length = jnp.stack([m.sum(1) for _, m in each], 1)
  ref = _stack(z, *(f"ref_sum_logp_{k}" for k in KINDS))
  name = golden_files.parameters("rationales")[case]["fn"]
  arrays = {
    "rationale_dpo": (logp, ref, length),
    "dpo": (logp[:, :2], ref[:, :2]),
  }.get(name, (logp, length))
  return _fn("rationales", case)(*arrays)


def _nll(z):
  logp, mask = _tokens(z, "chosen")
  return objectives.nll(logp[:, None], mask[:, None])[0].sum() / mask.sum()


@_cases("rationales")
def test_rationales(case):
  z = golden_files.load("rationales")
  if case == "chosen_nll":
    return _same("rationales", case, _nll(z))
  logits = jnp.asarray(z["logits_rationale"], jnp.float32)
  if "grad" in case:
    grad = jax.grad(lambda x: _rationales(z, case, x)[0].mean())(logits)
    whole = golden_files.outputs("rationales", case)["value"].ndim > 0
    return _same("rationales", case, grad if whole else jnp.sqrt((grad**2).sum()), gradient=True)
  loss, metrics = _rationales(z, case, logits)
  ours = loss
  if "terms" in case:
    ours = -loss  # the code's terms are what is maximised
  elif "total" in case:
    ours = _nll(z) + loss.mean()
  elif "reward" in case:
    ours = metrics["rewards/chosen"]
  _same("rationales", case, ours)


@pytest.mark.parametrize("kind", KINDS)
def test_sums_and_means_of_the_rationales_file_are_those_of_its_logits(kind):
  z = golden_files.load("rationales")
  token_logp, mask = _tokens(z, kind)
  sums, length = token_logp.sum(1), mask.sum(1)
  np.testing.assert_allclose(sums, z[f"sum_logp_{kind}"], rtol=2e-5, atol=2e-6)
  mean = average_logp(sums, length)
  np.testing.assert_allclose(mean, z[f"mean_logp_{kind}"], rtol=2e-5, atol=2e-6)


def _meta_step(z):
  """One MetaRM step by our update rule on a linear reward: its metrics, gradients and weights."""
  pairs, samples = jnp.asarray(z["meta_pairs"]), jnp.asarray(z["meta_samples"])
  eta, alpha = float(z["meta_eta"]), float(z["meta_alpha"])
  seen = {}

  def outer(w, carry, batch, key):
    seen["adapted"] = w
    loss = lambda v: objectives.bradley_terry(pairs @ v)[0].mean()
    value, grad = jax.value_and_grad(loss)(w)
    seen.update(loss=value, grad=grad)
    return grad, {"loss": value}

  def inner(w, carry, batch, key):
    spread = lambda v: -objectives.score_spread(samples @ v)[0].mean()  # term_weight=-1
    value, grad = jax.value_and_grad(spread)(w)
    seen.update(J=-value, gradJ=-grad)
    return grad, {}

  tx = optax.sgd(alpha)
  w = jnp.asarray(z["meta_w"], jnp.float32)
  state = TrainState(jnp.int32(0), w, tx.init(w), jax.random.key(0), {})
  new, _ = update.look_ahead(outer, inner, tx, state, {}, inner_lr=eta)
  names = {"w_adapted": seen["adapted"], "w_new": new.params}
  return names | {k: seen[k] for k in ("J", "gradJ", "loss", "grad")}


def _contrast(z, case):
  views = _stack(z, "h_s", "h_t")
  if case.startswith("simcse"):
    losses = _fn("secrets_rm", case)(views, tau=float(z["simcse_tau"]))[0]
    return losses.mean() if case == "simcse_loss" else losses
  knobs = {"epsilon": float(z["swav_epsilon"]), "iterations": int(z["swav_iters"])}
  near = unit(views) @ unit(jnp.asarray(z["prototypes"], jnp.float32)).T
  targets = [contrastive.sinkhorn(near[:, k], **knobs) for k in (0, 1)]
  if case in ("q_s", "q_t"):
    return targets[0 if case == "q_s" else 1]
  if case == "swav_sum":
    fn = _fn("secrets_rm", case)
    return fn(views, jnp.asarray(z["prototypes"]), tau=float(z["swav_tau"]), **knobs)[0].mean()
  one = 1 if case == "swav_ce_t" else 0  # which view's prediction
  logp = jax.nn.log_softmax(near[:, one] / float(z["swav_tau"]), -1)
  return -(targets[1 - one] * logp).sum(-1).mean()


@_cases("secrets_rm")
def test_secrets_rm(case):
  z, fn = golden_files.load("secrets_rm"), _fn("secrets_rm", case)
  if case.startswith("meta_"):
    what = case.removeprefix("meta_")
    return _same("secrets_rm", case, _meta_step(z)[what], "grad" in case)
  if case.startswith(("q_", "swav", "simcse")):
    return _same("secrets_rm", case, _contrast(z, case))
  if case.startswith("moss"):
    score = jnp.stack(jnp.split(jnp.asarray(z["moss_logits"], jnp.float32), 2), 1)
    loss, grad = jax.value_and_grad(lambda s: fn(s)[0].mean())(score)
    ours = loss if case == "moss_loss" else jnp.concatenate([grad[:, 0], grad[:, 1]])
    return _same("secrets_rm", case, ours, "grad" in case)
  score = jnp.stack([jnp.asarray(z["diff"]), jnp.zeros(z["diff"].shape)], 1)
  smooth = {"label_smoothing": float(z["alpha"])} if "ls" in case else {}
  rest = (jnp.asarray(z["ens_mean"]),) if "margin" in case else ()
  _same("secrets_rm", case, fn(score, *rest, **smooth)[0])


@pytest.mark.parametrize("case", ["orlhf_pairwise", "orlhf_pairwise_margin", "orlhf_logexp"])
def test_rl_misc_reward_losses(case):
  z = golden_files.load("rl_misc")
  score = _stack(z, "rm_chosen", "rm_rejected")
  losses = objectives.bradley_terry(score)[0]
  if case.endswith("margin"):
    losses = objectives.bradley_terry_margin(score, jnp.asarray(z["rm_margin"]))[0]
  np.testing.assert_allclose(losses.mean(), z[case], rtol=2e-5, atol=2e-6)


def test_rl_misc_packed_sums_stay_within_their_segments():
  """Rows [chosen 0, rejected 0, ...] behind each other; the last place of each predicts nothing."""
  z = golden_files.load("rl_misc")
  cu = z["packed_cu"]
  place = np.arange(cu[-1])
  segment = np.searchsorted(cu, place, side="right") - 1
  # the mask belongs to tokens, a log-probability to the place before its token
  counts = np.append(z["packed_mask"][1:], False) & ~np.isin(place, cu[1:] - 1)
  count = jnp.asarray(counts, jnp.float32)
  sums = lambda x: jax.ops.segment_sum(x, segment, len(cu) - 1).reshape(-1, 2)
  logp, ref, length = (sums(x * count) for x in (z["packed_logp"], z["packed_ref"], 1.0))
  for ours, name in ((logp, "policy_logps"), (ref, "ref_logps"), (length, "lens")):
    np.testing.assert_allclose(ours, z[f"packed_{name}"], rtol=2e-5, atol=2e-6, err_msg=name)
  loss, _ = objectives.ipo(logp, ref, length)
  wanted = objectives.ipo(*(z[f"packed_{n}"] for n in ("policy_logps", "ref_logps", "lens")))[0]
  np.testing.assert_allclose(loss, wanted, rtol=2e-5)
