"""Clip-Cov and KL-Cov choose tokens of the whole batch; the choice is checked in float64."""

import definitions_policy
import jax
import jax.numpy as jnp
import numpy as np
import policy_batches
import pytest

from jaxpref import call, objectives, update
from jaxpref.types import Refused

READ = ("token_logp", "old_token_logp", "advantage", "mask")


def _arrays(seed=0):
  found = policy_batches.arrays(seed, per_token=True)
  return {k: found[k] for k in READ}


def _feed(name, arrays, **knobs):
  return call.feed(call.bind(getattr(objectives, name), **knobs), arrays)


@pytest.mark.parametrize("fraction", [2e-4, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("coefficient", [0.1, 1.0])
def test_kl_cov_equals_the_definition(fraction, coefficient):
  knobs = {"fraction": fraction, "coefficient": coefficient}
  wanted = definitions_policy.kl_cov(_arrays(0), **knobs)
  loss, metrics = _feed("kl_cov", _arrays(0), **knobs)
  np.testing.assert_allclose(loss, wanted, rtol=2e-5, atol=2e-6)
  tokens = float(_arrays(0)["mask"].sum())
  assert metrics["ratio/clip"].sum() == max(1, int(fraction * tokens))


CLIP = {"cov_low": 0.1, "cov_high": 3.0}


@pytest.mark.parametrize("fraction", [2e-4, 0.05, 0.1, 1.0])
def test_clip_cov_leaves_out_the_right_number_of_candidates_and_nothing_else(fraction):
  arrays = _arrays(1)
  may, full = definitions_policy.clip_cov_candidates(arrays, **CLIP)
  loss, metrics = _feed("clip_cov", arrays, fraction=fraction, **CLIP)
  chosen = np.asarray(metrics["ratio/clip"]) > 0
  count = max(1, int(fraction * float(arrays["mask"].sum())))
  assert chosen.sum() == min(count, may.sum()) and not (chosen & ~may).any()
  np.testing.assert_allclose(loss, np.where(chosen, 0.0, full), rtol=2e-5, atol=2e-6)
  total = lambda x: _feed("clip_cov", arrays | {"token_logp": x}, fraction=fraction, **CLIP)[0]
  grad = jax.grad(lambda x: total(x).sum())(arrays["token_logp"])
  assert (np.asarray(grad)[chosen] == 0).all()


def test_clip_cov_chooses_evenly_not_the_largest_and_the_same_in_any_order():
  rng = np.random.default_rng(2)
  shape = (64, 1, 64)
  logp = jnp.asarray(-rng.gamma(2.0, 1.0, shape), jnp.float32)
  advantage = jnp.asarray(rng.normal(size=shape), jnp.float32)
  arrays = {"token_logp": logp, "old_token_logp": logp, "advantage": advantage}
  arrays |= {"mask": jnp.ones(shape)}
  _, metrics = _feed("clip_cov", arrays, fraction=0.05, **CLIP)
  chosen, cov = (np.asarray(metrics[k]) for k in ("ratio/clip", "ratio/cov"))
  may = (cov > CLIP["cov_low"]) & (cov < CLIP["cov_high"])
  picked, all_of_them = cov[chosen > 0], cov[may]
  error = all_of_them.std() / np.sqrt(picked.size)
  assert abs(picked.mean() - all_of_them.mean()) < 4 * error
  thirds = np.add.reduceat(chosen.ravel(), np.arange(0, chosen.size, chosen.size // 4))
  assert (np.abs(thirds - picked.size / 4) < 5 * np.sqrt(picked.size / 4)).all()
  order = rng.permutation(shape[0])
  _, shuffled = _feed("clip_cov", {k: v[order] for k, v in arrays.items()}, fraction=0.05, **CLIP)
  np.testing.assert_array_equal(shuffled["ratio/clip"], chosen[order])


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_masked_tokens_are_neither_counted_nor_chosen(name):
  arrays = _arrays(3)
  off = arrays["mask"] == 0
  wild = {k: jnp.where(off, jnp.nan, v) if k != "mask" else v for k, v in arrays.items()}
  np.testing.assert_array_equal(_feed(name, wild)[0], _feed(name, arrays)[0])
  nothing = arrays | {"mask": jnp.zeros_like(arrays["mask"])}
  assert (_feed(name, nothing)[0] == 0).all()


@pytest.mark.parametrize("name", ["clip_cov", "kl_cov"])
def test_the_loop_refuses_to_cut_a_batch_whose_tokens_are_chosen_together(name):
  term = update.Term("main", getattr(objectives, name), 1.0, "token", 0.0)
  with pytest.raises(Refused, match=f"{name} couples the examples of a batch"):
    update.make_grad_fn((term,), None, (), microbatches=2)


def test_on_the_first_step_the_gradient_of_kl_cov_is_that_of_reinforce():
  arrays = _arrays(4)
  arrays |= {"old_token_logp": arrays["token_logp"]}
  total = lambda x: _feed("kl_cov", arrays | {"token_logp": x}, fraction=1.0)[0].sum()
  grad = jax.grad(total)(arrays["token_logp"])
  np.testing.assert_allclose(grad, -arrays["advantage"] * arrays["mask"], rtol=1e-6)
