"""Policy losses from hidden states and a head, as Liger's fused loss gave them."""

import golden_files
import golden_policy
import jax
import jax.numpy as jnp
import pytest

from jaxpref import kernels

FILE = "liger_grpo"
CASES = [c for c in golden_files.covered(FILE) if c != "logp_T1"]


def _logp(z, x, w, b, temperature=1.0):
  """f32[N, T], log-probability of the ids; the bias is one more hidden unit."""
  hidden = jnp.concatenate([x, jnp.ones((*x.shape[:2], 1))], -1) / temperature
  head = jnp.concatenate([w, b[:, None]], 1)
  logp, _ = kernels.linear_logp(
    hidden.reshape(-1, hidden.shape[-1]),
    head,
    jnp.asarray(z["ids"]).ravel(),
    vocab=len(b),
    layout="vd",
  )
  return logp.reshape(x.shape[:2])


def _parameters(z):
  return tuple(jnp.asarray(z[k]) for k in ("x", "w", "b"))


def test_liger_grpo_log_probabilities():
  z = golden_files.load(FILE)
  golden_policy.compare(FILE, "logp_T1", {"value": _logp(z, *_parameters(z))})


@pytest.mark.parametrize("case", CASES)
def test_liger_grpo(case):
  z, row = golden_files.load(FILE), golden_files.parameters(FILE)[case]

  def loss(x, w, b):
    logp = _logp(z, x, w, b, row.get("temperature", 1.0))
    return golden_policy.total(z, row, golden_policy.arrays(z, row, logp))

  grad = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
  (value, metrics), grads = grad(*_parameters(z))
  # Liger's clip fraction looks at the side that the advantage pushes to; 0 where nothing is clipped
  clipped = metrics.get("ratio/clip_low", 0.0) + metrics.get("ratio/clip_high", 0.0)
  shown = [metrics["kl/ref"]] if "kl/ref" in metrics else []
  ours = dict(zip(("gx", "gw", "gb"), grads, strict=True))
  ours |= {"loss": value, "metrics": jnp.stack([*shown, jnp.asarray(clipped)])}
  golden_policy.compare(FILE, case, ours)
