"""Writes golden files of other sizes from the float64 definitions, to show that sizes are read.

Same names and arrays as in `golden/`, for the cases whose function has a definition.
"""

import definitions
import definitions_pairs
import golden_files
import numpy as np

from jaxpref import call, objectives

RNG = np.random.default_rng


def write(folder) -> None:
  """All files into `folder`."""
  makers = (_trl_dpo, _trl_dpo_legacy, _trl_unpaired, _trl_reference_free, _trl_reward)
  for make in (*makers, _liger_preference, _paper_offline, _pref_ranking):
    name = make.__name__[1:]
    np.savez(folder / f"{name}.npz", **make(name))


def _defined(fn):
  """The definition of a function, or nothing."""
  return getattr(definitions, fn, None) or getattr(definitions_pairs, fn, None)


def cases(name):
  """Cases of a file whose function has a definition."""
  rows = golden_files.parameters(name)
  has = lambda row: row["fn"] == "nll" or _defined(row["fn"])
  return [case for case in golden_files.covered(name) if has(rows[case])]


def _cases(name):
  """(case, its row, definition with knobs) of a file."""
  for case in cases(name):
    row = golden_files.parameters(name)[case]
    fn, knobs = _defined(row["fn"]), golden_files.knobs(name, case)
    yield case, row, lambda *arrays, fn=fn, knobs=knobs: fn(*arrays, **knobs)


def _rest(row, arrays):
  """What a function reads after `logp`, by its signature."""
  return [arrays[k] for k in call.needs(getattr(objectives, row["fn"])) if k != "logp"]


def _pairs(rows):
  return np.stack(np.split(rows, 2), 1)


def _trl_dpo(name):
  mask = (RNG(0).random((6, 5)) < 0.7).astype(np.float32)
  mask[:, 2] = 1
  logp, ref = -RNG(1).gamma(2.0, 0.5, (2, 6, 5)) * mask
  out = {"logp": logp, "ref_logp": ref, "mask": mask}
  length, refs = _pairs(mask.sum(1)), _pairs(ref.sum(1))
  for case, row, fn in _cases(name):
    arrays = {"ref_logp": refs, "length": length, "weight": np.ones(3)}
    if row["fn"] == "nll":
      batch = lambda x: definitions.token_mean_nll(_pairs(x), _pairs(mask))
    else:
      rest = _rest(row, arrays)
      batch = lambda x, fn=fn, rest=rest: fn(_pairs((x * mask).sum(1)), *rest).mean()
      pair = fn(_pairs(logp.sum(1)), *rest)
    if "metric" in row:
      out[case] = _metric(row, case, name, _pairs(logp.sum(1)), refs).mean()
      continue
    out |= {f"{case}__loss": batch(logp), f"{case}__grad": definitions.slope(batch, logp)}
    coupled = row["fn"] in ("nll", "aot", "aot_unpaired")
    out |= {} if coupled else {f"{case}__pair": pair}
  return out


def _metric(row, case, name, logp, ref):
  reward = golden_files.knobs(name, case)["beta"] * (logp - ref)
  return {
    "rewards/chosen": reward[:, 0],
    "rewards/rejected": reward[:, 1],
    "rewards/margins": reward[:, 0] - reward[:, 1],
    "rewards/accuracies": np.float64(reward[:, 0] > reward[:, 1]),
    "logps/chosen": logp[:, 0],
    "logps/rejected": logp[:, 1],
  }[row["metric"]]


def _sums(count, seed):
  logp, ref = RNG(seed).normal(-20.0, 4.0, (2, count, 2))
  names = ("pol_chosen", "pol_rejected", "ref_chosen", "ref_rejected")
  return logp, ref, dict(zip(names, (*logp.T, *ref.T), strict=True))


def _trl_dpo_legacy(name):
  logp, ref, out = _sums(3, seed=2)
  for case, row, fn in _cases(name):
    if "metric" in row:
      out[case] = _metric(row, case, name, logp, ref)
      continue
    rest = _rest(row, {"ref_logp": ref, "weight": np.ones(3)})
    grad = definitions.slope(lambda x, fn=fn, rest=rest: fn(x, *rest).sum(), logp)
    losses = fn(logp, *rest)
    if row["fn"] in ("aot", "aot_unpaired"):  # in the order of the ranks
      ranked = logp[:, 0] - (logp[:, 1] if row["fn"] == "aot" else ref[:, 0])
      losses = losses[np.argsort(ranked)]
    out |= {f"{case}__losses": losses, f"{case}__gc": grad[:, 0], f"{case}__gr": grad[:, 1]}
  return out | _bco_steps(name, logp, ref)


def _bco_steps(name, logp, ref):
  """BCO with the mean of the batch means so far."""
  out, means = {}, []
  for case in golden_files.covered(name):
    if golden_files.parameters(name)[case]["fn"] != "bco_pair_shifted":
      continue
    beta = golden_files.knobs(name, case)["beta"]
    means.append(beta * (logp - ref).mean())
    delta = np.mean(means)
    fn = lambda x, beta=beta, d=delta: definitions_pairs.bco_pair(x, ref, beta, d)
    grad = definitions.slope(lambda x, fn=fn: fn(x).sum(), logp)
    found = {"losses": fn(logp), "gc": grad[:, 0], "gr": grad[:, 1], "delta": delta}
    out |= {f"{case}__{what}": value for what, value in found.items()}
  return out


def _trl_unpaired(name):
  logp, ref = RNG(3).normal(-20.0, 4.0, (2, 8, 1))
  pol_kl, ref_kl = RNG(4).normal(-20.0, 1.0, (2, 3)) + [[0.5], [0.0]]
  out = {"pol_chosen": logp[:3, 0], "pol_rejected": logp[3:, 0], "ref_chosen": ref[:3, 0]}
  out |= {"ref_rejected": ref[3:, 0], "pol_kl": pol_kl, "ref_kl": ref_kl}
  good = (np.arange(8) < 3).astype(np.float64)[:, None]
  for case, row, fn in _cases(name):
    shifted = pol_kl + 1.0 if case == "kto_poskl" else pol_kl
    rows = {"kto_onlychosen": slice(0, 3), "kto_onlyrejected": slice(3, 8)}.get(case, slice(0, 8))
    kl = row.get("baseline", max(0.0, (shifted - ref_kl).mean()))
    losses = lambda x, fn=fn, rows=rows, kl=kl: fn(x, ref[rows], good[rows], np.full(len(x), kl))
    grad = definitions.slope(lambda x, losses=losses: losses(x).mean(), logp[rows])[:, 0]
    chosen = int(good[rows].sum())
    out |= {f"{case}__losses": losses(logp[rows]), f"{case}__kl": kl}
    out |= {f"{case}__gc": grad[:chosen], f"{case}__gr": grad[chosen:]}
    out |= {f"{case}__pol_kl": shifted} if case == "kto_poskl" else {}
  return out


def _scores(logits, targets):
  """float64[N, T] log-probabilities of the targets (0 where -100) and the mask."""
  mask = targets != -100
  normal = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  picked = np.take_along_axis(normal, np.where(mask, targets, 0)[..., None], -1)[..., 0]
  return np.where(mask, picked, 0.0), mask.astype(np.float64)


def _targets(rows, length, words, seed):
  targets = RNG(seed).integers(0, words, (rows, length))
  targets[:, 0] = -100
  targets[::2, -1] = -100
  return targets


def _trl_reference_free(name):
  averages = -RNG(5).gamma(2.0, 1.0, (4, 2))
  labels, logits = _targets(8, 5, 6, seed=6), RNG(7).normal(0.0, 2.0, (8, 5, 6))
  out = {"avg_chosen": averages[:, 0], "avg_rejected": averages[:, 1]}
  out |= {"labels": labels, "logits": logits}
  token_logp, mask = _scores(logits[:, :-1], labels[:, 1:])
  out["nll_chosen"] = definitions.token_mean_nll(_pairs(token_logp), _pairs(mask))
  out["logps_sum"], out["logps_avg"] = token_logp.sum(1), token_logp.sum(1) / mask.sum(1)
  for case, row, fn in _cases(name):
    if row["fn"] != "simpo":
      continue
    ones, beta = np.ones_like(averages), golden_files.knobs(name, case)["beta"]
    grad = definitions.slope(lambda x, fn=fn, ones=ones: fn(x, ones).sum(), averages)
    out |= {f"{case}__losses": fn(averages, ones), f"{case}__rewards_c": beta * averages[:, 0]}
    out |= {f"{case}__rewards_r": beta * averages[:, 1]}
    out |= {f"{case}__gc": grad[:, 0], f"{case}__gr": grad[:, 1]}
  return out


def _trl_reward(name):
  out = {"scores": RNG(8).normal(0.0, 2.0, 6)}
  for case, _, fn in _cases(name):
    batch = lambda s, fn=fn: fn(_pairs(s)).mean()
    right = np.subtract(*np.split(out["scores"], 2)) > 0
    out |= {f"{case}__loss": batch(out["scores"]), f"{case}__accuracy": right.mean()}
    out[f"{case}__grad"] = definitions.slope(batch, out["scores"])
  return out


def _liger_preference(name):
  x, w, b = RNG(9).normal(size=(6, 4, 3)), RNG(10).normal(size=(5, 3)), RNG(11).normal(size=5)
  rx, rw, rb = x + 0.1 * RNG(12).normal(size=x.shape), w * 1.1, b - 0.1
  t, labels = _targets(6, 4, 5, seed=13), np.arange(6) % 3 == 0
  out = dict(x=x, w=w, b=b, rx=rx, rw=rw, rb=rb, t=t, kto_labels=labels)
  refs = _pairs(_scores(rx @ rw.T + rb, t)[0].sum(1))
  for case, row, fn in _cases(name):

    def batch(x, w, b, row=row, fn=fn):
      token_logp, mask = _scores(x @ w.T + b, t)
      sums, length = token_logp.sum(1), mask.sum(1)
      if row["fn"] == "kto":
        sums = sums / length if row["average"] else sums
        z0 = np.full(len(sums), row["baseline"])
        return fn(sums[:, None], 0 * sums[:, None], labels[:, None], z0).mean()
      return fn(_pairs(sums), _pairs(length) if row["fn"] == "simpo" else refs).mean()

    out[f"{case}__loss"] = batch(x, w, b)
    out[f"{case}__gx"] = definitions.slope(lambda v, f=batch: f(v, w, b), x)
    out[f"{case}__gw"] = definitions.slope(lambda v, f=batch: f(x, v, b), w)
    out[f"{case}__gb"] = definitions.slope(lambda v, f=batch: f(x, w, v), b)
  return out


def _paper_offline(name):
  logp, ref, out = _sums(4, seed=14)
  length = RNG(15).integers(3, 9, (4, 2)).astype(np.float64)
  out |= {"len_chosen": length[:, 0], "len_rejected": length[:, 1]}
  tokens, refs = -RNG(16).gamma(2.0, 0.5, (2, 4, 2, 7))
  tokens[0, 1, 4:] = refs[0, 1, 4:] = 0.0
  out |= {"halo_pol_c": tokens[:, 0], "halo_pol_r": tokens[:, 1]}
  out |= {"halo_ref_c": refs[:, 0], "halo_ref_r": refs[:, 1]}
  out["halo_kl_pol"], out["halo_kl_ref"] = RNG(17).normal(-2.0, 1.0, (2, 4, 7))
  out["sppo_p_win"], out["sppo_p_lose"], out["wpo_weight"] = RNG(19).uniform(0.05, 0.95, (3, 4))
  for case, row, fn in _cases(name):
    if case.startswith("halo_"):
      out |= _halo(case, row["fn"], fn, tokens, refs, out)
      continue
    inputs, rest = _paper_inputs(case, row, logp, ref, length, out)
    recorded = golden_files.outputs(name, case)  # a batch mean, or one loss per pair
    mean = recorded["loss"].ndim == 0
    total = np.mean if mean else np.sum
    losses = fn(inputs, *rest)
    value = lambda x, fn=fn, rest=rest, total=total: total(fn(x, *rest))
    if row["fn"] == "wpo_length":  # its weight gets no gradient
      value = lambda x, fn=fn, rest=(*rest, out["wpo_weight"]): _weighed(x, *rest, fn)
    grad = definitions.slope(value, inputs)
    if row["fn"] == "cal_dpo":  # the mean of the squares in every pair
      logistic = definitions.dpo(logp, ref, 1.0)
      losses = logistic + (losses - logistic).mean()
    names = ("gc", "gr") if "gc" in recorded else ("g0", "g1")
    out[f"{case}__loss"] = losses.mean() if mean else losses
    out |= {f"{case}__{what}": grad[:, k] for k, what in enumerate(names)}
  return out


def _paper_inputs(case, row, logp, ref, length, out):
  """Policy log-probabilities of a sequence-level case, and what its function reads after them."""
  if row["fn"] == "simpo":
    return logp / length, [np.ones_like(logp)]
  if "margin" in row:
    return logp / length, [np.tile([row["margin"], 0.0], (len(logp), 1))]
  if row["fn"] == "wpo_length":
    length = np.tile((logp.sum(1) / np.log(out["wpo_weight"]))[:, None], 2)
  chances = np.stack([out["sppo_p_win"], out["sppo_p_lose"]], 1)
  return logp, _rest(row, {"ref_logp": ref, "length": length, "reward": chances})


def _weighed(x, ref, length, weight, fn):
  """The summed loss with the recorded weights instead of those of `x`."""
  own = np.minimum(1.0, np.exp((x / length).sum(1)))
  return (fn(x, ref, length) / own * weight).sum()


def _halo(case, name, fn, tokens, refs, out):
  length = (tokens != 0).sum(2).astype(np.float64)
  rest = {"ipo": (refs.sum(2), length), "simpo": (length,)}.get(name, (refs.sum(2),))

  def losses(x):
    if name != "kto":
      return fn(x.sum(2), *rest)
    flat = lambda y: np.concatenate([y[:, 0], y[:, 1]]).sum(1)[:, None]
    good = np.repeat([1.0, 0.0], len(x))[:, None]
    return fn(flat(x), flat(refs), good, np.full(2 * len(x), kl))

  kl = max(0.0, (out["halo_kl_pol"] - out["halo_kl_ref"]).sum(1).mean())
  grad = definitions.slope(lambda x: losses(x).sum(), tokens)
  found = {"losses": losses(tokens), "gc": grad[:, 0], "gr": grad[:, 1]}
  found |= {"KL": kl} if name == "kto" else {}
  return {f"{case}__{what}": value for what, value in found.items()}


def _pref_ranking(name):
  logp, ref = RNG(18).normal(-200.0, 40.0, (2, 2, 7))
  out = {"logps_pc_pr_rc_rr": np.concatenate([logp, ref]), "beta": np.asarray(0.1)}
  for case, row, _ in _cases(name):
    knobs = golden_files.knobs(name, case) | {"beta": 0.1}
    own = ref.T * row.get("reference", True)
    fn = lambda x, row=row, knobs=knobs, own=own: _defined(row["fn"])(x.T, own, **knobs)
    out[f"loss_{case}"] = fn(logp)
    out[f"grad_{case}"] = definitions.slope(lambda x, fn=fn: fn(x).sum(), logp)
  return out
