"""The careful pieces against plain float64 numpy, at ordinary and at degenerate inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import numerics


def test_safe_divide_is_zero_with_zero_gradient_where_the_denominator_is_zero():
  x, y = jnp.asarray([3.0, 5.0, 0.0]), jnp.asarray([2.0, 0.0, 0.0])
  np.testing.assert_array_equal(numerics.safe_divide(x, y), [1.5, 0.0, 0.0])
  grads = jax.grad(lambda x, y: numerics.safe_divide(x, y).sum(), argnums=(0, 1))(x, y)
  np.testing.assert_allclose(grads[0], [0.5, 0.0, 0.0])
  np.testing.assert_allclose(grads[1], [-0.75, 0.0, 0.0])


def test_masked_mean_equals_the_mean_of_what_counts():
  rng = np.random.default_rng(0)
  x, mask = rng.normal(size=(5, 7)), rng.random((5, 7)) < 0.5
  mask[3] = False
  wanted = [row[m].mean() if m.any() else 0.0 for row, m in zip(x, mask, strict=True)]
  got = numerics.masked_mean(jnp.asarray(x, jnp.float32), jnp.asarray(mask, jnp.float32), axis=1)
  np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_masked_mean_ignores_what_does_not_count_even_if_it_is_not_a_number():
  x, mask = jnp.asarray([1.0, jnp.nan, 3.0, jnp.inf]), jnp.asarray([1.0, 0.0, 1.0, 0.0])
  value, grad = jax.value_and_grad(lambda x: numerics.masked_mean(x, mask))(x)
  assert value == 2.0
  np.testing.assert_array_equal(grad, [0.5, 0.0, 0.5, 0.0])


def test_masked_mean_weighs_by_the_mask():
  got = numerics.masked_mean(jnp.asarray([1.0, 5.0]), jnp.asarray([3.0, 1.0]))
  np.testing.assert_allclose(got, 2.0)


def test_average_logp_is_per_token_and_zero_for_an_empty_response():
  got = numerics.average_logp(jnp.asarray([-6.0, 0.0]), jnp.asarray([3.0, 0.0]))
  np.testing.assert_array_equal(got, [-2.0, 0.0])


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_k3_is_unbiased_for_the_divergence_and_never_negative(shift):
  # KL(N(0,1) || N(shift,1)) = shift^2 / 2, in closed form
  x = np.random.default_rng(1).normal(size=400_000)
  log_ratio = jnp.asarray(x * shift - shift**2 / 2, jnp.float32)
  samples = np.asarray(numerics.k3(log_ratio), np.float64)
  error = samples.std() / np.sqrt(samples.size)
  assert samples.min() >= 0 and abs(samples.mean() - shift**2 / 2) <= 4 * error


def test_k3_keeps_its_digits_near_zero():
  u = 1e-3
  np.testing.assert_allclose(numerics.k3(jnp.float32(u)), u**2 / 2 + u**3 / 6, rtol=1e-3)


def test_pair_rewards_and_logps_have_no_gradient_and_count_a_tie_as_wrong():
  reward = jnp.asarray([[1.0, -1.0], [2.0, 2.0]])
  found = numerics.pair_rewards(reward)
  np.testing.assert_array_equal(found["rewards/margins"], [2.0, 0.0])
  np.testing.assert_array_equal(found["rewards/accuracies"], [1.0, 0.0])
  for fn in (numerics.pair_rewards, numerics.pair_logps):
    grad = jax.grad(lambda r, fn=fn: sum(v.sum() for v in fn(r).values()))(reward)
    np.testing.assert_array_equal(grad, 0.0)
  np.testing.assert_array_equal(numerics.pair_logps(reward)["logps/rejected"], [-1.0, 2.0])


def test_a_steady_sum_does_not_depend_on_order_or_on_zeros_around():
  rng = np.random.default_rng(0)
  x = rng.normal(-3.0, 2.0, (20, 700)).astype(np.float32)
  exact = x.astype(np.float64).sum(-1)
  plain = jax.jit(numerics.steady_sum)(x)
  for other in (x[:, ::-1], rng.permuted(x, axis=1), np.pad(x, ((0, 0), (37, 91)))):
    np.testing.assert_array_equal(jax.jit(numerics.steady_sum)(other), plain)
  # correctly rounded: within half a unit in the last place, and a little for the rests
  ulp = np.spacing(np.abs(exact).astype(np.float32))
  assert (np.abs(plain - exact) <= 0.51 * ulp).all()


def test_a_steady_sum_has_the_gradient_of_a_sum():
  x = jnp.asarray([-5.31, 0.0, 2.7])
  np.testing.assert_array_equal(jax.grad(numerics.steady_sum)(x), 1.0)


def test_a_steady_sum_keeps_the_sign_of_a_long_small_difference():
  """4096 tokens that differ by 1e-3 nats each way: catalogue 1, section 2, identity 12."""
  noise = np.random.default_rng(1).choice([-1e-3, 1e-3], 4096).astype(np.float32)
  base = np.full(4096, -2.0, np.float32)
  got = numerics.steady_sum(jnp.asarray(base + noise)) - numerics.steady_sum(jnp.asarray(base))
  want = (base + noise).astype(np.float64).sum() - base.astype(np.float64).sum()
  assert np.sign(got) == np.sign(want) and abs(got - want) < 1e-3
