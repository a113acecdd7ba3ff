"""Policy losses, aggregations and the value loss as verl gave them."""

import golden_files
import golden_policy
import jax
import jax.numpy as jnp
import pytest

from jaxpref import kernels, numerics, objectives, reduce

FILE = "verl_policy_losses"
METRICS = {
  "pg_clipfrac": "ratio/clip",
  "pg_clipfrac_lower": "ratio/clip_dual",
  "ppo_kl": "kl/old",
}
CASES = golden_files.covered(FILE)


def _row(case):
  return golden_files.parameters(FILE)[case]


@pytest.mark.parametrize("case", [c for c in CASES if _row(c)["fn"] not in ("weights", "entropy")])
def test_verl_policy_losses(case):
  z, row = golden_files.load(FILE), _row(case)
  learned = "value" if case == "value" else "token_logp"

  def loss(x):
    found = golden_policy.arrays(z, row, x)
    found |= {learned: found["token_logp"]}
    if "rejected" in row:
      found["mask"] = _accepted(row["rejected"], found)
    total, metrics = golden_policy.total(z, row, found)
    return total * _rows(row, z), metrics

  (value, metrics), grad = jax.value_and_grad(loss, has_aux=True)(_input(z, case))
  ours = {"loss": value, "grad": grad}
  # where verl reports a fraction that the loss has no notion of, it reports 0
  names = METRICS | row.get("metrics", {})
  ours |= {theirs: metrics.get(name, 0.0) for theirs, name in names.items()}
  ours |= {"clipfrac": metrics.get("value/clip_frac")}
  golden_policy.compare(FILE, case, ours, skip=row.get("skip", ()))


def _input(z, case):
  return jnp.asarray(z["vpred"] if case == "value" else z["logp"])


def _rows(row, z):
  """verl's mean over rows counts fully masked rows in some losses."""
  return (z["mask"].sum(1) > 0).mean() if row.get("rows") == "all" else 1.0


def _accepted(bound, found):
  """The mask without responses whose mean k3 of the ratio exceeds a bound."""
  k3 = numerics.k3(found["token_logp"] - found["old_token_logp"])
  mean = numerics.masked_mean(k3, found["mask"], axis=-1)
  return found["mask"] * (jax.lax.stop_gradient(mean) <= bound)[..., None]


@pytest.mark.parametrize("case", [c for c in CASES if _row(c)["fn"] == "weights"])
def test_verl_aggregations(case):
  z, row = golden_files.load(FILE), _row(case)
  loss, mask = (golden_policy.rows(z[k], z["mask"].shape[1]) for k in ("agg_matrix", "mask"))
  constant = golden_policy.constant(z, row, loss)
  w = reduce.weights(row["reduce"], 3, mask=mask, constant=constant)
  value = (w * loss).sum()
  # verl's global counts: the batch is one part of a larger one, whose counts the row holds
  value *= mask.sum() / row.get("tokens", mask.sum())
  alive = (mask.sum(-1) > 0).sum()
  golden_policy.compare(FILE, case, {"value": value * alive / row.get("sequences", alive)})


def test_verl_entropy():
  z = golden_files.load(FILE)
  shape, vocab = z["ent_logits"].shape[:2], z["ent_logits"].shape[2]
  flat = jnp.asarray(z["ent_logits"].reshape(-1, vocab))
  head, targets = jnp.eye(vocab), jnp.zeros(len(flat), jnp.int32)
  _, entropy = kernels.linear_logp(flat, head, targets, vocab=vocab, entropy=True)
  entropy = entropy.reshape(shape)
  golden_policy.compare(FILE, "ent_tok", {"value": entropy})
  mask = golden_policy.rows(z["mask"], shape[1])
  loss, _ = objectives.entropy_bonus(golden_policy.rows(entropy, shape[1]), mask)
  golden_policy.compare(
    FILE, "ent_loss", {"value": -(reduce.weights("token", 3, mask=mask) * loss).sum()}
  )
