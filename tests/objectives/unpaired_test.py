"""APO-zero and BCO of single responses, the density weights and BCO's memory."""

import definitions
import definitions_lists
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpref import reduce, update
from jaxpref.objectives import apo_zero_unpaired, bco, bco_udm, kto
from jaxpref.objectives.bco import init_carry, next_carry
from jaxpref.objectives.density import density_ratio, fit_density
from jaxpref.types import Refused


def _inputs(seed, rows=6):
  rng = np.random.default_rng(seed)
  logp, ref_logp = rng.normal(-20.0, 4.0, (2, rows, 1)).astype(np.float32)
  relevance = (rng.random((rows, 1)) < 0.5).astype(np.float32)
  return jnp.asarray(logp), jnp.asarray(ref_logp), jnp.asarray(relevance)


@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_apo_equals_the_definition_and_kto_without_baseline(beta):
  arrays = _inputs(0)
  loss, metrics = apo_zero_unpaired(*arrays, beta=beta)
  np.testing.assert_allclose(
    loss, definitions_lists.apo_zero_unpaired(*arrays, beta=beta), rtol=1e-5
  )
  anchored, wanted = kto(*arrays, jnp.zeros(6), beta=beta)
  np.testing.assert_allclose(loss, anchored, rtol=1e-6)
  for name in metrics:
    np.testing.assert_array_equal(metrics[name], wanted[name])


def test_apo_of_a_pair_adds_up_to_the_worked_value():
  logp, ref = jnp.asarray([[-10.0], [-12.0]]), jnp.asarray([[-11.0], [-11.5]])
  loss, _ = apo_zero_unpaired(logp, ref, jnp.asarray([[1.0], [0.0]]), beta=0.1)
  assert f"{loss.sum():.6f}" == "0.962523"
  same, _ = apo_zero_unpaired(logp, logp, jnp.asarray([[1.0], [0.0]]))
  np.testing.assert_array_equal(same, 0.5)


def _steps(count, seed=1, **knobs):
  """(loss, delta of the loss, all rewards so far) of several batches through the memory."""
  carry, past = init_carry(), []
  for step in range(count):
    logp, ref, good = _inputs(seed + step, rows=5 + step)
    loss, metrics = bco(logp, ref, good, jnp.ones(len(logp)), carry, **knobs)
    wanted, delta = definitions_lists.bco(logp, ref, good, past, **knobs)
    yield loss, wanted, metrics, delta
    carry = next_carry(carry, {k: v.mean() for k, v in metrics.items() if k.startswith("bco/")})
    past = np.concatenate([past, knobs.get("beta", 0.1) * np.float64(logp - ref)[:, 0]])
    np.testing.assert_allclose(carry["mean"], past.mean(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(carry["count"], len(past))


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_bco_equals_the_definition_over_steps_of_different_sizes(beta):
  for loss, wanted, metrics, delta in _steps(4, beta=beta):
    np.testing.assert_allclose(loss, wanted, rtol=2e-5)
    np.testing.assert_allclose(metrics["bco/delta"], delta, rtol=1e-5, atol=1e-6)


def test_bco_gradient_does_not_run_through_the_mean():
  logp, ref, good = _inputs(2)
  grad = jax.grad(lambda x: bco(x, ref, good, jnp.ones(6), init_carry(), beta=0.5)[0].sum())(logp)
  _, delta = definitions_lists.bco(logp, ref, good, beta=0.5)
  above = 0.5 * np.float64(logp - ref) - delta
  wanted = 0.5 * np.where(good > 0, -1 / (1 + np.exp(above)), 1 / (1 + np.exp(-above)))
  np.testing.assert_allclose(grad, wanted, rtol=1e-4, atol=1e-6)


def test_a_single_response_is_its_own_mean_and_gives_log_two():
  logp, ref, good = _inputs(3, rows=1)
  loss, _ = bco(logp, ref, good, jnp.ones(1), init_carry())
  np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)


def test_rows_that_only_fill_the_batch_do_not_enter_the_mean():
  logp, ref, good = _inputs(4)
  weight = jnp.asarray([1.0, 2.0, 0.0, 1.0, 1.0, 0.0])
  kept = np.asarray(weight) > 0
  _, metrics = bco(logp, ref, good, weight, init_carry())
  _, alone = bco(logp[kept], ref[kept], good[kept], weight[kept], init_carry())
  np.testing.assert_allclose(metrics["bco/delta"][0], alone["bco/delta"][0], rtol=1e-6)
  np.testing.assert_array_equal(metrics["bco/seen"], 4.0)
  _, nothing = bco(logp, ref, good, jnp.zeros(6), init_carry())
  np.testing.assert_array_equal(nothing["bco/delta"], 0.0)
  before = {"mean": jnp.asarray(2.0), "count": jnp.asarray(7.0)}
  assert next_carry(before, {"bco/delta": jnp.zeros(()), "bco/seen": jnp.zeros(())}) == before


def test_the_step_of_the_library_carries_the_mean():
  logp, ref, good = _inputs(5)
  batch = {"ref_logp": ref, "relevance": good, "weight": jnp.asarray([1.0, 1, 1, 1, 0, 0])}
  term = update.Term("main", bco, 1.0, "", 0.0)
  measure = lambda params, batch, want, key: {"logp": logp + params["shift"]}
  grad_fn = update.make_grad_fn((term,), measure, ("logp",))
  carry = update.init_carry((term,))
  tx, params = optax.sgd(0.1), {"shift": jnp.zeros(())}
  assert update.coupled(bco) and reduce.default_mode(1) == "example" and tx
  past = []
  for _ in range(3):
    _, metrics = grad_fn(params, carry, batch, jax.random.key(0))
    carry = {"main": update._memory(term, "next_carry")(carry["main"], metrics)}
    past += list(0.1 * np.float64(logp - ref)[:4, 0])
    np.testing.assert_allclose(carry["main"]["mean"], np.mean(past), rtol=1e-5)
    np.testing.assert_allclose(carry["main"]["count"], len(past))


def test_bco_couples_and_refuses_micro_batches():
  with pytest.raises(Refused, match="bco couples the examples of a batch: set microbatches=1"):
    update.make_grad_fn((update.Term("main", bco, 1.0, "", 0.0),), None, ("logp",), microbatches=2)


def test_density_one_is_bco_and_it_scales_undesirable_responses_only():
  arrays, rest = _inputs(6), (jnp.ones(6), init_carry())
  plain = bco(*arrays, *rest)[0]
  np.testing.assert_array_equal(bco_udm(*arrays, jnp.ones(6), *rest)[0], plain)
  weights = jnp.arange(1.0, 7.0)
  factor = jnp.where(arrays[2][:, 0] > 0.5, 1.0, weights)
  np.testing.assert_allclose(bco_udm(*arrays, weights, *rest)[0], factor * plain, rtol=1e-6)


def test_density_ratio_is_the_clipped_odds():
  p = np.asarray([0.0, 0.2, 0.5, 0.8, 0.95, 1.0])
  wanted = np.clip(p / (1 - p + 1e-8), 0.5, 10)
  np.testing.assert_allclose(density_ratio(jnp.asarray(p, jnp.float32)), wanted, rtol=1e-5)
  assert density_ratio(jnp.ones(()), high=3.0) == 3 and density_ratio(jnp.zeros(()), low=0.1) > 0.09


def _features(seed, rows=80, width=3):
  rng = np.random.default_rng(seed)
  x = rng.normal(0.0, 1.0, (rows, width))
  good = (x @ [2.0, -1.0, 0.0] + rng.normal(0.0, 1.0, rows) > 1.0).astype(np.float64)
  return x, good


def test_logistic_regression_stands_at_the_minimum_of_its_objective():
  x, good = _features(7)
  count = {1.0: good.sum(), 0.0: (1 - good).sum()}
  heavy = np.asarray([len(good) / 2 / count[g] for g in good])

  def objective(w):
    y = 2 * good - 1
    fit = (heavy * np.logaddexp(0.0, -y * (x @ w[:-1] + w[-1]))).sum()
    return fit + 0.5 * (w[:-1] ** 2).sum()

  weights, bias = fit_density(jnp.asarray(x, jnp.float32), jnp.asarray(good, jnp.float32))
  slope = definitions.slope(objective, np.asarray([*weights, bias]))
  np.testing.assert_allclose(slope, 0.0, atol=2e-4)


def test_features_that_say_nothing_give_one_half_whatever_the_sizes_of_the_classes():
  good = jnp.asarray([1.0, 0.0, 0.0, 0.0, 0.0])
  weights, bias = fit_density(jnp.zeros((5, 2)), good)
  np.testing.assert_allclose(jax.nn.sigmoid(bias), 0.5, atol=1e-6)
  np.testing.assert_array_equal(weights, 0.0)


def test_one_class_or_separable_prompts_stay_finite():
  x, good = _features(8)
  for labels in (jnp.ones(80), jnp.asarray(x[:, 0] > 0, jnp.float32)):
    weights, bias = fit_density(jnp.asarray(x, jnp.float32), labels)
    assert jnp.isfinite(weights).all() and jnp.isfinite(bias)


def test_two_candidates_are_refused():
  for fn, more in ((apo_zero_unpaired, ()), (bco, (jnp.ones(2), init_carry()))):
    with pytest.raises(Refused, match=f"{fn.__name__} reads 1 candidate per situation"):
      fn(jnp.zeros((2, 2)), jnp.zeros((2, 2)), jnp.zeros((2, 2)), *more)
  with pytest.raises(Refused, match="bco_udm needs beta > 0"):
    bco_udm(*_inputs(9), jnp.ones(6), jnp.ones(6), init_carry(), beta=0.0)
