"""Update rules on problems whose answer is known: a game, a quadratic."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpref import call, update
from jaxpref.types import Refused, TrainState


def _state(tx, **params):
  params = {name: jnp.float32(value) for name, value in params.items()}
  return TrainState(jnp.int32(0), params, tx.init(params), jax.random.key(0), {})


def _game(params, carry, batch, key):
  """min over x, max over y of x * y."""
  return {"x": params["y"], "y": -params["x"]}, {}


def _distance(rule, lr, steps):
  """Distance from the equilibrium (0, 0) after so many steps from (3, 4)."""
  tx = optax.sgd(lr)
  state, step = _state(tx, x=3.0, y=4.0), jax.jit(lambda s: rule(_game, tx, s, None)[0])
  for _ in range(steps):
    state = step(state)
  assert int(state.step) == steps
  return float(jnp.hypot(state.params["x"], state.params["y"]))


def test_extragradient_converges_on_a_game_where_gradient_spirals_out():
  lr, steps = 0.3, 40
  np.testing.assert_allclose(
    _distance(update.extragradient, lr, steps), 5 * (1 - lr**2 + lr**4) ** (steps / 2), rtol=1e-4
  )
  np.testing.assert_allclose(
    _distance(update.gradient, lr, steps), 5 * (1 + lr**2) ** (steps / 2), rtol=1e-4
  )
  assert _distance(update.extragradient, lr, 300) < 1e-4 < 5 < _distance(update.gradient, lr, steps)


def test_extragradient_advances_the_optimizer_once():
  tx = optax.adam(0.1)
  new, _ = update.extragradient(_game, tx, _state(tx, x=3.0, y=4.0), None)
  assert int(new.opt_state[0].count) == 1


def _outer(params, carry, batch, key):
  """Gradient of a/2 theta^2, a = 2."""
  return jax.tree.map(lambda t: 2.0 * t, params), {}


def _inner(params, carry, batch, key):
  """Gradient of b/2 (theta - c)^2, b = 3, c = 1."""
  return jax.tree.map(lambda t: 3.0 * (t - 1.0), params), {}


def test_look_ahead_without_an_inner_step_is_gradient():
  tx = optax.adam(0.1)
  state = _state(tx, x=3.0, y=-4.0)
  ahead, _ = update.look_ahead(_outer, _inner, tx, state, None, inner_lr=0.0)
  plain, _ = update.gradient(_outer, tx, state, None)
  jax.tree.map(np.testing.assert_array_equal, ahead.params, plain.params)


def test_look_ahead_on_a_quadratic_is_its_closed_form():
  lr, inner_lr, theta = 0.1, 0.05, 3.0
  tx = optax.sgd(lr)
  new, metrics = update.look_ahead(_outer, _inner, tx, _state(tx, x=theta), None, inner_lr=inner_lr)
  ahead = theta - inner_lr * 3.0 * (theta - 1.0)
  np.testing.assert_allclose(new.params["x"], theta - lr * 2.0 * ahead, rtol=1e-6)
  np.testing.assert_allclose(metrics["grad_norm"], 2.0 * ahead, rtol=1e-6)


def test_a_rule_that_reads_inner_objectives_is_refused_where_there_are_none():
  tx = optax.sgd(0.1)
  step = update.make(update.look_ahead, {"grad_fn": _outer, "tx": tx}, ())
  with pytest.raises(Refused, match="look_ahead reads inner_grad_fn, which this run does not make"):
    step(_state(tx, x=1.0), None)


def test_every_rule_is_found_by_name():
  assert {"gradient", "extragradient", "look_ahead"} <= set(call.functions(update))
