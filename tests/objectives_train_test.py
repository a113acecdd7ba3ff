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
from jaxpref.types import Refused

B, T, STEPS = 6, 24, 30
MODEL = dict(width=16, depth=1, heads=2, kv_heads=1, head_width=8, hidden=32)
HEADS = dict(language=dict(critic=True), reward=dict(parts=4, embedding=4))
UNMEASURED = ("spo_degree", "swav")  # read what the models of their papers will measure
NEEDS_MORE = ("rrhf",)  # 0 for a single candidate, which has nothing to be compared with
# losses whose weights follow the policy without gradient: what must move instead, and which way
AIMS = {
  "alpha_dpo": ("rewards/margins", 1),
  "asft": ("nll", -1),
  "dft": ("nll", -1),
  "iw_opd": ("teacher_push", 1),
  "minillm": ("teacher_push", 1),
  "minillm_normalised": ("teacher_push", 1),
  "sampled_rkl": ("teacher_push", 1),
}
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
  if k == 1:
    batch["relevance"] = np.resize([1.0, 0.0], (B, 1)).astype(np.float32)
  return {n: jnp.asarray(x) for n, x in batch.items()}, tokenizer.vocab


@functools.cache
def _model(kind, k):
  """Parameters of a policy and another model, and jitted forward and backward passes."""
  batch, vocab = _batch(k)
  module = find(kind)
  config = presets.language("nano", vocab=vocab, **MODEL, **HEADS[kind])
  want = frozenset(module.MEASURES)
  measure = lambda params: module.measure(params, batch, config, want, None)
  one, other = (module.init(jax.random.key(i), config) for i in (0, 1))
  noise = module.init(jax.random.key(2), config)
  one, other = (jax.tree.map(lambda a, b: a + 0.1 * b, one, x) for x in (noise, other))
  if kind == "reward":  # scores of 0 are a saddle of some losses
    one["score"] = one["score"] + 0.3 * jax.random.normal(jax.random.key(3), one["score"].shape)
  backward = jax.jit(lambda params, cotangents: jax.vjp(measure, params)[1](cotangents)[0])
  return one, other, jax.jit(measure), backward


def _kind(fn):
  needs = {vocabulary.plain(n) for n in call.needs(fn)}
  for kind in ("language", "reward"):
    if needs & set(vocabulary.MEASURED) <= set(find(kind).MEASURES):
      return kind
  return None


def _candidates(fn):
  """Which of 1, 2 and 3 candidates a function takes."""
  taken = []
  for k in (1, 2, 3):
    rng = np.random.default_rng(0)
    names = [n for n in call.needs(fn) if n != "carry"]
    arrays = {n: contract_test._draw(n, rng, B, k) for n in names} | _memory(fn)
    try:
      jax.eval_shape(functools.partial(call.feed, fn), arrays)
    except Refused:
      continue
    taken.append(k)
  return taken


def _memory(fn):
  term = update.Term("main", fn, 1.0, "", 0.0)
  memory = update.init_carry((term,))
  return {"carry": memory["main"]} if memory else {}


def _fixed(fn, k, own, measured_other, kind):
  """Everything that does not change while the policy learns: it sampled the batch itself."""
  batch, _ = _batch(k)
  rng, arrays = np.random.default_rng(0), {}
  for name in call.needs(fn):
    plain = vocabulary.plain(name)
    if name in batch or name == "carry" or (plain == name and plain in find(kind).MEASURES):
      continue
    if name != plain and plain in own:
      mine = name.startswith(("old_", "sampler_"))
      arrays[name] = (own if mine else measured_other)[plain]
    else:
      contract_test.T, kept = T, contract_test.T
      arrays[name] = contract_test._draw(name, rng, B, k)
      contract_test.T = kept
  if "advantage" in arrays:  # one number for a response
    arrays["advantage"] = jnp.broadcast_to(arrays["advantage"][..., :1], arrays["advantage"].shape)
  if "token_logp" in own:
    arrays["first_token_logp"] = own["token_logp"]
  return batch | arrays


def _train(fn, k):
  """Loss and metrics of every step, and the first gradients."""
  kind = _kind(fn)
  params, other, forward, backward = _model(kind, k)
  fixed, memory = _fixed(fn, k, forward(params), forward(other), kind), _memory(fn)
  read = [n for n in call.needs(fn) if n in find(kind).MEASURES]

  def loss_of(measured, arrays):
    value, metrics = call.feed(fn, arrays | measured | memory)
    counts = update._counts(value.shape, arrays | {"weight": jnp.ones(B)})
    weights = reduce.weights(reduce.default_mode(value.ndim), value.ndim, **counts)
    means = {n: x.mean() for n, x in metrics.items() if not isinstance(x, tuple)}
    return (jnp.where(weights > 0, value, 0.0) * weights).sum(), means

  slope = jax.jit(jax.value_and_grad(loss_of, argnums=(0, 1), allow_int=True, has_aux=True))
  tx = optax.adam(3e-3)
  state, told, first = tx.init(params), [], None
  for _ in range(STEPS):
    measured = forward(params)
    (loss, metrics), (inner, outer) = slope({n: measured[n] for n in read}, fixed)
    if "advantage" in fixed and "token_logp" in measured:
      pushed = fixed["advantage"] * measured["token_logp"] * fixed["mask"]
      metrics["advantage"] = pushed.mean()
    if "teacher_token_logp" in fixed:
      gap = fixed["teacher_token_logp"] - fixed["first_token_logp"]
      metrics["teacher_push"] = (gap * measured["token_logp"] * fixed["mask"]).mean()
    told.append({n: float(x) for n, x in (metrics | {"loss": loss}).items()})
    grads = backward(params, {n: inner.get(n, jnp.zeros_like(x)) for n, x in measured.items()})
    first = first or (grads, outer)
    updates, state = tx.update(grads, state)
    params = optax.apply_updates(params, updates)
  return told, *first


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_its_loss_falls_with_finite_gradients_and_none_for_the_reference(name):
  fn = call.find(objectives, name)
  if name in UNMEASURED:
    assert _kind(fn) is None, f"a model measures what {name} reads: take it from UNMEASURED"
    return
  assert _kind(fn), f"no model measures what {name} reads: {call.needs(fn)}"
  aim, sign = AIMS.get(name, ("advantage", 1) if "advantage" in call.needs(fn) else ("loss", -1))
  for k in _candidates(fn):
    if k == 1 and name in NEEDS_MORE:
      continue
    told, grads, outer = _train(fn, k)
    assert np.isfinite([t["loss"] for t in told]).all()
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert any((g != 0).any() for g in jax.tree.leaves(grads))
    for array, grad in outer.items():
      if array.startswith(contract_test.FIXED):
        np.testing.assert_array_equal(grad, 0.0, err_msg=array)
    begin, end = told[0][aim], told[-1][aim]
    assert sign * (end - begin) > 1e-6 * abs(begin), (k, aim, [t[aim] for t in told])
