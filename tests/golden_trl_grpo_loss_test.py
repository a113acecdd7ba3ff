"""Policy losses as TRL's GRPO, RLOO and GMPO trainers gave them."""

import golden_files
import golden_policy
import jax
import jax.numpy as jnp
import pytest

from jaxpref import call, objectives
from jaxpref.objectives.policy_weighted import SMALLEST

FILE = "trl_grpo_loss"


@pytest.mark.parametrize("case", golden_files.covered(FILE))
def test_trl_grpo_loss(case):
  z, row = golden_files.load(FILE), golden_files.parameters(FILE)[case]

  def loss(x):
    found = golden_policy.arrays(z, row, x)
    if "fold" in row:
      found["old_token_logp"] = _folded(found, z[row["fold"]])
    if "metric" in row:
      return _first(row, found), {}
    return golden_policy.total(z, row, found)

  if "metric" in row:
    value, _ = loss(jnp.asarray(z["logp"]))
    return golden_policy.compare(FILE, case, {"value": value})
  (value, _), grad = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(z["logp"]))
  golden_policy.compare(FILE, case, {"loss": value, "grad": grad})


def _folded(found, weights):
  """The engine's log-probabilities: TRL's VESPO multiplies its ratio by all weights of a row."""
  shift = jnp.clip(jnp.log(jnp.asarray(weights)), SMALLEST, 20.0).sum(1)[:, None, None]
  return found["old_token_logp"] - shift / found["mask"].sum(-1, keepdims=True)


def _first(row, found):
  """A metric that is the same at all tokens of a response, as a column."""
  metrics = call.feed(call.bind(getattr(objectives, row["fn"]), **row["knobs"]), found)[1]
  return metrics[row["metric"]][:, 0, :1]
