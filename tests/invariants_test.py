"""The loss of a step is the same whatever splits, pads, orders or places its batch.

Every objective of the room is tested, on real records, with a small model. Losses agree to 1e-6
relative, gradients to 1e-5 of the largest entry; that a *changed* batch moves both far more than
this is tested too, so the comparison can fail.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, data, objectives, prepare, sharding, update, vocabulary
from jaxpref import config as cfg
from jaxpref.data import chat, encode, pairs, tokenize
from jaxpref.models import language, presets, reward

ROWS = 8


def _served(fn, module):
  """Whether such a model, the records and `DRAWN` have all that a function reads of a pair."""
  there = (*module.MEASURES, *DRAWN, "mask", "relevance", "baseline")
  whole = not update.coupled(fn) and "rationale" not in fn.__name__
  return whole and all(n in there or vocabulary.plain(n) in module.MEASURES for n in call.needs(fn))


SMALL = dict(width=32, depth=2, heads=4, kv_heads=2, head_width=8, hidden=64)
QUICK = ("dpo", "kto")  # the others differ only in the last few lines of the program
DRAWN = ("label", "strength", "aspects", "step_label", "sampler_token_logp")  # not in the records
HEADS = dict(parts=2, embedding=4, unit=True)  # of the reward model
OBJECTIVES = [
  name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
  for name, fn in sorted(call.functions(objectives).items())
  if any(_served(fn, module) for module in (language, reward))
]
MESHES = (dict(fsdp=8), dict(data=2, fsdp=4), dict(data=2, fsdp=2, tensor=2))


@functools.cache
def _rows(single):
  records = data.personas("train", personas="interest-in-art,risk-averse")
  records = [r for r in records if max(map(len, r.responses)) < 48]
  if single:  # chosen and rejected ones in turn
    both = pairs.to_single(records)
    records = [both[2 * i + i % 2] for i in range(ROWS)]
  tokenizer = tokenize.byte_tokenizer(())
  rows, _ = encode.encode_all(records[:ROWS], tokenizer, chat.template("plain"), max_length=64)
  return rows, tokenizer.pad, tokenizer.vocab


def _batch(single, *, length=64, side="right", order=range(ROWS), scored=None, compact=True):
  """One batch; its mismatched pairs follow the record, not its place in the batch."""
  rows, pad, _ = _rows(single)
  shape = dict(length=length, scored=scored or length, pad=pad, side=side)
  picked = [rows[i] for i in order]
  batch = encode.collate(picked, candidates=1 if single else 2, **shape)
  if single:
    others = [rows[(i + 1) % ROWS] for i in order]
    batch |= encode.mismatched(picked, others, **shape)
  if not compact:
    batch = {k: v for k, v in batch.items() if not k.endswith("scored")}
  batch |= _drawn(batch, order)
  batch["weight"] = np.asarray([1.0, 2.0, 1.0, 0.5, 1.0, 1.0, 0.0, 1.0], np.float32)[list(order)]
  return batch


def _drawn(batch, order):
  """What the records lack, made from the record's number and the token's place in it."""
  i, place, counts = np.asarray(order, np.float32), batch["position"], batch["mask"] > 0
  part = np.arange(place.shape[1])[:, None] + np.arange(HEADS["parts"])
  made = {
    "label": 0.5 + 0.5 * np.sin(i),
    "strength": 1.0 + np.cos(i),
    "aspects": np.sin(i[:, None, None] + part),
    "step_label": np.where(counts & (place % 3 == 0), place % 2, -1),
    "sampler_token_logp": np.where(counts, -1.0 - np.sin(place) ** 2, 0.0),
  }
  return {k: v.astype(np.float32) for k, v in made.items()}


class Run:
  """Parameters and terms of one objective, and its loss and gradients on any batch."""

  def __init__(self, name):
    fn = call.find(objectives, name)
    needs = call.needs(fn)
    self.single = "baseline" in needs
    self.module = language if _served(fn, language) else reward
    heads = HEADS if self.module is reward else {}
    self.config = presets.language("nano", vocab=_rows(self.single)[2], **SMALL | heads)
    key = jax.random.key(0)
    draw = lambda k: jax.tree.map(
      lambda x: x + 0.05 * jax.random.normal(k, x.shape), self.module.init(k, self.config)
    )
    self.params, self.reference = draw(key), draw(jax.random.fold_in(key, 1))
    self.terms = (update.Term("main", cfg.resolve(objectives, {"fn": name}), 1.0, "", 0.0),)
    self.want = frozenset(needs) & frozenset(self.module.MEASURES)
    self.ready = prepare.make(self.measure, needs, self.measure)

  def measure(self, params, batch, want, key):
    return self.module.measure(params, batch, self.config, want, key)

  def __call__(self, batch, microbatches=1, mesh=None):
    grad_fn = update.make_grad_fn(self.terms, self.measure, self.want, microbatches)

    def step(params, reference, batch):
      batch = self.ready(params, {"ref": reference, "teacher": reference}, batch, None)
      return grad_fn(params, {}, batch, jax.random.key(0))

    mesh = sharding.make_mesh(**(mesh or {}), devices=None if mesh else jax.devices()[:1])
    with jax.set_mesh(mesh):
      shardings = sharding.params_shardings(self.params, self.module.rules(self.config), mesh)
      params, reference = (jax.device_put(p, shardings) for p in (self.params, self.reference))
      grads, metrics = jax.jit(step)(params, reference, sharding.put(batch, mesh))
    return jax.device_get(metrics), jax.device_get(grads)


@functools.cache
def _run(name):
  return Run(name)


@functools.cache
def _plain(name):
  return _run(name)(_batch(_run(name).single))


def _distance(one, other):
  """Relative distance of losses, and of gradients to the largest entry."""
  (m, g), (n, h) = one, other
  loss = abs(m["loss"] - n["loss"]) / abs(n["loss"])
  top = max(np.abs(x).max() for x in jax.tree.leaves(h))
  grad = max(
    np.abs(a - b).max() for a, b in zip(jax.tree.leaves(g), jax.tree.leaves(h), strict=True)
  )
  return float(loss), float(grad / top)


def _assert_same(one, other):
  loss, grad = _distance(one, other)
  assert loss <= 1e-6 and grad <= 1e-5, (loss, grad)
  names = set(one[0]) - {"nonfinite"}
  assert names == set(other[0]) - {"nonfinite"}
  for name in names:
    np.testing.assert_allclose(one[0][name], other[0][name], rtol=2e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_padding_side_and_amount_change_nothing(name):
  run = _run(name)
  for shape in (dict(length=96), dict(length=96, side="left", scored=80)):
    _assert_same(run(_batch(run.single, **shape)), _plain(name))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_scoring_only_what_counts_changes_nothing(name):
  run = _run(name)
  _assert_same(run(_batch(run.single, compact=False)), _plain(name))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_order_of_examples_changes_nothing(name):
  run = _run(name)
  _assert_same(run(_batch(run.single, order=(3, 1, 7, 0, 2, 6, 5, 4))), _plain(name))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_micro_batches_change_nothing(name):
  run = _run(name)
  for parts in (2, 4):
    _assert_same(run(_batch(run.single), parts), _plain(name))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_meshes_change_nothing(name):
  run = _run(name)
  for mesh in MESHES:
    _assert_same(run(_batch(run.single), 1, mesh), _plain(name))


def test_micro_batches_on_a_mesh_change_nothing():
  run = _run("dpo")
  _assert_same(run(_batch(False), 2, dict(data=2, fsdp=2, tensor=2)), _plain("dpo"))


def test_an_example_of_weight_zero_does_not_count():
  run, changed = _run("dpo"), _batch(False)
  (empty,) = np.flatnonzero(changed["weight"] == 0)
  changed["tokens"][empty] = 7
  _assert_same(run(changed), _plain("dpo"))


def test_a_changed_example_is_seen():
  run, changed = _run("dpo"), _batch(False)
  changed["tokens"][0, 0, 20] += 1
  loss, grad = _distance(run(changed), _plain("dpo"))
  assert loss > 1e-4 and grad > 1e-3


@pytest.mark.parametrize("mode", ["token", "sequence", "prompt", "constant"])
def test_token_losses_do_not_depend_on_micro_batches_in_any_reduction(mode):
  run = Run("nll")
  run.terms = (run.terms[0]._replace(mode=mode, constant=100.0),)
  _assert_same(run(_batch(False), 4), run(_batch(False)))


def test_averaging_micro_batch_means_would_be_wrong_here():
  """The batch is uneven enough that the usual mistake shows: the tests above can fail."""
  batch = _batch(False)
  whole = _run("nll")(batch)[0]["loss"]
  halves = [_run("nll")({k: v[i::2] for k, v in batch.items()})[0]["loss"] for i in (0, 1)]
  assert abs(jnp.mean(jnp.asarray(halves)) - whole) > 1e-4
