"""Policy losses in an update: `keep` acts on them alone; splitting a batch changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import policy_batches
import pytest

from jaxpref import call, objectives, reduce, update

MAIN = update.Term("main", objectives.ppo_clip, 1.0, "sequence", 0.0)
RANKS = update.Term("main", objectives.segment_clip, 1.0, "segment", 0.0)
KL = update.Term("kl", call.bind(objectives.kl_penalty, estimator="k2"), 0.1, "token", 0.0)


def _measure(params, batch, want, key):
  return {"token_logp": batch["base"] + params * batch["slope"]}


def _batch(keep=True):
  rng = np.random.default_rng(0)
  batch = policy_batches.arrays(0)
  batch["base"] = batch.pop("token_logp")
  shape = batch["mask"].shape
  batch |= {"slope": jnp.asarray(rng.normal(size=shape), jnp.float32), "weight": jnp.ones(shape[0])}
  kept = {"keep": jnp.asarray(rng.gamma(2.0, 1.0, shape), jnp.float32)} if keep else {}
  return batch | kept


def _grads(terms, batch, microbatches=1):
  grad_fn = update.make_grad_fn(terms, _measure, ("token_logp",), microbatches)
  return grad_fn(jnp.asarray(0.1), {}, batch, jax.random.key(0))


def _by_hand(term, params, batch, keep):
  found = batch | _measure(params, batch, None, None)
  rows = {"mask": batch["mask"], "segment": batch["segment"], "keep": keep}
  w = reduce.weights(term.mode, 3, **rows)
  return term.weight * (w * call.feed(term.fn, found)[0]).sum()


@pytest.mark.parametrize("main", [MAIN, RANKS])
def test_keep_multiplies_terms_that_read_the_advantage_and_no_other(main):
  batch = _batch()
  total = lambda p: _by_hand(main, p, batch, batch["keep"]) + _by_hand(KL, p, batch, None)
  wanted, grad = jax.value_and_grad(total)(jnp.asarray(0.1))
  grads, metrics = _grads((main, KL), batch)
  np.testing.assert_allclose(metrics["loss"], wanted, rtol=1e-5)
  np.testing.assert_allclose(grads, grad, rtol=1e-5)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("main", [MAIN, RANKS])
def test_micro_batches_change_nothing(main, keep):
  one, metrics = _grads((main, KL), _batch(keep))
  for parts in (2, 4):
    other, again = _grads((main, KL), _batch(keep), parts)
    np.testing.assert_allclose(other, one, rtol=2e-5)
    for name in ("loss", "ratio/clip", "kl/ref", "ratio/mean"):
      np.testing.assert_allclose(again[name], metrics[name], rtol=2e-5, err_msg=name)
