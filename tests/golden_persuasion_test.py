"""The ordinal model gives the estimates that other implementations gave.

`real_*` are of the bundled ratings; the rest is synthetic. Sizes come from the arrays.
"""

import golden_files
import jax
import numpy as np
import pytest
from definitions_ordinal import coding

from jaxpref.analysis import ordinal, partial_odds
from jaxpref.data import debates

ME = "golden_persuasion_test"


@pytest.fixture(scope="module")
def ours():
  z, out = golden_files.load("persuasion"), {}
  levels = int(z["K"])
  free = z["Z"][:, 1:]  # the first column is 1
  fit = partial_odds(z["y"], z["X"], free, levels=levels)
  out |= {"beta_hat": fit.beta, "thr_hat": fit.thresholds, "nll_hat": fit.nll, "se": fit.errors}
  with jax.enable_x64(True):
    arrays = (z["y"], z["X"], free, np.ones(len(z["y"])))
    out["nll_true"] = ordinal.nll(z["beta_true"], z["thr_true"], *map(jax.numpy.asarray, arrays))
  plain = partial_odds(z["y"], z["po_X"], np.zeros((len(z["y"]), 0)), levels=levels)
  out |= {"po_beta": plain.beta, "po_thr": plain.thresholds[:, 0], "po_llf": -plain.nll}
  out["po_bse"] = plain.errors[: len(plain.beta)]
  table = debates.debate_ratings()
  arms = np.eye(4)[table["arm"]][:, 1:]
  real = partial_odds(table["after"], arms, coding(5)[table["before"]])
  out |= {"real_beta": real.beta, "real_se_beta": real.errors[:3], "real_nll": real.nll}
  return out | {"real_thresholds": real.thresholds}


@pytest.mark.parametrize("case", golden_files.covered("persuasion", ME))
def test_persuasion(case, ours):
  wanted = golden_files.outputs("persuasion", case)["value"]
  assert np.shape(ours[case]) == wanted.shape
  np.testing.assert_allclose(ours[case], wanted, rtol=2e-5, atol=2e-6, err_msg=case)
