"""IPO, averaged and summed, against its definition, worked values and identities."""

import definitions
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call
from jaxpref.objectives import ipo, ipo_sum
from jaxpref.types import Refused

WORKED = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
LENGTH = jnp.asarray([[20.0, 24.0]])


def _inputs(seed):
  rng = np.random.default_rng(seed)
  logp, ref_logp = rng.normal(-20.0, 4.0, (2, 6, 2)).astype(np.float32)
  return logp, ref_logp, rng.integers(1, 30, (6, 2)).astype(np.float32)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_equals_the_definition(beta):
  logp, ref_logp, length = _inputs(0)
  wanted = definitions.ipo(logp, ref_logp, length, beta)
  np.testing.assert_allclose(ipo(logp, ref_logp, length, beta=beta)[0], wanted, rtol=1e-5)
  wanted = definitions.ipo_sum(logp, ref_logp, beta)
  np.testing.assert_allclose(ipo_sum(logp, ref_logp, beta=beta)[0], wanted, rtol=1e-5)


def test_worked_values_of_the_catalogue():
  np.testing.assert_allclose(ipo(*WORKED, LENGTH)[0][0], 24.296684, rtol=1e-6)
  assert f"{ipo_sum(*WORKED)[0][0]:.6f}" == "12.250000"


def test_policy_equal_to_the_reference_gives_the_squared_target():
  logp, _, length = _inputs(1)
  np.testing.assert_allclose(ipo_sum(logp, logp, beta=0.5)[0], 1 / (4 * 0.5**2), rtol=1e-6)
  np.testing.assert_allclose(ipo(logp, logp, length, beta=0.5)[0], 1 / (4 * 0.5**2), rtol=1e-6)


def test_length_one_makes_the_averaged_form_the_summed_one():
  logp, ref_logp, _ = _inputs(2)
  one = ipo(logp, ref_logp, jnp.ones((6, 2)))[0]
  np.testing.assert_array_equal(one, ipo_sum(logp, ref_logp)[0])


@pytest.mark.parametrize("average", [True, False])
def test_gradient_changes_sign_at_the_margin_one_over_two_beta(average):
  beta, length = 0.25, 4.0 if average else 1.0
  ref_logp, rows = jnp.zeros((1, 2)), jnp.full((1, 2), length)

  def slope(margin):
    fn = lambda x: ipo(x, ref_logp, rows, beta=beta) if average else ipo_sum(x, ref_logp, beta=beta)
    return jax.grad(lambda x: fn(x)[0].sum())(jnp.asarray([[margin * length, 0.0]]))[0, 0]

  target = 1 / (2 * beta)
  assert slope(target - 0.5) < 0 < slope(target + 0.5) and slope(target) == 0


def test_an_empty_response_has_log_ratio_zero():
  logp, ref_logp = jnp.asarray([[0.0, -12.0]]), jnp.asarray([[0.0, -11.5]])
  length = jnp.asarray([[0.0, 24.0]])
  grad = jax.grad(lambda x: ipo(x, ref_logp, length)[0].sum())(logp)
  wanted = definitions.ipo(logp, ref_logp, length)
  np.testing.assert_allclose(ipo(logp, ref_logp, length)[0], wanted, rtol=1e-5)
  assert grad[0, 0] == 0 and grad[0, 1] > 0


def test_reported_rewards_are_sums_and_the_margin_is_what_the_loss_sees():
  _, metrics = ipo(*WORKED, LENGTH, beta=0.1)
  np.testing.assert_allclose(metrics["rewards/chosen"], [0.1], rtol=1e-5)
  np.testing.assert_allclose(metrics["rewards/margins"], [0.15], rtol=1e-5)
  np.testing.assert_allclose(metrics["margin"], [1 / 20 + 0.5 / 24], rtol=1e-5)
  np.testing.assert_allclose(ipo_sum(*WORKED)[1]["margin"], [1.5], rtol=1e-5)


def test_wrong_knobs_are_refused():
  with pytest.raises(Refused, match="no hyperparameter 'bta'. Did you mean 'beta'"):
    call.bind(ipo_sum, bta=0.1)
  with pytest.raises(Refused, match="ipo needs beta > 0; it is 0"):
    ipo(*WORKED, LENGTH, beta=0.0)
  with pytest.raises(Refused, match="ipo_sum needs beta > 0; it is nan"):
    ipo_sum(*WORKED, beta=float("nan"))
