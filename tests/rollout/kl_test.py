"""KL estimates: identities, gradients, clamps; coefficients that adapt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import adaptive, kl
from jaxpref.types import Refused

LOGITS = np.random.default_rng(0).normal(size=(2, 9))
POLICY, REFERENCE = (np.float64(x) - np.log(np.exp(x).sum()) for x in LOGITS)
EXACT = (np.exp(POLICY) * (POLICY - REFERENCE)).sum()


@pytest.mark.parametrize("kind", ["k1", "k3"])
def test_the_mean_over_the_policy_is_the_divergence(kind):
  values = kl.estimate(jnp.float32(POLICY), jnp.float32(REFERENCE), kind=kind)
  np.testing.assert_allclose((np.exp(POLICY) * values).sum(), EXACT, rtol=1e-5)


def test_k3_is_k1_plus_a_term_and_never_negative():
  x, ref = jnp.float32(POLICY), jnp.float32(REFERENCE)
  wanted = jnp.exp(ref - x) - 1 + kl.k1(x, ref)
  np.testing.assert_allclose(kl.k3(x, ref), wanted, atol=1e-6)
  assert (kl.k3(x, ref) >= 0).all()


def _slopes(fn, d):
  return float(jax.grad(lambda x: fn(x))(jnp.float32(d)))


@pytest.mark.parametrize(
  ("fn", "slope"),
  [
    (lambda x: kl.k1(x, 0.0), 1.0),
    (lambda x: kl.k2(x, 0.0), 0.0),
    (lambda x: kl.k3(x, 0.0), 0.0),
    (lambda x: kl.absolute(x, 0.0), 0.0),
    (lambda x: kl.ratio_corrected(kl.k3(x, 0.0), x, 0.0), 0.0),
    (lambda x: kl.ratio_corrected(kl.k1(x, 0.0), x, 0.0), 1.0),
  ],
)
def test_at_the_reference_all_are_zero_with_these_slopes(fn, slope):
  assert fn(jnp.float32(0.0)) == 0 and _slopes(fn, 0.0) == slope


@pytest.mark.parametrize("fn", [kl.k1_plus, kl.k3_plus])
@pytest.mark.parametrize("d", [-3.0, 0.5, 30.0])
def test_straight_through_estimates_have_the_gradient_of_k2(fn, d):
  assert _slopes(lambda x: fn(x, 0.0), d) == d
  plain = kl.k1 if fn is kl.k1_plus else kl.k3
  assert fn(jnp.float32(d), 0.0) == plain(jnp.float32(d), 0.0)


def test_ratio_times_k3_has_the_gradient_of_the_divergence():
  logits, ref = jnp.float32(LOGITS[0]), jnp.float32(REFERENCE)
  old = jnp.float32(POLICY)

  def exact(z):
    x = jax.nn.log_softmax(z)
    return (jnp.exp(x) * (x - ref)).sum()

  def sampled(z):
    x = jax.nn.log_softmax(z)
    return (jnp.exp(old) * kl.ratio_corrected(kl.k3(x, ref), x, old)).sum()

  np.testing.assert_allclose(jax.grad(sampled)(logits), jax.grad(exact)(logits), atol=1e-6)


def test_clamps_end_the_gradient():
  assert _slopes(lambda x: kl.k3(x, 0.0), -30.0) == 0
  assert _slopes(lambda x: kl.k1(x, 0.0, clamp_output=1.0), 3.0) == 0


@pytest.mark.parametrize("kind", kl.KINDS)
@pytest.mark.parametrize("size", [-1e6, 1e6])
def test_extremes_are_finite_and_the_reference_has_no_gradient(kind, size):
  fn = lambda x, ref: kl.estimate(x, ref, kind=kind)
  value, grads = jax.value_and_grad(fn, argnums=(0, 1))(jnp.float32(size), jnp.float32(0.0))
  assert jnp.isfinite(value) and jnp.isfinite(grads[0]) and grads[1] == 0


def test_an_unknown_kind_is_refused():
  with pytest.raises(Refused, match="has no kind='k4'"):
    kl.estimate(jnp.zeros(1), jnp.zeros(1), kind="k4")


def test_the_kl_coefficient_follows_the_target():
  assert adaptive.next_kl_coefficient(0.2, 6.0, 256.0) == pytest.approx(0.2)
  up, down = (adaptive.next_kl_coefficient(0.2, x, 5000.0) for x in (100.0, 0.0))
  assert up == pytest.approx(0.22) and down == pytest.approx(0.18)
  with pytest.raises(Refused, match="next_kl_coefficient needs target > 0"):
    adaptive.next_kl_coefficient(0.2, 6.0, 1.0, target=0.0)


def test_the_entropy_coefficient_rises_only_while_entropy_is_low():
  moved, used = adaptive.next_entropy_coefficient(0.01, 0.1)
  assert moved == pytest.approx(0.015) == used
  moved, used = adaptive.next_entropy_coefficient(0.01, 0.3)
  assert moved == pytest.approx(0.005) and used == 0
  assert adaptive.next_entropy_coefficient(0.0, 0.3)[0] == 0
  assert adaptive.next_entropy_coefficient(1.0, 0.1)[0] == 1
