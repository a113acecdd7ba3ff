import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from jaxpref.kernels import linear_logits, linear_logp
from jaxpref.types import Refused


def _inputs(n=9, d=8, columns=64, vocab=50, seed=0):
  rng = np.random.default_rng(seed)
  hidden = rng.normal(size=(n, d)).astype(np.float32)
  head = rng.normal(size=(d, columns)).astype(np.float32)
  targets = rng.integers(0, vocab, n).astype(np.int32)
  targets[::3] = -1
  targets[1], targets[2] = 0, vocab - 1
  return hidden, head, targets, vocab


def _by_scipy(hidden, head, targets, vocab):
  z = (hidden.astype(np.float64) @ head.astype(np.float64))[:, :vocab]
  logq = scipy.special.log_softmax(z, axis=-1)
  logp = np.where(targets < 0, 0.0, logq[np.arange(len(z)), np.maximum(targets, 0)])
  return logp, np.where(targets < 0, 0.0, scipy.special.entr(np.exp(logq)).sum(-1))


@pytest.mark.parametrize("layout", ["dv", "vd"])
@pytest.mark.parametrize("vocab", [50, 64])
def test_equals_log_softmax_and_entropy_of_scipy(layout, vocab):
  hidden, head, targets, _ = _inputs(vocab=vocab)
  given = head if layout == "dv" else head.T
  logp, entropy = linear_logp(hidden, given, targets, vocab=vocab, entropy=True, layout=layout)
  want_logp, want_entropy = _by_scipy(hidden, head, targets, vocab)
  np.testing.assert_allclose(logp, want_logp, rtol=2e-6, atol=2e-6)
  np.testing.assert_allclose(entropy, want_entropy, rtol=2e-6, atol=2e-6)


def test_the_entropy_is_left_out_unless_wanted():
  hidden, head, targets, vocab = _inputs()
  assert linear_logp(hidden, head, targets, vocab=vocab)[1] is None


def test_gradient_equals_the_closed_form_and_ignored_rows_and_padding_get_none():
  hidden, head, targets, vocab = _inputs()

  def total(h, w):
    return linear_logp(h, w, targets, vocab=vocab)[0].sum()

  d_hidden, d_head = jax.grad(total, (0, 1))(hidden, head)
  z = (hidden.astype(np.float64) @ head)[:, :vocab]
  dz = np.eye(vocab)[np.maximum(targets, 0)] - scipy.special.softmax(z, -1)
  dz *= (targets >= 0)[:, None]
  np.testing.assert_allclose(d_hidden, dz @ head[:, :vocab].T, atol=1e-5)
  np.testing.assert_allclose(d_head[:, :vocab], hidden.T @ dz, atol=1e-5)
  np.testing.assert_array_equal(d_hidden[targets < 0], 0.0)
  np.testing.assert_array_equal(d_head[:, vocab:], 0.0)


def test_the_entropy_gradient_equals_the_closed_form():
  hidden, head, targets, vocab = _inputs()

  def total(h):
    return linear_logp(h, head, targets, vocab=vocab, entropy=True)[1].sum()

  z = (hidden.astype(np.float64) @ head)[:, :vocab]
  q = scipy.special.log_softmax(z, -1)
  p = np.exp(q)
  dz = -p * (q + scipy.special.entr(p).sum(-1, keepdims=True)) * (targets >= 0)[:, None]
  np.testing.assert_allclose(jax.grad(total)(hidden), dz @ head[:, :vocab].T, atol=1e-5)


def test_a_head_of_zeros_is_uniform_over_the_true_vocabulary():
  hidden, head, _, vocab = _inputs()
  targets = np.arange(len(hidden), dtype=np.int32)
  logp, entropy = linear_logp(hidden, 0 * head, targets, vocab=vocab, entropy=True)
  np.testing.assert_allclose(logp, -np.log(vocab), rtol=1e-6)
  np.testing.assert_allclose(entropy, np.log(vocab), rtol=1e-6)


def test_a_row_of_one_huge_logit_is_certain_and_finite():
  hidden = jnp.asarray([[1e4]])
  head = jnp.zeros((1, 64)).at[0, 3].set(1.0)

  def value(h):
    return linear_logp(h, head, jnp.asarray([3]), vocab=50, entropy=True)

  logp, entropy = value(hidden)
  np.testing.assert_array_equal([logp[0], entropy[0]], [0.0, 0.0])
  assert np.isfinite(jax.jacobian(value)(hidden)).all()


def test_a_batch_of_ignored_rows_gives_zeros_and_no_gradient():
  hidden, head, _, vocab = _inputs()
  targets = np.full(len(hidden), -1, np.int32)

  def total(h, w):
    return sum(x.sum() for x in linear_logp(h, w, targets, vocab=vocab, entropy=True))

  value, grads = jax.value_and_grad(total, (0, 1))(hidden, head)
  assert value == 0.0
  for g in grads:
    np.testing.assert_array_equal(g, 0.0)


def test_bf16_inputs_give_float32_sums():
  hidden, head, targets, vocab = _inputs()
  hidden, head = jnp.asarray(hidden, jnp.bfloat16), jnp.asarray(head, jnp.bfloat16)
  logp, entropy = linear_logp(hidden, head, targets, vocab=vocab, entropy=True)
  assert logp.dtype == entropy.dtype == jnp.float32
  want, _ = _by_scipy(np.asarray(hidden, np.float64), np.asarray(head, np.float64), targets, vocab)
  np.testing.assert_allclose(logp, want, rtol=2e-6, atol=2e-6)


def test_wrong_layouts_and_narrow_heads_are_refused():
  hidden, head, targets, _ = _inputs()
  with pytest.raises(Refused, match="no layout 'vdd'. Did you mean 'vd'"):
    linear_logp(hidden, head, targets, vocab=50, layout="vdd")
  with pytest.raises(Refused, match="64 columns cannot hold a vocabulary of 65"):
    linear_logits(hidden, head, vocab=65)
