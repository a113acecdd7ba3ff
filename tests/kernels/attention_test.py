import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxpref.kernels import attention


def _inputs(n=2, t=5, s=7, heads=4, groups=2, width=6, seed=0):
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return rng.normal(size=shape).astype(np.float32)

  mask = rng.random((n, t, s)) < 0.6
  mask[:, :, 0] = True
  return draw(n, t, heads, width), draw(n, s, groups, width), draw(n, s, groups, width), mask


def _by_hand(q, k, v, mask):
  """One query of one head at a time, in float64."""
  q, k, v = (x.astype(np.float64) for x in (q, k, v))
  out = np.zeros(q.shape)
  share = q.shape[2] // k.shape[2]
  for n, t, i in np.ndindex(q.shape[:3]):
    seen = np.flatnonzero(mask[n, t])
    score = k[n, seen, i // share] @ q[n, t, i] / np.sqrt(q.shape[-1])
    out[n, t, i] = scipy.special.softmax(score) @ v[n, seen, i // share]
  return out


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_equals_the_definition_for_any_grouping_of_heads(groups):
  q, k, v, mask = _inputs(groups=groups)
  np.testing.assert_allclose(attention(q, k, v, mask=mask), _by_hand(q, k, v, mask), atol=2e-6)


def test_masked_keys_and_values_change_nothing():
  q, k, v, mask = _inputs()
  mask[:, :, 3] = False
  out = attention(q, k, v, mask=mask)
  k[:, 3], v[:, 3] = 50.0, -1e3
  np.testing.assert_array_equal(attention(q, k, v, mask=mask), out)


def test_a_query_that_sees_nothing_is_finite_and_sends_no_gradient_if_unread():
  q, k, v, mask = _inputs()
  mask[0, 2] = False
  read = jnp.ones(q.shape).at[0, 2].set(0.0)
  out, pull = jax.vjp(lambda *a: attention(*a, mask=mask), q, k, v)
  assert np.isfinite(out).all()
  dq, dk, dv = pull(read)
  np.testing.assert_array_equal(dq[0, 2], 0.0)
  assert all(np.isfinite(g).all() for g in (dq, dk, dv))


def test_bf16_stays_bf16():
  q, k, v, mask = _inputs()
  out = attention(*(jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)), mask=mask)
  assert out.dtype == jnp.bfloat16
  np.testing.assert_allclose(out.astype(np.float32), _by_hand(q, k, v, mask), atol=0.04)
