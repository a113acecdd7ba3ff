"""Objectives: `f(arrays..., *, knobs) -> (loss, metrics)`, never reduced."""

from jaxpref.objectives.a2po import a2po, a2po_offline
from jaxpref.objectives.apo_unpaired import apo_zero_unpaired
from jaxpref.objectives.bco import bco, bco_udm
from jaxpref.objectives.dpo import cdpo, dpo
from jaxpref.objectives.exo import dpo_rw, exo
from jaxpref.objectives.ipo import ipo, ipo_sum
from jaxpref.objectives.irpo import irpo, s_dpo
from jaxpref.objectives.kto import kto
from jaxpref.objectives.lipo import lipo_hinge, lipo_lambda, lipo_logistic, lipo_softmax
from jaxpref.objectives.list_lambda import (
  list_lambda_dcg,
  list_lambda_dcg2,
  list_lambda_labeldiff,
)
from jaxpref.objectives.list_pairs import list_hinge, list_mse, list_zero_one, rm_all_pairs
from jaxpref.objectives.list_softmax import (
  approx_ndcg,
  list_net,
  list_softmax,
  list_unique_softmax,
  rm_pl,
)
from jaxpref.objectives.listwise import infonca, nca, pl_dpo
from jaxpref.objectives.nash_md import nash_md
from jaxpref.objectives.pro import pro
from jaxpref.objectives.ranklist import ranklist, ranklist_skip
from jaxpref.objectives.reward import bradley_terry
from jaxpref.objectives.simpo import simpo
from jaxpref.objectives.spo import spo_degree
from jaxpref.objectives.supervised import nll
from jaxpref.objectives.xpo import xpo, xpo_ipo

__all__ = [
  "a2po",
  "a2po_offline",
  "approx_ndcg",
  "apo_zero_unpaired",
  "bco",
  "bco_udm",
  "bradley_terry",
  "cdpo",
  "dpo",
  "dpo_rw",
  "exo",
  "infonca",
  "ipo",
  "ipo_sum",
  "irpo",
  "kto",
  "lipo_hinge",
  "lipo_lambda",
  "lipo_logistic",
  "lipo_softmax",
  "list_hinge",
  "list_lambda_dcg",
  "list_lambda_dcg2",
  "list_lambda_labeldiff",
  "list_mse",
  "list_net",
  "list_softmax",
  "list_unique_softmax",
  "list_zero_one",
  "nash_md",
  "nca",
  "nll",
  "pl_dpo",
  "pro",
  "ranklist",
  "ranklist_skip",
  "rm_all_pairs",
  "rm_pl",
  "s_dpo",
  "simpo",
  "spo_degree",
  "xpo",
  "xpo_ipo",
]
