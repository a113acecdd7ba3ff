"""LCPO against the card's equations: weights, closed forms of the bases, the memory, recovery."""

import definitions
import definitions_compose as compose
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpref import call, update
from jaxpref.objectives import cpo, dpo, ipo_sum, simpo
from jaxpref.types import Refused, TrainState
from jaxpref.wrappers import lcpo, without_gold


def _pairs(seed, rows=6, scale=4.0):
  return np.random.default_rng(seed).normal(-20.0, scale, (2, rows, 2)).astype(np.float32)


def _flip(x):
  return x[:, ::-1]


@pytest.mark.parametrize("surrogate", ["gibbs", "weighted"])
@pytest.mark.parametrize("eta", [0.5, 0.75, 0.9])
def test_the_loss_equals_the_definition(eta, surrogate):
  logp, ref = _pairs(0)
  fn = lcpo(call.bind(dpo, beta=0.3), start=eta, surrogate=surrogate)
  loss, metrics = fn(logp, ref, fn.init_carry())
  a, b = definitions.dpo(logp, ref, 0.3), definitions.dpo(_flip(logp), _flip(ref), 0.3)
  wanted, w = compose.each(compose.lcpo, a, b, eta=eta).T
  wanted = w * a + (1 - w) * b if surrogate == "weighted" else wanted
  np.testing.assert_allclose(loss, wanted, rtol=1e-5)
  np.testing.assert_allclose(metrics["lcpo/posterior"], w, rtol=1e-5)
  np.testing.assert_allclose(metrics["lcpo/reliability"], eta, rtol=1e-6)


def _delta(base, arrays):
  """D = B - A, read off the loss at eta = 1/2, where the posterior is q."""
  fn = lcpo(base, start=0.5)
  w = np.float64(fn(*arrays, fn.init_carry())[1]["lcpo/posterior"])
  return np.log(w) - np.log1p(-w)


def test_the_closed_forms_of_the_card():
  logp, ref = _pairs(1, scale=0.5)
  h = np.float64(logp[:, 0] - ref[:, 0]) - np.float64(logp[:, 1] - ref[:, 1])
  p = np.float64(logp[:, 0]) - logp[:, 1]
  length = np.full_like(logp, 5.0)
  np.testing.assert_allclose(_delta(dpo, (logp, ref)), 0.1 * h, rtol=1e-3, atol=1e-6)
  ipo = call.bind(ipo_sum, beta=0.5)
  np.testing.assert_allclose(_delta(ipo, (logp, ref)), 2 * h / 0.5, rtol=1e-3, atol=1e-5)
  found = _delta(call.bind(cpo, beta=1.1), (logp,))  # CPO with its likelihood term at beta 0.1
  np.testing.assert_allclose(found, (0.1 + 1) * p, rtol=1e-3, atol=1e-6)
  m = 2.0 * p / 5
  wanted = np.logaddexp(0, m + 0.5) - np.logaddexp(0, -m + 0.5)
  np.testing.assert_allclose(_delta(simpo, (logp, length)), wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
  ("q", "eta", "w"), [(0.8, 0.9, 0.972973), (0.05, 0.9, 0.321429), (0.5, 0.7, 0.7)]
)
def test_worked_posteriors(q, eta, w):
  logp = jnp.asarray([[np.log(q / (1 - q)) / 0.1, 0.0]], jnp.float32)
  fn = lcpo(dpo, start=eta)
  found = fn(logp, jnp.zeros((1, 2)), fn.init_carry())[1]["lcpo/posterior"][0]
  np.testing.assert_allclose(found, w, atol=2e-6)


def test_full_trust_is_dpo_and_none_gives_no_gradient():
  logp, ref = map(jnp.asarray, _pairs(2))
  value = lambda fn: jax.value_and_grad(lambda x: fn(x, ref, fn.init_carry())[0].sum())(logp)
  plain = jax.value_and_grad(lambda x: dpo(x, ref)[0].sum())(logp)
  loss, grad = value(lcpo(dpo, start=1.0))
  np.testing.assert_allclose(loss, plain[0], rtol=1e-4)
  np.testing.assert_allclose(grad, plain[1], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(value(lcpo(dpo, start=0.5))[1], 0.0, atol=1e-7)


def test_the_gradient_pulls_the_probability_to_the_posterior():
  logp, ref = map(jnp.asarray, _pairs(3))
  fn = lcpo(dpo, start=0.8)
  grad = jax.grad(lambda x: fn(x, ref, fn.init_carry())[0].sum())(logp)
  delta = 0.1 * (np.float64(logp - ref) @ [1.0, -1.0])
  q = 1 / (1 + np.exp(-delta))
  w = q * 0.8 / (q * 0.8 + (1 - q) * 0.2)
  np.testing.assert_allclose(grad[:, 0], 0.1 * (q - w), rtol=1e-3, atol=1e-7)


def test_exchanging_responses_and_reliability_leaves_the_loss():
  logp, ref = _pairs(4)
  one, other = lcpo(dpo, start=0.8), lcpo(dpo, start=0.2)
  left = one(logp, ref, one.init_carry())
  right = other(_flip(logp), _flip(ref), other.init_carry())
  np.testing.assert_allclose(left[0], right[0], rtol=1e-5)
  np.testing.assert_allclose(left[1]["lcpo/posterior"], 1 - right[1]["lcpo/posterior"], rtol=1e-4)


def test_annotators_have_their_own_reliability_and_an_absent_one_keeps_it():
  logp, ref = _pairs(5)
  fn = lcpo(dpo, start=0.8, rate=0.25, annotators=3)
  assert call.needs(fn) == ("logp", "ref_logp", "who", "carry")
  who, weight = jnp.asarray([0, 2, 2, 0, 0, 2]), jnp.asarray([1.0, 2, 1, 1, 0, 1])
  carry = jnp.asarray([0.9, 0.8, 0.6])
  _, metrics = fn(logp, ref, who, carry)
  np.testing.assert_allclose(metrics["lcpo/reliability"], np.asarray(carry)[who], rtol=1e-6)
  batch = {"weight": weight}
  means = {k: update.counted(v, batch) for k, v in metrics.items()}
  means = {k: jnp.where(n > 0, s / jnp.maximum(n, 1e-9), 0.0) for k, (s, n) in means.items()}
  w, share = np.asarray(metrics["lcpo/posterior"]), np.asarray(weight)
  mean = lambda k: (w * share)[np.asarray(who) == k].sum() / share[np.asarray(who) == k].sum()
  wanted = [0.75 * 0.9 + 0.25 * mean(0), 0.8, 0.75 * 0.6 + 0.25 * mean(2)]
  np.testing.assert_allclose(fn.next_carry(carry, means), wanted, rtol=1e-5)


def test_one_annotator_is_the_same_as_no_annotators():
  logp, ref = _pairs(6)
  one, several = lcpo(dpo), lcpo(dpo, annotators=2)
  left = one(logp, ref, one.init_carry())[0]
  right = several(logp, ref, jnp.zeros(6, int), several.init_carry())[0]
  np.testing.assert_array_equal(left, right)


def test_around_another_wrapper_and_with_soft_labels_the_roles_are_exchanged():
  logp, ref = np.random.default_rng(7).normal(-9, 2, (2, 4, 3)).astype(np.float32)
  fn = without_gold(lcpo(dpo))
  plain = lcpo(dpo)
  left = fn(logp, ref, plain.init_carry())[0]
  np.testing.assert_array_equal(left, plain(logp[:, 1:], ref[:, 1:], plain.init_carry())[0])

  def soft(logp, label):
    margin = logp[:, 0] - logp[:, 1]
    return -label * jax.nn.log_sigmoid(margin) - (1 - label) * jax.nn.log_sigmoid(-margin), {}

  even = lcpo(soft, start=0.9)
  _, metrics = even(logp[:, 1:], jnp.full(4, 0.5), even.init_carry())
  np.testing.assert_allclose(metrics["lcpo/posterior"], 0.9, rtol=1e-5)


def _planted(seed, count, reliability):
  """Pairs of features whose order is sigmoid(8 w* x); labels are exchanged with 1 - reliability."""
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(count, 2, 6)) / np.sqrt(6)
  truth = 8 * (x[:, 0, 0] - x[:, 1, 0])
  right = (rng.random(count) < 1 / (1 + np.exp(-truth))) == (rng.random(count) < reliability)
  return np.where(right[:, None, None], x, x[:, ::-1]).astype(np.float32)


def test_the_reliability_of_planted_labels_is_found():
  """One pass over fresh pairs with a linear model: eta ends near the share of right labels."""
  fn = lcpo(call.bind(cpo, beta=1.0), start=0.9, rate=0.1)
  terms = (update.Term("main", fn, 1.0, "", 0.0),)
  measure = lambda params, batch, want, key: {"logp": batch["features"] @ params["w"]}
  tx = optax.adam(0.3)
  parts = {"grad_fn": update.make_grad_fn(terms, measure, frozenset({"logp"})), "tx": tx}
  step = update.make(update.gradient, parts, terms)
  params = {"w": jnp.zeros(6)}
  state = TrainState(
    jnp.int32(0), params, tx.init(params), jax.random.key(0), update.init_carry(terms)
  )
  batches = jnp.asarray(_planted(8, 300 * 128, 0.75)).reshape(300, 128, 2, 6)
  one = lambda s, x: (step(s, {"features": x, "weight": jnp.ones(128)})[0], s.carry["main"][0])
  state, path = jax.jit(lambda s: jax.lax.scan(one, s, batches))(state)
  assert path[0] == np.float32(0.9)
  np.testing.assert_allclose(path[-50:].mean(), 0.75, atol=0.03)
  np.testing.assert_allclose(state.params["w"][0], 8.0, atol=1.0)  # the planted weight


def test_what_lcpo_does_not_fit_is_refused():
  for knobs, sentence in (
    ({"start": 1.2}, "lcpo needs start from 0 to 1; it is 1.2"),
    ({"rate": -0.1}, "lcpo needs rate from 0 to 1"),
    ({"annotators": 0}, "lcpo needs annotators > 0"),
    ({"surrogate": "gibs"}, "no surrogate 'gibs'. Did you mean 'gibbs'"),
  ):
    with pytest.raises(Refused, match=sentence):
      lcpo(dpo, **knobs)
  with pytest.raises(Refused, match="lcpo keeps a memory and so does dpo"):
    lcpo(lcpo(dpo))
  with pytest.raises(Refused, match="lcpo reads 2 candidates"):
    lcpo(dpo)(jnp.zeros((2, 3)), jnp.zeros((2, 3)), jnp.ones(1))
