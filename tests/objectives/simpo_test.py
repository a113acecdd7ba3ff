"""SimPO against its definition, worked value and identities."""

import definitions
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call
from jaxpref.objectives import dpo, simpo
from jaxpref.types import Refused


def _inputs(seed):
  rng = np.random.default_rng(seed)
  logp = rng.normal(-20.0, 4.0, (6, 2)).astype(np.float32)
  return logp, rng.integers(1, 30, (6, 2)).astype(np.float32)


@pytest.mark.parametrize(("beta", "gamma"), [(2.0, 0.5), (10.0, 5.0), (2.5, 0.0)])
def test_equals_the_definition(beta, gamma):
  loss, _ = simpo(*_inputs(0), beta=beta, gamma=gamma)
  wanted = definitions.simpo(*_inputs(0), beta, gamma)
  np.testing.assert_allclose(loss, wanted, rtol=2e-5, atol=2e-6)


def test_worked_value_of_the_catalogue():
  loss, _ = simpo(jnp.asarray([[-0.4, -0.5]]), jnp.ones((1, 2)), beta=2.0, gamma=0.5)
  assert f"{loss[0]:.6f}" == "0.854355"


def test_defaults_are_those_of_the_papers_repository():
  knobs = call.knobs(simpo)
  assert knobs["beta"] == 2.0 and knobs["gamma"] / knobs["beta"] == 0.25


def test_equal_lengths_and_no_margin_is_dpo_without_reference_at_beta_per_token():
  logp, _ = _inputs(1)
  loss, _ = simpo(logp, jnp.full((6, 2), 8.0), beta=2.0, gamma=0.0)
  wanted, _ = dpo(logp, jnp.zeros((6, 2)), beta=2.0 / 8, gamma=0.0)
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)


def test_repeating_a_response_changes_nothing():
  logp, length = _inputs(2)
  np.testing.assert_allclose(simpo(logp * 3, length * 3)[0], simpo(logp, length)[0], rtol=1e-5)


def test_gradient_raises_the_preferred_and_lowers_the_other():
  logp, length = map(jnp.asarray, _inputs(3))
  grad = jax.grad(lambda x: simpo(x, length)[0].sum())(logp)
  assert (grad[:, 0] < 0).all() and (grad[:, 1] > 0).all()


def test_empty_responses_have_average_zero():
  logp, length = jnp.zeros((1, 2)), jnp.zeros((1, 2))
  loss, grad = jax.value_and_grad(lambda x: simpo(x, length, gamma=0.5)[0].sum())(logp)
  np.testing.assert_allclose(loss, np.log1p(np.exp(0.5)), rtol=1e-6)
  np.testing.assert_array_equal(grad, 0.0)


def test_wrong_knobs_and_candidates_are_refused():
  with pytest.raises(Refused, match="no hyperparameter 'gama'. Did you mean 'gamma'"):
    call.bind(simpo, gama=0.1)
  with pytest.raises(Refused, match="simpo needs beta > 0"):
    simpo(*_inputs(0), beta=0.0)
  with pytest.raises(Refused, match="simpo reads 2 candidates"):
    simpo(jnp.zeros((4, 1)), jnp.ones((4, 1)))
