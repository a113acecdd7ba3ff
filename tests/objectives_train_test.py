"""Every objective trains: 30 steps on bundled records, with as many candidates as it takes.

The model is measured and differentiated once for all objectives (the programs are shared); what an
objective adds is its own gradient in what it reads. Names that neither data nor model make
(rewards, advantages, what a sampler said) are drawn as in `contract_test`.
"""

import functools

import contract_test
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxpref import call, data, objectives, reduce, update, vocabulary
from jaxpref.data import chat, encode, tokenize
from jaxpref.models import find, presets

B, T, STEPS = 6, 24, 30
MODEL = dict(width=16, depth=1, heads=2, kv_heads=1, head_width=8, hidden=32)
NAMES = sorted(call.functions(objectives))


@functools.cache
def _batch(k):
  """Persona statements; with three candidates the third is one of another persona."""
  records = [r for r in data.personas("train") if max(map(len, r.responses)) < 48][: 4 * B : 4]
  texts = (text for r in records for text in (r.prompt, *r.responses))
  tokenizer = tokenize.train_bpe(texts, 300, ())
  others = [r.responses[1] for r in records[1:] + records[:1]]
  few = [
    r.__class__(r.prompt, (*r.responses, other)[:k], relevance=(2.0, 1.0, 0.0)[:k])
    for r, other in zip(records, others, strict=True)
  ]
  rows, _ = encode.encode_all(
    few, tokenizer, chat.template("plain"), max_length=T, truncate="response"
  )
  batch = encode.collate(rows, length=T, scored=T, pad=tokenizer.pad, candidates=k)
  return {n: jnp.asarray(x) for n, x in batch.items()}, tokenizer.vocab


@functools.cache
def _model(kind, k):
  """Parameters of a policy and another model, and jitted forward and backward passes."""
  batch, vocab = _batch(k)
  module = find(kind)
  config = presets.language("nano", vocab=vocab, **MODEL)
  want = frozenset(module.MEASURES)
  measure = lambda params: module.measure(params, batch, config, want, None)
  one, other = (module.init(jax.random.key(i), config) for i in (0, 1))
  other = jax.tree.map(lambda a, b: a + 0.1 * b, one, other)
  backward = jax.jit(lambda params, cotangents: jax.vjp(measure, params)[1](cotangents)[0])
  return one, other, jax.jit(measure), backward


def _kind(fn):
  needs = {vocabulary.plain(n) for n in call.needs(fn)}
  for kind in ("language", "reward"):
    if needs & set(vocabulary.MEASURED) <= set(find(kind).MEASURES):
      return kind
  return None


def _candidates(fn):
  """The least of 2, 1, 3 candidates that a function takes."""
  return contract_test._inputs(fn)[_first_with_candidates(fn)].shape[1]


def _first_with_candidates(fn):
  return next(i for i, n in enumerate(call.needs(fn)) if "K" in vocabulary.axes(n))


def _fixed(fn, k, measured_other, kind):
  """Everything that does not change while the policy learns."""
  batch, _ = _batch(k)
  rng, arrays = np.random.default_rng(0), {}
  for name in call.needs(fn):
    plain = vocabulary.plain(name)
    if name in batch or name == "carry" or (plain == name and plain in find(kind).MEASURES):
      continue
    if name != plain and plain in measured_other:
      arrays[name] = measured_other[plain]
    else:
      contract_test.T, kept = T, contract_test.T
      arrays[name] = contract_test._draw(name, rng, B, k)
      contract_test.T = kept
  return batch | arrays


def _train(fn):
  """Losses of every step and the last gradients."""
  kind, k = _kind(fn), _candidates(fn)
  params, other, forward, backward = _model(kind, k)
  fixed = _fixed(fn, k, forward(other), kind)
  read = [n for n in call.needs(fn) if n in find(kind).MEASURES]
  carry = update.init_carry((update.Term("main", fn, 1.0, "", 0.0),)).get("main")
  memory = {} if carry is None else {"carry": carry}

  def loss_of(measured, arrays):
    value, _ = call.feed(fn, arrays | measured | memory)
    counts = update._counts(value.shape, arrays | {"weight": jnp.ones(B)})
    mode = reduce.default_mode(value.ndim)
    weights = reduce.weights(mode, value.ndim, **counts)
    return (jnp.where(weights > 0, value, 0.0) * weights).sum()

  slope = jax.jit(jax.value_and_grad(loss_of, argnums=(0, 1), allow_int=True))
  tx = optax.adam(3e-3)
  state, losses = tx.init(params), []
  for _ in range(STEPS):
    measured = forward(params)
    loss, (inner, outer) = slope({n: measured[n] for n in read}, fixed)
    frozen = {n: g for n, g in outer.items() if n.startswith(contract_test.FIXED)}
    cotangents = {n: inner.get(n, jnp.zeros_like(x)) for n, x in measured.items()}
    grads = backward(params, cotangents)
    updates, state = tx.update(grads, state)
    params = optax.apply_updates(params, updates)
    losses.append(float(loss))
  return losses, grads, frozen


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_its_loss_falls_with_finite_gradients_and_none_for_the_reference(name):
  fn = call.find(objectives, name)
  if _kind(fn) is None:
    pytest.fail(f"no model measures what {name} reads: {call.needs(fn)}")
  losses, grads, frozen = _train(fn)
  assert np.isfinite(losses).all()
  assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
  assert any((g != 0).any() for g in jax.tree.leaves(grads))
  for array, grad in frozen.items():
    np.testing.assert_array_equal(grad, 0.0, err_msg=array)
  assert losses[-1] < losses[0] - 1e-6 * abs(losses[0]), losses
