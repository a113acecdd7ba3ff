"""CPO, SimPO's relatives, the odds ratio, SLiC and RRHF: definitions, worked values, identities."""

import definitions_compose as definitions
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import numerics
from jaxpref.objectives import (
  alphapo,
  cpo,
  cpo_hinge,
  cpo_ipo,
  dpo,
  odds_ratio,
  rrhf,
  sequence_nll,
  simpo,
  simpo_hinge,
  slic_hf,
)
from jaxpref.types import Refused

ROWS = 6


def _inputs(seed, k=2):
  """Summed log-probabilities and lengths; one response is empty."""
  rng = np.random.default_rng(seed)
  length = rng.integers(1, 12, (ROWS, k)).astype(np.float32)
  logp = (-rng.gamma(2.0, 0.7, (ROWS, k)) * length).astype(np.float32)
  logp[1, 1] = length[1, 1] = 0
  return logp, length


CASES = [
  (cpo, 1, {}),
  (cpo, 1, {"beta": 0.7, "label_smoothing": 0.3}),
  (cpo_hinge, 1, {"beta": 0.4}),
  (cpo_ipo, 2, {"beta": 0.4}),
  (simpo, 2, {"label_smoothing": 0.1}),
  (simpo_hinge, 2, {"gamma": 1.0}),
  (alphapo, 2, {}),
  (alphapo, 2, {"alpha": -0.5, "gamma": 0.3}),
  (odds_ratio, 2, {}),
  (slic_hf, 1, {"delta": 3.0}),
]


@pytest.mark.parametrize(("fn", "reads", "knobs"), CASES)
def test_the_loss_equals_the_definition(fn, reads, knobs):
  arrays = _inputs(0)[:reads]
  wanted = definitions.each(getattr(definitions, fn.__name__), *arrays, **knobs)
  # one average is 0: log(1 - e^-1e-7) has few digits of its argument in float32
  np.testing.assert_allclose(fn(*arrays, **knobs)[0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length_penalty", [1.0, 0.5])
def test_rrhf_equals_the_definition_with_ties_and_absent_candidates(length_penalty):
  logp, length = _inputs(1, k=4)
  grade = np.random.default_rng(2).integers(0, 3, logp.shape).astype(np.float32)
  present = np.ones_like(logp)
  present[2, 3] = 0
  loss, metrics = rrhf(logp, length, grade, present, length_penalty=length_penalty)
  arrays = (logp, length, grade, present)
  wanted = definitions.each(definitions.rrhf, *arrays, length_penalty=length_penalty)
  np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=1e-6)
  value, count = metrics["ranking/accuracy"]
  assert set(np.unique(count)) <= {0, 1} and (value <= 1).all()
  noise = np.where(present > 0, logp, 1e6)
  np.testing.assert_array_equal(rrhf(noise, length, grade, present)[0], rrhf(*arrays)[0])


def test_worked_values_of_the_catalogue():
  logp, length = jnp.asarray([[-4.0, -10.0]]), jnp.asarray([[10.0, 20.0]])
  loss, metrics = odds_ratio(logp, length)
  assert f"{metrics['log_odds'][0]:.6f} {0.1 * loss[0]:.6f}" == "0.276881 0.056426"
  assert slic_hf(jnp.asarray([[-10.0, -12.0]]))[0][0] == 0


def test_cpo_is_dpo_with_a_reference_of_zero():
  logp, _ = _inputs(3)
  np.testing.assert_array_equal(cpo(logp)[0], dpo(logp, np.zeros_like(logp))[0])


def test_simpo_without_margin_at_equal_lengths_is_cpo_with_beta_per_token():
  logp, _ = _inputs(4)
  length = np.full_like(logp, 8.0)
  left = simpo(logp, length, beta=2.0, gamma=0.0)[0]
  np.testing.assert_allclose(left, cpo(logp, beta=2.0 / 8)[0], rtol=1e-5)


def test_alphapo_with_a_small_alpha_is_simpo():
  arrays = _inputs(5)
  small = alphapo(*arrays, beta=2.0, gamma=0.5, alpha=1e-5)[0]
  np.testing.assert_allclose(small, simpo(*arrays, beta=2.0, gamma=0.5)[0], rtol=1e-3)


def test_equal_averages_have_an_odds_ratio_of_one():
  length = jnp.asarray([[4.0, 8.0], [3.0, 0.0]])
  loss, _ = odds_ratio(jnp.asarray([[-2.0, -4.0], [0.0, 0.0]]), length)
  np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)


def test_gradient_of_the_odds_ratio_is_that_of_the_definition():
  logp, length = np.float32([[-4.0, -10.0], [-0.3, -7.0]]), np.float32([[10, 20], [5, 4]])
  grad = jax.grad(lambda x: odds_ratio(x, length)[0].sum())(logp)
  # d log odds / d avg = 1 / (1 - e^avg)
  average = np.float64(logp) / length
  odds = average - np.log(-np.expm1(average))
  wrong = 1 / (1 + np.exp(odds[:, 0] - odds[:, 1]))
  each = 1 / (-np.expm1(average)) / length
  wanted = np.stack([-wrong * each[:, 0], wrong * each[:, 1]], 1)
  np.testing.assert_allclose(grad, wanted, rtol=1e-4)


def test_log1mexp_is_accurate_at_both_ends():
  x = np.float32([-1e-7, -1e-3, -0.5, -0.69, -0.7, -5.0, -30.0, -80.0])
  wanted = np.log1p(-np.exp(np.float64(x)))
  wanted[:5] = np.log(-np.expm1(np.float64(x[:5])))
  np.testing.assert_allclose(numerics.log1mexp(x), wanted, rtol=1e-6)
  assert np.isfinite(jax.vmap(jax.grad(numerics.log1mexp))(x)).all()


def test_hinges_have_no_gradient_beyond_their_margin():
  far, one = jnp.asarray([[0.0, -100.0]]), jnp.ones((1, 2))
  for fn in (cpo_hinge, slic_hf, lambda x: simpo_hinge(x, one)):
    np.testing.assert_array_equal(jax.grad(lambda x, fn=fn: fn(x)[0].sum())(far), 0.0)


def test_cpo_ipo_is_smallest_at_its_margin():
  logp = jnp.asarray([[0.0, -5.0]])
  assert cpo_ipo(logp, jnp.ones((1, 2)), beta=0.1)[0][0] == 0


def test_rrhf_is_zero_where_the_order_is_right_and_at_equal_grades():
  one = jnp.ones((1, 3))
  logp = jnp.asarray([[-1.0, -2.0, -3.0]])
  assert rrhf(logp, one, jnp.asarray([[2.0, 1.0, 0.0]]), one)[0][0] == 0
  loss, metrics = rrhf(logp[:, ::-1], one, one, one)
  assert loss[0] == 0 and metrics["ranking/accuracy"][1][0] == 0


def test_the_likelihood_of_a_whole_sequence_is_that_of_the_first_candidate():
  logp, _ = _inputs(6, k=3)
  np.testing.assert_array_equal(sequence_nll(logp)[0], -logp[:, 0])


@pytest.mark.parametrize(
  ("call", "sentence"),
  [
    (lambda x: cpo(x, beta=0.0), "cpo needs beta > 0"),
    (lambda x: cpo(x, label_smoothing=0.6), "cpo needs label_smoothing from 0 to 0.5; it is 0.6"),
    (lambda x: simpo(x, x, label_smoothing=-0.1), "simpo needs label_smoothing"),
    (lambda x: alphapo(x, x, alpha=0.0), "alphapo needs alpha other than 0; at 0 it is simpo"),
    (lambda x: slic_hf(x, delta=-1.0), "slic_hf needs delta >= 0"),
    (lambda x: rrhf(x, x, x, x, length_penalty=0.0), "rrhf needs length_penalty > 0"),
    (lambda x: odds_ratio(x[:, :1], x[:, :1]), "odds_ratio reads 2 candidates"),
    (lambda x: simpo_hinge(x[:, :1], x[:, :1]), "simpo_hinge reads 2 candidates"),
  ],
)
def test_wrong_knobs_and_candidates_are_refused(call, sentence):
  with pytest.raises(Refused, match=sentence):
    call(jnp.ones((4, 2)))
