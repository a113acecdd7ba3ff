"""The negative log-likelihood against its definition."""

import definitions
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, reduce
from jaxpref.objectives import nll
from jaxpref.types import Refused


def _inputs(seed, k=2):
  rng = np.random.default_rng(seed)
  mask = (rng.random((5, k, 7)) < 0.6).astype(np.float32)
  mask[2] = 0
  return (-rng.gamma(2.0, 1.0, (5, k, 7))).astype(np.float32), mask


@pytest.mark.parametrize("k", [1, 2])
def test_token_mean_over_the_batch_equals_the_definition(k):
  token_logp, mask = _inputs(0, k)
  loss, _ = nll(token_logp, mask)
  assert loss.shape == (5, 1, 7)
  weights = reduce.weights(reduce.default_mode(loss.ndim), loss.ndim, mask=mask[:, :1])
  wanted = definitions.token_mean_nll(token_logp, mask)
  np.testing.assert_allclose((weights * loss).sum(), wanted, rtol=1e-5)


def test_only_counted_tokens_of_the_preferred_response_have_a_gradient():
  token_logp, mask = map(jnp.asarray, _inputs(1))
  grad = jax.grad(lambda x: nll(x, mask)[0].sum())(token_logp)
  np.testing.assert_array_equal(grad[:, 0], -mask[:, 0])
  np.testing.assert_array_equal(grad[:, 1], 0.0)


def test_what_stands_on_tokens_that_do_not_count_is_ignored():
  token_logp, mask = _inputs(2)
  wild = np.where(mask > 0, token_logp, np.nan)
  loss, metrics = nll(wild, mask)
  np.testing.assert_array_equal(loss, nll(token_logp, mask)[0])
  grad = jax.grad(lambda x: nll(x, mask)[0].sum())(jnp.asarray(wild))
  assert jnp.isfinite(loss).all() and jnp.isfinite(grad).all()
  np.testing.assert_array_equal(metrics["nll"], loss)


def test_certain_tokens_cost_nothing():
  assert nll(jnp.zeros((1, 1, 3)), jnp.ones((1, 1, 3)))[0].sum() == 0


def test_it_has_no_knob_to_set():
  with pytest.raises(Refused, match="nll has no hyperparameter 'beta'.*It has: none"):
    call.bind(nll, beta=0.1)
