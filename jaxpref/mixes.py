"""Published methods that are several terms, or an objective inside a wrapper, by their names.

A table and nothing else: `configs/offline.py:objective=mpo` gives the terms, each a section of the
config, so that every weight and knob can be set: `--config.objectives.nll.term_weight=0.5`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpref import call, objectives, update, vocabulary, wrappers
from jaxpref import config as cfg
from jaxpref.types import Refused


class Mix(NamedTuple):
  """One method: what it is, its terms (`fn`, knobs, `term_weight`, `reduce`, `around`), source."""

  what: str
  terms: dict[str, dict]
  source: str


def _around(fn, **knobs):
  return {"fn": fn, **knobs}


def _divergence(name, **knobs):
  return Mix(
    f"DPO under {name}",
    {"main": {"fn": "dpo", "around": _around("f_divergence", **knobs)}},
    "Wang et al. (2023), Table 1.",
  )


NLL = {"fn": "nll"}  # mean over all tokens of the batch
MEAN_NLL = {"fn": "nll", "reduce": "sequence"}  # mean over responses of their means over tokens
GOLD = _around("without_gold")

MIXES = {
  "alpha_dpo_divergence": _divergence("an alpha-divergence", divergence="alpha", alpha=0.5),
  "cpo": Mix(
    "Contrastive preference optimisation",
    {"main": {"fn": "cpo"}, "nll": NLL},
    "Xu et al. (2024), eq. 6.",
  ),
  "cpo_simpo": Mix(
    "SimPO kept near the preferred responses",
    {"main": {"fn": "simpo"}, "nll": NLL},
    "CPO_SIMPO repository; Catalogue 1, section 3.",
  ),
  "dpo_sft": Mix(
    "DPO with a little supervised loss per token of each preferred response",
    {"main": {"fn": "dpo"}, "nll": MEAN_NLL | {"term_weight": 0.2}},
    "oat repository (`sft_weight`); Catalogue 1, section 2.",
  ),
  "forward_kl_dpo": _divergence("forward KL", divergence="forward_kl"),
  "humanline_dpo": Mix(
    "DPO with clamped token log-ratios",
    {"main": {"fn": "dpo", "around": _around("humanline")}},
    "HALOs repository; Catalogue 1, section 4.",
  ),
  "js_dpo": _divergence("the Jensen-Shannon divergence", divergence="js"),
  "lcpo_cpo": Mix(
    "CPO with learnt reliability of the labels; the likelihood term adds 1 to CPO's beta of 0.1",
    {"main": {"fn": "cpo", "beta": 1.1, "around": _around("lcpo")}},
    "Cao et al. (2025), Table 1.",
  ),
  "lcpo_dpo": Mix(
    "DPO with learnt reliability of the labels",
    {"main": {"fn": "dpo", "around": _around("lcpo")}},
    "Cao et al. (2025), Table 1.",
  ),
  "lcpo_ipo": Mix(
    "Summed IPO with learnt reliability of the labels",
    {"main": {"fn": "ipo_sum", "around": _around("lcpo")}},
    "Cao et al. (2025), Table 1.",
  ),
  "lcpo_simpo": Mix(
    "SimPO with learnt reliability of the labels",
    {"main": {"fn": "simpo", "around": _around("lcpo")}},
    "Cao et al. (2025), Table 1.",
  ),
  "ld_dpo": Mix(
    "Length-desensitised DPO",
    {"main": {"fn": "dpo", "around": _around("length_desensitized")}},
    "Liu et al. (2024), eq. 8.",
  ),
  "mpo": Mix(
    "Mixed preference optimisation: preference, quality and generation loss",
    {
      "main": {"fn": "dpo", "term_weight": 0.8},
      "quality": {"fn": "bco_pair", "term_weight": 0.2},
      "nll": NLL,
    },
    "Wang et al., 'Enhancing the Reasoning Ability of Multimodal Large Language Models via Mixed "
    "Preference Optimization' (2024).",
  ),
  "orpo": Mix(
    "Odds-ratio preference optimisation",
    {"main": {"fn": "odds_ratio", "term_weight": 0.1}, "nll": NLL},
    "Hong et al. (2024), eq. 6.",
  ),
  "rpo_nll": Mix(
    "DPO plus the supervised loss per token of each preferred response",
    {"main": {"fn": "dpo"}, "nll": MEAN_NLL},
    "Pang et al., 'Iterative Reasoning Preference Optimization' (2024), eq. 1.",
  ),
  "rrhf": Mix(
    "RRHF: ranking loss and supervised loss of the best response",
    {"main": {"fn": "rrhf"}, "nll": MEAN_NLL},
    "Yuan et al. (2023), eq. 4.",
  ),
  "slic_hf": Mix(
    "SLiC-HF: calibration and regularisation towards the preferred response",
    {"main": {"fn": "slic_hf"}, "nll": {"fn": "sequence_nll"}},
    "Zhao et al. (2023), eq. 1.",
  ),
  "tpo": Mix(
    "Triple preference optimisation, on three responses: gold, preferred, other",
    {"main": {"fn": "cpo", "beta": 0.01, "around": GOLD}, "nll": NLL},
    "Saeidi et al. (2024).",
  ),
  "tpo_l": Mix(
    "Triple preference optimisation on averages per token (TPO-L), on three responses",
    {"main": {"fn": "simpo", "beta": 2.0, "gamma": 0.5, "around": GOLD}, "nll": NLL},
    "Saeidi et al. (2024).",
  ),
  "wpo_dpo": Mix(
    "DPO with pairs weighted by their likelihood under the policy",
    {"main": {"fn": "dpo", "around": _around("wpo")}},
    "Zhou et al. (2024), eq. 2.",
  ),
}


def single(terms) -> bool:
  """Whether some term takes one response per record and no pair, as KTO does.

  Args:
    terms: sections of a config.
  """
  found = [cfg.resolve(objectives, section, wrappers) for section in terms.values()]
  return any(_takes(fn, 1) and not _takes(fn, 2) for fn in found)


def _takes(fn, candidates):
  sizes = {"B": 2, "K": candidates}
  names = [n for n in call.needs(fn) if n != "carry"]
  shape = lambda n: tuple(sizes.get(axis, 3) for axis in vocabulary.axes(n))
  arrays = {n: jax.ShapeDtypeStruct(shape(n), jnp.float32) for n in names}
  memory = (
    {"carry": update.init_carry((update.Term("", fn, 1.0, "", 0.0),))[""]}
    if "carry" in call.needs(fn)
    else {}
  )
  try:
    jax.eval_shape(lambda given: call.feed(fn, given | memory), arrays)
  except Refused:
    return False
  return True


def formula(name: str) -> str:
  """The terms of a mix as a sum.

  >>> formula("dpo_sft"), formula("ld_dpo")
  ('dpo + 0.2 nll', 'length_desensitized(dpo)')
  """
  return " + ".join(_term(t) for t in MIXES[name].terms.values())


def _term(term):
  fn = f"{term['around']['fn']}({term['fn']})" if "around" in term else term["fn"]
  weight = term.get("term_weight", 1.0)
  return fn if weight == 1 else f"{weight:g} {fn}"


def terms(name: str, around: str = "") -> dict[str, dict[str, Any]]:
  """The sections of `config.objectives` for a mix or, under `main`, for a single objective.

  Where both have the name it is the mix, the method as published. An objective may also be
  `"package.module:function"`.

  Args:
    name: a mix or an objective.
    around: a wrapper for the term `main`; empty for none.

  Raises:
    Refused: neither a mix nor an objective; names the nearest of both.
  """
  if name in MIXES:
    found = {key: section(**given) for key, given in MIXES[name].terms.items()}
  elif ":" in name or name in call.functions(objectives):
    found = {"main": section(name)}
  else:
    options = sorted({*MIXES, *call.functions(objectives)})
    raise Refused(
      f"there is no objective or mix {name!r}. {call.nearest(name, options)}"
      f"There are: {', '.join(options)}."
    )
  if around:
    found["main"] = _add(found["main"], cfg.defaults(wrappers, around))
  return found


def section(fn: str, around=None, **given) -> dict[str, Any]:
  """The section of one term of the table, every knob with its value."""
  if around:
    around = dict(around)
    around = cfg.defaults(wrappers, around.pop("fn"), **around)
  return cfg.term(objectives, fn, around=around, **given)


def _add(section, around):
  """The section with a further wrapper outside those that it has."""
  inner = section.get("around")
  return section | {"around": _add(inner, around) if inner else around}


def reads(sections) -> set[str]:
  """Names of all arrays that the terms read."""
  found = (cfg.resolve(objectives, s, wrappers) for s in sections.values())
  return {name for fn in found for name in call.needs(fn)}
