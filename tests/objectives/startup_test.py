"""Where every pair objective starts: its value where the policy equals the reference."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, objectives

LOG2 = np.log(2)
EXO = 0.5 * np.log(0.5 / 0.999) + 0.5 * np.log(0.5 / 0.001)
START = {  # at the default knobs, lengths 5 and 5, ratings 1 and 0, a margin in the data of 0
  "dpo": LOG2,
  "cdpo": LOG2,
  "rdpo_robust": LOG2,
  "hinge": 1.0,
  "ipo": 1 / (4 * 0.1**2),
  "ipo_sum": 1 / (4 * 0.1**2),
  "dpo_norm": LOG2,
  "exo_pair": EXO,
  "nca_pair": 2 * LOG2,
  "nca_biased": 2 * LOG2,
  "bco_pair": 2 * LOG2,
  "bco_pair_shifted": 2 * LOG2,
  "sppo_hard": 1 / (2 * 0.001**2),
  "sppo": 1 / (4 * 0.001**2),
  "aot": LOG2,
  "aot_unpaired": LOG2,
  "apo_zero": 1.0,
  "apo_down": 1.0,
  "discopop": (LOG2 + 1) / 2,
  "kto_pair": 0.5,
  "dpop": LOG2,
  "rdpo_length": LOG2,
  "wpo_length": np.exp(-4.0 - 4.0) * LOG2,
  "cal_dpo": LOG2 + 1 / (4 * 0.001**2),
  "odpo": LOG2,
  "margin_dpo": LOG2,
  "alpha_dpo": np.log1p(np.exp(1.5)),
  "spin": LOG2,
  "rebel": 1.0,
  "inpo": 1 / (4 * 0.0075**2),
}


def _arrays(fn):
  logp = jnp.full((3, 2), -20.0)
  arrays = {"logp": logp, "ref_logp": logp, "old_logp": logp, "length": jnp.full((3, 2), 5.0)}
  arrays |= {"reward": jnp.tile(jnp.asarray([1.0, 0.0]), (3, 1)), "strength": jnp.zeros(3)}
  if "carry" in call.needs(fn):
    arrays["carry"] = sys.modules[fn.__module__].init_carry()
  return arrays | {"weight": jnp.ones(3)}


@pytest.mark.parametrize("name", START)
def test_value_at_log_ratios_of_zero(name):
  fn = getattr(objectives, name)
  loss, metrics = call.feed(fn, _arrays(fn))
  np.testing.assert_allclose(loss, START[name], rtol=1e-6)
  np.testing.assert_array_equal(metrics["rewards/margins"], 0.0)
  np.testing.assert_array_equal(metrics["rewards/accuracies"], 0.0)
