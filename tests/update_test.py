"""Update rules, terms with memory and terms that couple examples, against closed forms."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpref import call, update
from jaxpref.types import Refused, TrainState


def _state(params, tx, carry=None):
  zero = jnp.int32(0)
  return TrainState(zero, params, tx.init(params), jax.random.key(0), carry or {})


def _grad_fn(of):
  """A grad_fn for a plain function of the parameters."""

  def grad_fn(params, carry, batch, key):
    del carry, batch, key
    value, grads = jax.value_and_grad(of)(params)
    return grads, {"loss": value}

  return grad_fn


def _bilinear(params, carry, batch, key):
  """The game x * y: x descends, y ascends; its only equilibrium is (0, 0)."""
  del carry, batch, key
  x, y = params["x"], params["y"]
  return {"x": y, "y": -x}, {"loss": x * y}


def _play(rule, steps=300):
  tx = optax.sgd(0.2)
  state = _state({"x": jnp.float32(1.0), "y": jnp.float32(0.5)}, tx)
  for _ in range(steps):
    state, _ = rule(_bilinear, tx, state, {})
  return float(jnp.hypot(state.params["x"], state.params["y"])), state


def test_extragradient_converges_on_the_bilinear_game_where_gradient_spirals_out():
  start = np.hypot(1.0, 0.5)
  # closed forms of one step: sqrt(1 + lr^2) outwards, sqrt(1 - lr^2 + lr^4) inwards
  out, _ = _play(update.gradient, 50)
  inwards, state = _play(update.extragradient, 50)
  np.testing.assert_allclose(out, start * np.sqrt(1 + 0.2**2) ** 50, rtol=1e-4)
  np.testing.assert_allclose(inwards, start * np.sqrt(1 - 0.2**2 + 0.2**4) ** 50, rtol=1e-4)
  assert _play(update.extragradient)[0] < 1e-2
  assert int(state.step) == 50


def test_look_ahead_takes_the_gradient_after_the_inner_step():
  """Outer a(p - 3)^2, inner (p - c)^2: p - lr * 2a(p - 2 eta (p - c) - 3)."""
  p, a, c, eta, lr = 1.0, 0.7, -2.0, 0.1, 0.05
  tx = optax.sgd(lr)
  outer = _grad_fn(lambda t: a * (t["p"] - 3.0) ** 2)
  inner = _grad_fn(lambda t: (t["p"] - c) ** 2)
  state = _state({"p": jnp.float32(p)}, tx)
  new, _ = update.look_ahead(outer, inner, tx, state, {}, inner_lr=eta)
  ahead = p - eta * 2 * (p - c)
  np.testing.assert_allclose(new.params["p"], p - lr * 2 * a * (ahead - 3.0), rtol=1e-6)
  still, _ = update.look_ahead(outer, inner, tx, state, {}, inner_lr=0.0)
  plain, _ = update.gradient(outer, tx, state, {})
  np.testing.assert_array_equal(still.params["p"], plain.params["p"])


def test_look_ahead_without_inner_objectives_says_what_is_missing():
  tx = optax.sgd(0.1)
  parts = {"grad_fn": _grad_fn(lambda t: t["p"] ** 2), "tx": tx}
  step = update.make(update.look_ahead, parts, ())
  with pytest.raises(Refused, match="look_ahead reads inner_grad_fn, which this run does not make"):
    step(_state({"p": jnp.float32(1.0)}, tx), {})


# An objective with memory: a running mean of its loss, read as `carry`.


def init_carry(*, decay: float = 0.5):
  del decay
  return jnp.float32(2.0)


def next_carry(carry, metrics, *, decay: float = 0.5):
  return decay * carry + (1.0 - decay) * metrics["seen"]


def remembering(score, carry, *, decay: float = 0.5):
  """Half the squared distance of the first score to the memory."""
  del decay
  value = score[:, 0]
  return 0.5 * (value - carry) ** 2, {"seen": value}


def _measure(params, batch, want, key):
  del want, key
  return {"score": params["w"] * batch["features"][:, :, 0]}


def _batch():
  rng = np.random.default_rng(0)
  return {
    "features": jnp.asarray(rng.normal(size=(8, 2, 1)), jnp.float32),
    "weight": jnp.asarray([1.0, 2.0, 0.0, 1.0, 1.0, 0.5, 1.0, 1.0]),
  }


def _remember(microbatches, steps=3):
  terms = (update.Term("main", call.bind(remembering, decay=0.25), 1.0, "", 0.0),)
  tx = optax.sgd(0.1)
  grad_fn = update.make_grad_fn(terms, _measure, frozenset({"score"}), microbatches)
  step = update.make(update.gradient, {"grad_fn": grad_fn, "tx": tx}, terms)
  state = _state({"w": jnp.float32(1.5)}, tx, update.init_carry(terms))
  for _ in range(steps):
    state, metrics = step(state, _batch())
  return state, metrics


def _by_hand(steps=3):
  """The same in float64, from the definition."""
  batch = _batch()
  x = np.asarray(batch["features"], np.float64)[:, 0, 0]
  share = np.asarray(batch["weight"], np.float64) / float(batch["weight"].sum())
  w, memory = 1.5, 2.0
  for _ in range(steps):
    seen = (share * w * x).sum()
    w, memory = w - 0.1 * (share * (w * x - memory) * x).sum(), 0.25 * memory + 0.75 * seen
  return w, memory


@pytest.mark.parametrize("microbatches", [1, 2, 4])
def test_memory_is_constant_in_an_update_and_moves_once_whatever_the_micro_batches(microbatches):
  state, _ = _remember(microbatches)
  w, memory = _by_hand()
  np.testing.assert_allclose(state.params["w"], w, rtol=1e-5)
  np.testing.assert_allclose(state.carry["main"], memory, rtol=1e-5)


def halved(score, carry, *, decay: float = 0.5):
  """As `remembering`, of half the score, under the same name of its metric."""
  return remembering(0.5 * score, carry, decay=decay)


def test_two_memories_whose_objectives_report_the_same_name_stay_apart():
  terms = tuple(
    update.Term(name, call.bind(fn, decay=0.0), 0.0, "", 0.0)
    for name, fn in (("one", remembering), ("two", halved))
  )
  grad_fn = update.make_grad_fn(terms, _measure, frozenset({"score"}), 2)
  step = update.make(update.gradient, {"grad_fn": grad_fn, "tx": optax.sgd(0.1)}, terms)
  state, metrics = step(
    _state({"w": jnp.float32(1.5)}, optax.sgd(0.1), update.init_carry(terms)), _batch()
  )
  np.testing.assert_allclose(state.carry["two"], 0.5 * state.carry["one"], rtol=1e-6)
  assert not any(name.startswith("own/") for name in metrics)


def test_an_objective_that_reads_carry_without_init_carry_is_refused():
  def forgetful(score, carry):
    return score[:, 0] * carry, {}

  forgetful.__module__ = "jaxpref.numerics"
  with pytest.raises(Refused, match="reads carry, but jaxpref.numerics has no init_carry"):
    update.init_carry((update.Term("main", forgetful, 1.0, "", 0.0),))


def test_a_coupled_objective_is_refused_with_micro_batches_by_name(monkeypatch):
  module = SimpleNamespace(COUPLED=True)
  monkeypatch.setitem(sys.modules, "contrast_room", module)

  def contrast(score):
    return score[:, 0] - score[:, 0].mean(), {}

  contrast.__module__ = "contrast_room"
  terms = (update.Term("main", contrast, 1.0, "", 0.0),)
  update.make_grad_fn(terms, _measure, frozenset({"score"}), 1)
  with pytest.raises(Refused, match="contrast couples the examples of a batch: set microbatches=1"):
    update.make_grad_fn(terms, _measure, frozenset({"score"}), 2)


def test_terms_add_up_with_their_weights_and_are_reported_apart():
  def first(score):
    return score[:, 0], {}

  def second(score):
    return score[:, 1] ** 2, {}

  one, two = (update.Term(n, f, w, "", 0.0) for n, f, w in (("a", first, 1.0), ("b", second, 0.3)))
  grad_fn = update.make_grad_fn((one, two), _measure, frozenset({"score"}), 1)
  batch = _batch()
  _, metrics = grad_fn({"w": jnp.float32(1.5)}, {}, batch, None)
  share = np.asarray(batch["weight"]) / batch["weight"].sum()
  score = 1.5 * np.asarray(batch["features"])[:, :, 0]
  np.testing.assert_allclose(metrics["loss/a"], (share * score[:, 0]).sum(), rtol=1e-5)
  np.testing.assert_allclose(metrics["loss/b"], (share * score[:, 1] ** 2).sum(), rtol=1e-5)
  np.testing.assert_allclose(
    metrics["loss"], metrics["loss/a"] + 0.3 * metrics["loss/b"], rtol=1e-5
  )


def test_rows_whose_loss_is_not_finite_are_named_in_any_split():
  def log_of(score):
    return jnp.log(score[:, 0]), {}

  terms = (update.Term("main", log_of, 1.0, "", 0.0),)
  batch = _batch()
  want = np.asarray(batch["features"][:, 0, 0] <= 0) & (np.asarray(batch["weight"]) > 0)
  assert want.any() and not want.all()
  for microbatches in (1, 2, 4):
    grad_fn = update.make_grad_fn(terms, _measure, frozenset({"score"}), microbatches)
    _, metrics = grad_fn({"w": jnp.float32(1.0)}, {}, batch, None)
    np.testing.assert_array_equal(metrics["nonfinite"], want)


def test_metrics_with_counts_of_their_own_are_means_over_what_they_count():
  value = jnp.asarray([1.0, 5.0, jnp.nan, 2.0])
  count = jnp.asarray([1.0, 0.0, 0.0, 1.0])
  total, number = update.counted((value, count), {"weight": jnp.asarray([1.0, 1.0, 1.0, 3.0])})
  assert float(total) == 7.0 and float(number) == 4.0


def _wrapped(base):
  return call.wrapped(base, lambda inner, arrays: call.feed(inner, arrays), call.needs(base))


def test_a_wrapped_objective_keeps_the_memory_of_its_base():
  term = update.Term("main", _wrapped(call.bind(remembering, decay=0.25)), 1.0, "", 0.0)
  assert float(update.init_carry((term,))["main"]) == 2.0
  assert float(update._memory(term, "next_carry")(2.0, {"seen": 4.0})) == 0.25 * 2 + 0.75 * 4


def test_a_wrapper_may_bring_a_memory_of_its_own():
  base = lambda score: (score[:, 0], {})
  fn = call.wrapped(
    base,
    lambda inner, arrays: inner(arrays["score"]),
    ["score", "carry"],
    init_carry=lambda: jnp.float32(7.0),
    next_carry=lambda carry, metrics: carry + 1,
  )
  term = update.Term("main", call.bind(fn), 1.0, "", 0.0)
  assert float(update.init_carry((term,))["main"]) == 7.0
  assert float(update._memory(term, "next_carry")(7.0, {})) == 8.0


def test_a_wrapped_objective_couples_examples_as_its_base_does(monkeypatch):
  monkeypatch.setitem(sys.modules, "contrast_room", SimpleNamespace(COUPLED=True))

  def contrast(score):
    return score[:, 0] - score[:, 0].mean(), {}

  contrast.__module__ = "contrast_room"
  assert update.coupled(_wrapped(contrast)) and update.coupled(_wrapped(_wrapped(contrast)))
  assert not update.coupled(_wrapped(remembering))
