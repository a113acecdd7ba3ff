"""Item fairness gives what the authors' metrics.py gave; sizes come from the arrays."""

import golden_files
import numpy as np
import pytest
from definitions_fairness import OURS

from jaxpref.metrics import item_fairness

ME = "golden_item_fairness_test"
CURVES = {
  "rel_hit": "hit",
  "rel_mrr": "reciprocal_rank",
  "rel_prec": "precision",
  "rel_map": "average_precision",
  "rel_recall": "recall",
  "rel_ndcg": "ndcg",
}


def _cases(fn):
  rows = golden_files.parameters("item_fairness")
  return [c for c in golden_files.covered("item_fairness", ME) if rows[c]["fn"] == fn]


def _ours(rec, n):
  """Our measures in the order of the file's names; its ids begin with 1."""
  found = item_fairness.evaluate(rec - 1, catalogue=int(n))
  return [found[OURS[name]] for name in golden_files.load("item_fairness")["names"].tolist()]


@pytest.mark.parametrize("case", _cases("evaluate"))
def test_item_fairness(case):
  z = golden_files.load("item_fairness")
  if case.startswith("insertion"):
    return _compare_insertion(z, case)
  name = case.removesuffix("_values")
  assert name in z["cases"].tolist()
  ours = _ours(z[f"{name}_rec"], z[f"{name}_n"])
  np.testing.assert_allclose(ours, z[case], rtol=2e-5, atol=2e-6, err_msg=case)


def insertion(users, top):
  """Lists of each step: the same items for all, then fresh columns from the last place up."""
  lists = np.tile(np.arange(1, top + 1), (users, 1))
  fresh = iter(range(top + 1, users * top + 1))
  yield lists.copy()
  for place in range(top - 1, -1, -1):
    for user in range(1, users):  # one user keeps the old item, so that none is lost
      lists[user, place] = next(fresh)
    yield lists.copy()


def _compare_insertion(z, case):
  users, top = (int(part[1:]) for part in case.rsplit("_", 2)[1:])
  ours = [_ours(lists, users * top) for lists in insertion(users, top)]
  np.testing.assert_allclose(ours, z[case], rtol=2e-5, atol=2e-6, err_msg=case)


@pytest.mark.parametrize("case", _cases("accuracy_curves"))
def test_accuracy_curves(case):
  z = golden_files.load("item_fairness")
  hit = z["rel_pos"].astype(np.float32)
  found = item_fairness.accuracy_curves(hit, z["rel_npos"].astype(np.float32))
  np.testing.assert_allclose(found[CURVES[case]].mean(0), z[case], rtol=2e-5, atol=2e-6)
