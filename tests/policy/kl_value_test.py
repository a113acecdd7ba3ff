"""KL terms, entropy and value losses against float64 definitions and the identities of the page."""

import definitions
import definitions_policy
import jax
import jax.numpy as jnp
import numpy as np
import policy_batches
import pytest

from jaxpref import call, objectives

PLAIN = ("k1", "k2", "k3", "abs")
KL = [(name, {"estimator": e}) for name in ("kl_penalty", "kl_corrected") for e in PLAIN]
KL += [("kl_penalty", {"estimator": e, "max_kl": 0.1}) for e in PLAIN]
KL += [("kl_penalty", {"estimator": "k3", "max_log_ratio": 0.2})]
REST = [
  ("entropy_bonus", {}),
  ("value_mse", {}),
  ("value_clip", {}),
  ("value_clip", {"epsilon": 2.0}),
]
EXACT = 1e-4  # gradients against central differences in float64


def _feed(name, arrays, **knobs):
  return call.feed(call.bind(getattr(objectives, name), **knobs), arrays)


def _wanted(name, arrays, **knobs):
  names = (*call.needs(getattr(objectives, name)), "mask")
  return definitions_policy.loss(name, {k: arrays[k] for k in names}, **knobs)


@pytest.mark.parametrize(("name", "knobs"), KL + REST)
def test_equals_the_definition_in_value_and_slope(name, knobs):
  arrays = policy_batches.arrays(0)
  learned = call.needs(getattr(objectives, name))[0]
  loss = _feed(name, arrays, **knobs)[0]
  np.testing.assert_allclose(loss, _wanted(name, arrays, **knobs), rtol=2e-5, atol=2e-6)
  ours = jax.grad(lambda x: _feed(name, arrays | {learned: x}, **knobs)[0].sum())(arrays[learned])
  value = lambda x: _wanted(name, arrays | {learned: x}, **knobs).sum()
  slope = definitions.slope(value, arrays[learned], 1e-6)
  np.testing.assert_allclose(ours, slope, rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_straight_through_estimators_have_the_value_of_k_and_the_gradient_of_k2(estimator):
  arrays = policy_batches.arrays(1)
  run = lambda e, x: _feed("kl_penalty", arrays | {"token_logp": x}, estimator=e)[0]
  grad = lambda e: jax.grad(lambda x: run(e, x).sum())(arrays["token_logp"])
  x = arrays["token_logp"]
  np.testing.assert_allclose(run(estimator + "+", x), run(estimator, x), rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(grad(estimator + "+"), grad("k2"), rtol=1e-6)


def test_k3_is_not_negative_and_is_k1_plus_a_term_of_mean_one():
  arrays = policy_batches.arrays(2)
  d = np.float64(arrays["token_logp"] - arrays["ref_token_logp"]) * arrays["mask"]
  k1, k3 = (_feed("kl_penalty", arrays, estimator=e)[0] for e in ("k1", "k3"))
  assert (k3 >= 0).all()
  np.testing.assert_allclose(k3, np.expm1(-d) + np.float64(k1), rtol=1e-4, atol=1e-6)


def test_gradients_where_policy_and_reference_are_equal():
  one = jnp.ones((1, 1, 1))
  wanted = {("kl_penalty", "k1"): 1, ("kl_penalty", "k2"): 0, ("kl_penalty", "k3"): 0}
  wanted |= {("kl_corrected", "k3"): 0, ("kl_corrected", "k1"): 1}
  for (name, estimator), slope in wanted.items():
    arrays = {"old_token_logp": -one, "ref_token_logp": -one, "mask": one}
    fn = lambda x, n=name, e=estimator, a=arrays: _feed(n, a | {"token_logp": x}, estimator=e)[0]
    np.testing.assert_allclose(fn(-one), 0.0)
    np.testing.assert_allclose(jax.grad(lambda x, fn=fn: fn(x).sum())(-one), slope)


def _expected(weights, name, estimator, theta, old, ref):
  """Mean of a term over the tokens of a categorical policy, and its gradient in the logits."""

  def mean(logits):
    logp, one = jax.nn.log_softmax(logits), jnp.ones((1, 1, len(logits)))
    as_rows = lambda x: x[None, None]
    arrays = {"token_logp": as_rows(logp), "old_token_logp": as_rows(old)}
    arrays |= {"ref_token_logp": as_rows(ref), "mask": one}
    return (weights * _feed(name, arrays, estimator=estimator)[0][0, 0]).sum()

  return jax.value_and_grad(mean)(theta)


def test_in_the_mean_k1_and_k3_are_the_kl_and_only_some_gradients_are_its_gradient():
  rng = np.random.default_rng(3)
  theta, old, ref = (jnp.asarray(rng.normal(size=5), jnp.float32) for _ in range(3))
  policy, old, ref = (jax.nn.log_softmax(x) for x in (theta, old, ref))

  def reverse(x):
    logp = jax.nn.log_softmax(x)
    return (jnp.exp(logp) * (logp - ref)).sum()

  kl, right = jax.value_and_grad(reverse)(theta)
  forward = jax.grad(lambda x: (jnp.exp(ref) * (ref - jax.nn.log_softmax(x))).sum())(theta)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
  on_policy = lambda e: _expected(jnp.exp(policy), "kl_penalty", e, theta, policy, ref)
  close(on_policy("k1")[0], kl)
  close(on_policy("k3")[0], kl)
  close(on_policy("k1")[1], jnp.zeros(5))
  for estimator in ("k2", "k1+", "k3+"):
    close(on_policy(estimator)[1], right)
  close(on_policy("k3")[1], forward)
  for estimator in ("k1", "k3"):  # sampled by the old policy, corrected
    off = _expected(jnp.exp(old), "kl_corrected", estimator, theta, old, ref)
    close(off[0], kl)
    close(off[1], right)


@pytest.mark.parametrize("size", [-1e6, -30.0, 30.0, 1e6])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3", "abs", "k1+", "k3+"])
def test_kl_terms_are_finite_at_extremes_and_clamps_end_the_gradient(size, estimator):
  one = jnp.ones((1, 1, 1))
  for name in ("kl_penalty", "kl_corrected"):
    arrays = {"old_token_logp": -one, "ref_token_logp": -one - size, "mask": one}
    fn = lambda x, n=name, a=arrays: _feed(n, a | {"token_logp": x}, estimator=estimator)[0].sum()
    assert jnp.isfinite(fn(-one)) and jnp.isfinite(jax.grad(fn)(-one)).all()
  bound = lambda x: objectives.kl_penalty(x, arrays["ref_token_logp"], one, max_kl=10.0)[0].sum()
  assert abs(bound(-one)) == 10 and (jax.grad(bound)(-one) == 0).all()


@pytest.mark.parametrize("name", ["kl_penalty", "kl_corrected", "entropy_bonus", "value_clip"])
def test_what_does_not_count_may_hold_anything(name):
  arrays = policy_batches.arrays(4)
  off = arrays["mask"] == 0
  wild = {k: jnp.where(off, jnp.nan, arrays[k]) for k in call.needs(getattr(objectives, name))}
  wild |= {"mask": arrays["mask"]}
  np.testing.assert_array_equal(_feed(name, wild)[0], _feed(name, arrays)[0])
  learned = call.needs(getattr(objectives, name))[0]
  grad = jax.grad(lambda x: _feed(name, wild | {learned: x})[0].sum())(wild[learned])
  assert jnp.isfinite(grad).all()


def test_a_value_that_has_moved_far_enough_towards_its_target_has_no_gradient():
  one = jnp.ones((1, 1, 1))
  grad = jax.grad(lambda v: objectives.value_clip(v, 0 * one, 2 * one, one, epsilon=0.5)[0].sum())
  assert grad(0.3 * one) < 0 and grad(0.7 * one) == 0 and grad(-0.7 * one) < 0
  _, metrics = objectives.value_clip(0.7 * one, 0 * one, 2 * one, one)
  assert metrics["value/clip_frac"] == 1
  np.testing.assert_allclose(metrics["value/error"], -1.3, rtol=1e-6)
