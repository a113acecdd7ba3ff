"""Writes golden files of lists in other sizes, from the float64 definitions.

Same names and arrays as in `golden/`, to show that the tests take sizes from the arrays.
"""

import definitions
import definitions_lists
import golden_files
import numpy as np

ME = "golden_lists_test"
RNG = np.random.default_rng


def write(folder) -> None:
  """All files into `folder`."""
  for make in (_rax_listwise, _irpo, _trl_online):
    np.savez(folder / f"{make.__name__[1:]}.npz", **make())


def _rows(name):
  for case in golden_files.covered(name, ME):
    yield case, golden_files.parameters(name)[case], golden_files.knobs(name, case)


def _ranks(rows, k, seed):
  return np.argsort(RNG(seed).random((rows, k)), 1).astype(np.float64)


def _rax_listwise():
  score = RNG(0).normal(0.0, 1.5, (3, 4))
  out = {"scores": score, "scores_big": 9 * score, "where": np.ones((3, 4), bool)}
  out["where"][0, 2] = False
  out |= {"labels_rank": _ranks(3, 4, 1), "labels_psi": RNG(2).random((3, 4)).round(2)}
  out |= {"labels_ties": _ranks(3, 4, 3) // 2, "labels_bin": _ranks(3, 4, 4) // 2}
  for case, row, knobs in _rows("rax_listwise"):
    x, grades = out[row.get("score", "scores")], out[row["relevance"]]
    there = out["where"] if "present" in row else np.ones_like(x)
    if case.startswith("metric_opa"):
      asked = grades[:, :, None] > grades[:, None, :]
      right = asked & (x[:, :, None] > x[:, None, :])
      out[case] = right.sum((1, 2)) / asked.sum((1, 2))
    elif case.startswith("metric_"):
      out[case] = definitions_lists.metric(row["fn"], x, grades, there, **knobs)
    else:
      size = 4 if row.get("times_size") else 1
      fn = lambda s, row=row, rest=(grades, there), knobs=knobs, size=size: (
        size * definitions_lists.LISTS[row["fn"]](s, *rest, **knobs)
      )
      out[f"{case}__losses"] = fn(x)
      out[f"{case}__grad"] = definitions.slope(lambda s, fn=fn: fn(s).sum(), x)
  return out


def _irpo():
  logp, ref = RNG(5).normal(-2.0, 1.0, (2, 3, 4))
  rank, grades = 1 + _ranks(3, 4, 6), _ranks(3, 4, 7) // 2
  out = {"policy_logps": logp, "ref_logps": ref, "relevance": grades, "rank": rank}
  out |= {"metric_scores": RNG(8).normal(size=(3, 25)), "metric_relevance": _ranks(3, 25, 9) // 9}
  out |= {
    "item_logits": RNG(10).normal(size=(3, 5, 4)),
    "item_ids": np.tile([0, 0, -1, 1, 1], (3, 1)),
  }
  out["item_input_ids"] = RNG(11).integers(0, 4, (3, 5))
  one = np.ones_like(logp)
  for case, row, knobs in _rows("irpo"):
    if case.startswith("metric_"):
      lists = (out["metric_scores"], out["metric_relevance"], np.ones((3, 25)))
      out[case] = definitions_lists.metric(row["fn"], *lists, **knobs)
    elif row["fn"] == "masked_mean":
      normal = out["item_logits"] - np.log(np.exp(out["item_logits"]).sum(-1, keepdims=True))
      picked = np.take_along_axis(normal, out["item_input_ids"][..., None], 2)[..., 0]
      out[case] = np.stack([picked[:, :2].mean(1), picked[:, 3:].mean(1)], 1)
    else:
      rest = (ref, one, grades, rank, one) if row["fn"] == "irpo" else (ref, one)
      fn = lambda x, fn=definitions_lists.LISTS[row["fn"]], rest=rest, knobs=knobs: fn(
        x, *rest, **knobs
      )
      total = lambda x, fn=fn: fn(x).sum()
      found = {"per": fn, "losses": fn, "total": total}
      grad = row["what"] == "grad"
      out[case] = definitions.slope(total, logp) if grad else found[row["what"]](logp)
  return out


def _trl_online():
  names = ("logp_model_on_model", "logp_ref_on_model", "logp_model_on_ref", "logp_ref_on_ref")
  out = dict(zip(names, -RNG(12).gamma(2.0, 0.5, (4, 3, 4)), strict=True))
  out |= {"chosen_mask": np.asarray([True, False, True]), "prob": np.asarray([0.2, 0.7, 0.9])}
  won = np.stack([out["chosen_mask"], ~out["chosen_mask"]], 1)
  ref = np.stack([out[n].sum(1) for n in names[1::2]], 1)
  both = lambda a, b: np.stack([a.sum(1), b.sum(1)], 1)
  own, other = out[names[0]], out[names[2]]
  for case, row, knobs in _rows("trl_online"):
    if row["fn"] == "nash_md":
      found = _nash_md(own, out[names[1]], out["prob"], **knobs)
      out |= {f"{case}__{k}": v for k, v in found.items()}
      continue
    fn = getattr(definitions_lists, row["fn"])
    total = lambda a, b, fn=fn, knobs=knobs: fn(both(a, b), ref, won, **knobs).mean()
    found = {"loss": total(own, other), "xpo": knobs["alpha"] * other.sum(1)}
    found["dpo"] = fn(both(own, other), ref, won, beta=knobs["beta"], alpha=0.0)
    found["g_model"] = definitions.slope(lambda x, t=total: t(x, other), own)
    found["g_ref"] = definitions.slope(lambda x, t=total: t(own, x), other)
    out |= {f"{case}__{k}": v for k, v in found.items()}
  return out


def _nash_md(own, ref, prob, beta):
  """The log-ratio is frozen under the gradient."""
  ratio = own - ref

  def total(x):
    return (beta * (ratio * x).sum(1) - (prob - 0.5) * x.sum(1)).mean()

  lists = (own[:, None], ref[:, None], np.ones((len(own), 1, own.shape[1])), prob)
  assert np.isclose(total(own), definitions_lists.nash_md(*lists, beta=beta).mean())
  found = {"loss": total(own), "grad": definitions.slope(total, own)}
  return found | {"score": (prob - 0.5) * own.sum(1), "kl_log": ratio.sum(1)}
