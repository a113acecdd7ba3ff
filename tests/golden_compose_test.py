"""Sums of terms, wrappers and reference-free objectives against what other implementations gave.

The terms of a case stand in its table as in a config; they are resolved, weighted and reduced by
the package, so the whole way from a config to a loss is compared.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden_files import composed, load, outputs, parameters

from jaxpref import assemble, call, mixes, numerics, reduce
from jaxpref.objectives.tdpo import sequential_kl

GRADIENTS = ("grad", "gc", "gr", "gx", "gw", "gb")


def _terms(file, case):
  """The terms of a case."""
  found = parameters(file)[case]["terms"]
  sections = {key: mixes.section(**term) for key, term in found.items()}
  return assemble.terms(sections)


def _each(terms, arrays):
  """Weighted losses [B] of the terms that have no token axis, and all metrics."""
  total, metrics = 0.0, {}
  for term in terms:
    loss, found = call.feed(term.fn, arrays)
    metrics |= found
    total += term.weight * loss if loss.ndim == 1 else 0.0
  return total, metrics


def _mean(terms, arrays):
  """The loss of a step, each term reduced as the loop reduces it."""
  total, metrics, weight = 0.0, {}, jnp.ones(arrays["logp"].shape[0])
  for term in terms:
    loss, found = call.feed(term.fn, arrays)
    metrics |= found
    shared = {"mask": arrays["mask"][:, : loss.shape[1]]} if loss.ndim == 3 else {}
    mode = term.mode or reduce.default_mode(loss.ndim)
    weights = reduce.weights(mode, loss.ndim, weight=weight, **shared)
    total += term.weight * (weights * loss).sum()
  return total, metrics


def _compare(file, case, ours, skip=(), where=1.0, loose=None):
  """Every array of the case; gradients where `where`; `loose`: rtol of large exponentials."""
  wanted = outputs(file, case)
  assert wanted, f"{file} has no array of case {case}"
  assert set(wanted) == set(ours) | set(skip), (file, case)
  for what in ours:
    rtol, counted = (1e-4, where) if what in GRADIENTS else (2e-5, 1.0)
    counted = counted[what] if isinstance(counted, dict) else counted
    left, right = np.asarray(ours[what]) * counted, wanted[what] * counted
    message = f"{file}:{case}:{what}"
    np.testing.assert_allclose(left, right, rtol=loose or rtol, atol=2e-6, err_msg=message)


def _pairs(rows):
  """Rows [chosen..., rejected...] as [B, 2, ...]."""
  return jnp.stack(jnp.split(jnp.asarray(rows), 2), 1)


def _measured(token_logp, mask, ref=None):
  """All arrays that the terms read, from token log-probabilities [B, K, T]."""
  found = {"token_logp": token_logp, "mask": mask, "logp": (token_logp * mask).sum(-1)}
  found["length"] = mask.sum(-1)
  if ref is not None:
    found |= {"ref_token_logp": ref, "ref_logp": (ref * mask).sum(-1)}
  return found


@pytest.mark.parametrize("case", composed("trl_dpo"))
def test_trl_dpo(case):
  z, terms = load("trl_dpo"), _terms("trl_dpo", case)
  mask, collision = _pairs(z["mask"]), {"collision": _pairs(z["log_sum_sq_probs"])}

  def arrays(x):
    return _measured(_pairs(x), mask, _pairs(z["ref_logp"])) | collision

  loss, grad = jax.value_and_grad(lambda x: _mean(terms, arrays(x))[0])(jnp.asarray(z["logp"]))
  ours = {"loss": loss, "grad": grad}
  if "pair" in outputs("trl_dpo", case):
    ours["pair"] = _each(terms, arrays(jnp.asarray(z["logp"])))[0]
  # the golden README: looser where log-ratios are exponentiated
  loose = 1e-3 if "forward_kl" in case or "alpha_divergence" in case else None
  _compare("trl_dpo", case, ours, where=z["mask"], loose=loose)


@pytest.mark.parametrize("case", composed("trl_dpo_legacy"))
def test_trl_dpo_legacy(case):
  z, terms = load("trl_dpo_legacy"), _terms("trl_dpo_legacy", case)
  ref = jnp.stack([z["ref_chosen"], z["ref_rejected"]], 1)
  logp = jnp.stack([z["pol_chosen"], z["pol_rejected"]], 1)
  losses = lambda x: _each(terms, {"logp": x, "ref_logp": ref})[0]
  grad = jax.grad(lambda x: losses(x).sum())(logp)
  ours = {"losses": losses(logp), "gc": grad[:, 0], "gr": grad[:, 1]}
  _compare("trl_dpo_legacy", case, ours, loose=1e-3 if "alpha" in case else None)


@pytest.mark.parametrize("case", composed("trl_reference_free"))
def test_trl_reference_free(case):
  if case.startswith("tpo_"):
    return _tpo(case)
  z, terms = load("trl_reference_free"), _terms("trl_reference_free", case)
  row = parameters("trl_reference_free")[case]
  logp = jnp.stack([z[f"{row['input']}_{which}"] for which in ("chosen", "rejected")], 1)
  logp = jnp.maximum(logp, row.get("least", -jnp.inf))  # alphapo_1 was recorded on clamped inputs

  def losses(x):
    return _each(terms, {"logp": x, "length": jnp.ones_like(x)})

  grad = jax.grad(lambda x: losses(x)[0].sum())(logp)
  found, metrics = losses(logp)
  ours = {"gc": grad[:, 0], "gr": grad[:, 1]}
  if case == "orpo":  # recorded with the other sign, and as it is reported
    ours = {k: -v for k, v in ours.items()} | {"beta_logsigmoid": -found}
    odds = metrics["log_odds"]
    ours |= {"mean_log_odds": odds.mean(), "mean_ratio": jax.nn.log_sigmoid(odds).mean()}
    return _compare("trl_reference_free", case, ours)
  ours |= {"losses": found, "rewards_c": metrics["rewards/chosen"]}
  _compare("trl_reference_free", case, ours | {"rewards_r": metrics["rewards/rejected"]})


def _tpo(case):
  """Three candidates, ours best first: gold, chosen, rejected."""
  z, terms = load("trl_reference_free"), _terms("trl_reference_free", case)
  targets = np.where(z["tpo_mask"] > 0, z["tpo_ids"], -100)[:, 1:]

  def loss(logits):
    token_logp, mask = _scored(logits[:, :-1], targets)
    three = lambda x: jnp.stack([jnp.split(x, 3)[k] for k in (2, 0, 1)], 1)
    return _mean(terms, _measured(three(token_logp), three(mask)))[0]

  value, grad = jax.value_and_grad(loss)(jnp.asarray(z["tpo_logits"]))
  norms = jnp.sqrt(jnp.square(grad).sum((1, 2)))
  _compare("trl_reference_free", case, {"loss": value, "gradnorm_rows": norms})


def _scored(logits, targets):
  """f32[N, T] log-probability of each target, and 1 where the target is not -100."""
  mask = (targets != -100).astype(np.float32)
  index = np.where(targets == -100, 0, targets)[..., None]
  picked = jnp.take_along_axis(jax.nn.log_softmax(logits), index, -1)[..., 0]
  return picked * mask, jnp.asarray(mask)


@pytest.mark.parametrize("case", composed("liger_preference"))
def test_liger_preference(case):
  z, terms = load("liger_preference"), _terms("liger_preference", case)
  ref = _pairs(_scored(jnp.asarray(z["rx"]) @ z["rw"].T + z["rb"], z["t"])[0])

  def batch_loss(x, w, b):
    token_logp, mask = map(_pairs, _scored(x @ w.T + b, z["t"]))
    arrays = _measured(token_logp, mask, ref)
    loss, metrics = _mean(terms, arrays)
    return loss, (metrics, arrays)

  value = jax.value_and_grad(batch_loss, argnums=(0, 1, 2), has_aux=True)
  (loss, (metrics, arrays)), grads = value(*(jnp.asarray(z[k]) for k in ("x", "w", "b")))
  ours = dict(zip(("gx", "gw", "gb"), grads, strict=True)) | {"loss": loss}
  ours |= _liger_report(terms, metrics, arrays)
  # means of raw logits are no quantity of an objective
  _compare("liger_preference", case, ours, ("chosen_logits_mean", "rejected_logits_mean"))


def _liger_report(terms, metrics, arrays):
  """What Liger reports: averages where the loss takes averages, rewards in its units."""
  main = next(t for t in terms if t.name == "main")
  logp, scale = arrays["logp"], 1.0
  reward = jnp.stack([metrics["rewards/chosen"], metrics["rewards/rejected"]], 1)
  if "length" in call.needs(main.fn):
    logp = numerics.average_logp(logp, arrays["length"])
  if main.fn.__name__ == "odds_ratio":
    scale = main.weight
  if main.fn.__name__ == "dpo_norm":  # Liger's rewards are of averages, whatever ours are
    beta = call.knobs(main.fn)["beta"]
    reward = beta * numerics.average_logp(arrays["logp"] - arrays["ref_logp"], arrays["length"])
  out = {"chosen_logps": logp[:, 0], "rejected_logps": logp[:, 1]}
  out |= {"chosen_rewards": scale * reward[:, 0], "rejected_rewards": scale * reward[:, 1]}
  mask = arrays["mask"][:, :1]
  nll = metrics.get("nll", jnp.zeros_like(mask))
  out["nll"] = (reduce.weights("token", 3, mask=mask) * nll).sum()
  if "log_odds" in metrics:
    odds = metrics["log_odds"]
    out |= {"log_odds_chosen": odds.mean()}
    out |= {"log_odds_ratio": jax.nn.log_sigmoid(odds).mean()}
  return out


@pytest.mark.parametrize("case", composed("paper_offline"))
def test_paper_offline(case):
  z, terms = load("paper_offline"), _terms("paper_offline", case)
  one = {"rrhf": _rrhf, "tdpo1": _tdpo, "tdpo2": _tdpo}.get(case, _paper_pair)
  if case.startswith("halo_"):
    one = _halo
  elif case.startswith("tdpo_"):
    one = _tdpo_measures
  ours = one(z, terms, case)
  where = {"gc": z["halo_pol_c"] != 0, "gr": z["halo_pol_r"] != 0}
  _compare("paper_offline", case, ours, where=where if case.startswith("halo_") else 1.0)


def _paper_pair(z, terms, case):
  """Sequence-level cases: `loss` is per pair, or the batch mean where it is a scalar."""
  logp = jnp.stack([z["pol_chosen"], z["pol_rejected"]], 1)
  ref = jnp.stack([z["ref_chosen"], z["ref_rejected"]], 1)
  length = jnp.stack([z["len_chosen"], z["len_rejected"]], 1)
  most = int(length.max())
  mask = (jnp.arange(most) < length[..., None]).astype(jnp.float32)
  scalar = outputs("paper_offline", case)["loss"].ndim == 0
  averages = "length" in call.needs(terms[0].fn)  # recorded on averages of these sums

  def arrays(x):
    sums = x * length if averages else x
    return _measured(sums[..., None] * mask / length[..., None], mask) | {"ref_logp": ref}

  def loss(x):
    return _mean(terms, arrays(x))[0] if scalar else _each(terms, arrays(x))[0]

  logp = logp / length if averages else logp
  grad = jax.grad(lambda x: loss(x).sum())(logp)
  names = ("gc", "gr") if scalar else ("g0", "g1")
  return {"loss": loss(logp)} | {n: grad[:, k] for k, n in enumerate(names)}


def _rrhf(z, terms, case):
  del case
  rest = {"relevance": jnp.asarray(z["rrhf_rewards"])[None]}
  ones = jnp.ones_like(rest["relevance"])
  loss = lambda x: _each(terms, rest | {"logp": x[None], "length": ones, "present": ones})[0][0]
  value, grad = jax.value_and_grad(loss)(jnp.asarray(z["rrhf_scores"]))
  return {"loss": value, "grad": grad}


def _tdpo(z, terms, case):
  """Recorded on margins and KLs; two logits at one token have any KL that one wants of them."""
  del case
  margin = jnp.stack([z["pol_chosen"] - z["ref_chosen"], z["pol_rejected"] - z["ref_rejected"]], 1)
  kl = jnp.stack([z["seqkl_chosen"], z["seqkl_rejected"]], 1)
  assert (kl > 0).all()

  def losses(margin, kl):
    # KL(uniform of 2 || logits (x, 0)) = log cosh(x / 2)
    x = 2 * jnp.arccosh(jnp.exp(kl))
    logits = jnp.stack([x, jnp.zeros_like(x)], -1)[:, :, None]
    same = {"ref_logits": jnp.zeros_like(logits), "mask": jnp.ones_like(logits[..., 0])}
    given = {"logp": margin, "ref_logp": jnp.zeros_like(margin), "logits": logits}
    return _each(terms, same | given)[0]

  grads = jax.grad(lambda *x: losses(*x).sum(), argnums=(0, 1))(margin, kl)
  names = (("g_margin_c", "g_margin_r"), ("g_kl_c", "g_kl_r"))
  ours = {n: g[:, k] for pair, g in zip(names, grads, strict=True) for k, n in enumerate(pair)}
  return ours | {"loss": losses(margin, kl)}


def _tdpo_measures(z, terms, case):
  """What the objective reads and makes of logits: log-probabilities, log-ratios, KLs."""
  del terms
  targets = z["tdpo_labels"][:, 1:]
  logits, ref = (jnp.asarray(z[k])[:, :-1] for k in ("tdpo_logits", "tdpo_ref_logits"))
  token_logp, mask = _scored(logits, targets)
  margin = (token_logp - _scored(ref, targets)[0]).sum(1)
  kl = sequential_kl(logits, ref, mask)
  found = {"tdpo_margin": margin, "tdpo_position_kl": kl, "tdpo_logps": token_logp.sum(1)}
  return {"value": found[case]}


def _halo(z, terms, case):
  """Token-level cases; the gradient is that of the summed losses, at every position."""
  tokens = jnp.stack([z["halo_pol_c"], z["halo_pol_r"]], 1)
  ref = jnp.stack([z["halo_ref_c"], z["halo_ref_r"]], 1)
  if "baseline" in call.needs(terms[0].fn):
    return _halo_kto(z, terms, tokens, ref)
  ratio = "ref_token_logp" in call.needs(terms[0].fn)
  # HALOs divides by the number of log-ratios that are not 0
  length = (tokens != ref if ratio else tokens != 0).astype(jnp.float32).sum(-1)
  rest = {"mask": jnp.ones_like(tokens), "ref_token_logp": ref, "length": length}
  losses = lambda x: _each(terms, rest | {"token_logp": x})[0]
  grad = jax.grad(lambda x: losses(x).sum())(tokens)
  return {"losses": losses(tokens), "gc": grad[:, 0], "gr": grad[:, 1]}


def _halo_kto(z, terms, tokens, ref):
  """KTO: the baseline is clamped, too, which is the loop's business and is done here by hand."""
  bounds = parameters("paper_offline")["halo_kto_hl1"]["terms"]["main"]["around"]
  ratio = np.clip(z["halo_kl_pol"] - z["halo_kl_ref"], bounds["lower"], bounds["upper"])
  kl = max(0.0, float(ratio.sum(1).mean()))
  flat = lambda x: jnp.concatenate([x[:, 0], x[:, 1]])[:, None]  # chosen, then rejected
  good = jnp.broadcast_to(jnp.asarray([1.0, 0.0]), tokens.shape[:2])
  rest = {"ref_token_logp": flat(ref), "relevance": flat(good)}
  rest |= {"mask": jnp.ones_like(flat(ref)), "baseline": jnp.full(len(flat(ref)), kl)}
  losses = lambda x: _each(terms, rest | {"token_logp": flat(x)})[0]
  grad = jax.grad(lambda x: losses(x).sum())(tokens)
  return {"losses": losses(tokens), "gc": grad[:, 0], "gr": grad[:, 1], "KL": kl}
