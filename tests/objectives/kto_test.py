"""KTO against its definition, worked values and identities."""

import definitions
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call
from jaxpref.objectives import kto
from jaxpref.types import Refused


def _inputs(seed, rows=6):
  rng = np.random.default_rng(seed)
  logp, ref_logp = rng.normal(-20.0, 4.0, (2, rows, 1)).astype(np.float32)
  relevance = (np.arange(rows) % 2 == 0).astype(np.float32)[:, None]
  return logp, ref_logp, relevance, np.full(rows, 0.7, np.float32)


def _both(logp, ref_logp, baseline, **knobs):
  """Loss of the same responses as desirable and as undesirable."""
  rows = (jnp.full((len(logp), 1), good) for good in (1.0, 0.0))
  return [kto(logp, ref_logp, r, baseline, **knobs)[0] for r in rows]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.33, 0.8)])
@pytest.mark.parametrize("beta", [0.1, 0.5])
def test_equals_the_definition(beta, weights):
  knobs = {"beta": beta, "desirable_weight": weights[0], "undesirable_weight": weights[1]}
  wanted = definitions.kto(*_inputs(0), **knobs)
  np.testing.assert_allclose(kto(*_inputs(0), **knobs)[0], wanted, rtol=1e-5)


def test_worked_values_of_the_catalogue():
  logp, ref_logp = jnp.asarray([[-10.0], [-12.0]]), jnp.asarray([[-11.0], [-11.5]])
  loss, _ = kto(logp, ref_logp, jnp.asarray([[1.0], [0.0]]), jnp.full(2, 0.2), beta=0.1)
  assert [f"{x:.6f}" for x in loss] == ["0.480011", "0.482507"]


def test_policy_equal_to_the_reference_gives_one_half():
  logp, _, relevance, _ = _inputs(1)
  np.testing.assert_array_equal(kto(logp, logp, relevance, jnp.zeros(6))[0], 0.5)


def test_desirable_and_undesirable_losses_of_one_response_add_to_one():
  logp, ref_logp, _, baseline = _inputs(2)
  good, bad = _both(logp, ref_logp, baseline)
  np.testing.assert_allclose(good + bad, 1.0, rtol=1e-6)


def test_gradient_raises_desirable_and_lowers_undesirable_responses():
  logp, ref_logp, relevance, baseline = map(jnp.asarray, _inputs(3))
  grad = jax.grad(lambda x: kto(x, ref_logp, relevance, baseline)[0].sum())(logp)
  assert ((grad < 0) == (relevance == 1)).all() and (grad != 0).all()


@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_gradient_vanishes_far_from_the_baseline_on_both_sides(far):
  for good in (1.0, 0.0):
    fn = lambda x, good=good: kto(x, jnp.zeros((1, 1)), jnp.full((1, 1), good), jnp.ones(1))[0][0]
    assert abs(jax.grad(fn)(jnp.full((1, 1), far))[0, 0]) < 1e-20


def test_metrics_count_each_class_by_itself():
  logp, ref_logp, relevance, baseline = _inputs(4)
  _, metrics = kto(logp, ref_logp, relevance, baseline, beta=0.1)
  for name, good in (("chosen", relevance[:, 0]), ("rejected", 1 - relevance[:, 0])):
    value, count = metrics[f"rewards/{name}"]
    mean = (np.float64(value) * count).sum() / count.sum()
    reward = 0.1 * (np.float64(logp) - ref_logp)[:, 0]
    np.testing.assert_allclose(mean, reward[good == 1].mean(), rtol=1e-5)
    np.testing.assert_array_equal(metrics[f"logps/{name}"][0], logp[:, 0])
    np.testing.assert_array_equal(metrics[f"logps/{name}"][1], good)
  np.testing.assert_array_equal(metrics["kl"], baseline)


def test_wrong_knobs_and_candidates_are_refused():
  with pytest.raises(Refused, match="'desirable_wight'. Did you mean 'desirable_weight'"):
    call.bind(kto, desirable_wight=2.0)
  with pytest.raises(Refused, match="kto needs undesirable_weight > 0; it is 0"):
    kto(*_inputs(0), undesirable_weight=0.0)
  with pytest.raises(
    Refused, match=r"kto reads 1 candidate per situation; logp has shape \(2, 2\)"
  ):
    kto(jnp.zeros((2, 2)), jnp.zeros((2, 2)), jnp.zeros((2, 2)), jnp.zeros(2))
