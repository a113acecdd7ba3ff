import dataclasses
import functools

import jax
import jax.extend as jex
import jax.numpy as jnp
import numpy as np
import pytest
import transformer_by_hand as by_hand

from jaxpref import models
from jaxpref.models import language, transformer
from jaxpref.types import Refused

ALL = frozenset(language.MEASURES) - {"value"}  # only a critic has it
VARIANTS = by_hand.variants()


def _model(name="qwen2", seed=0):
  config = VARIANTS[name]
  return config, by_hand.busy(language.init(jax.random.key(seed), config))


# Jitted once, so that tests of equal shapes share a compilation.
_measure = jax.jit(language.measure, static_argnames=("config", "want"))


@functools.partial(jax.jit, static_argnames=("config", "want"))
def _loss_and_grads(params, batch, config, want=frozenset({"logp"})):
  """The sum of all measures with its gradients, and the measures themselves."""

  def total(p):
    found = language.measure(p, batch, config, want)
    return sum(x.sum() for x in found.values()), found

  (loss, found), grads = jax.value_and_grad(total, has_aux=True)(params)
  return loss, grads, found


def _assert_same_gradients(found, wanted, rtol=1e-5):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, atol=rtol * np.abs(b).max(), rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_measure_equals_a_forward_pass_written_in_float64_numpy(name):
  config, params = _model(name)
  pairs = by_hand.rows(config.vocab)
  batch = by_hand.batch(pairs)
  found = _measure(params, batch, config, ALL)
  assert set(found) == ALL
  flat = {k: np.asarray(v).reshape(len(pairs), *v.shape[2:]) for k, v in found.items()}
  for i, (prompt, response) in enumerate(pairs):
    p, n = len(prompt), len(prompt) + len(response)
    ids = np.asarray(prompt + response)
    logq = by_hand.log_softmax(params, config, ids)
    own = logq[np.arange(n - 1), ids[1:]]
    entropy = -(np.exp(logq) * logq).sum(-1)
    np.testing.assert_allclose(flat["token_logp"][i, p:n], own[p - 1 :], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(flat["entropy"][i, p:n], entropy[p - 1 : -1], rtol=2e-5)
    collision = np.log(np.square(np.exp(logq)).sum(-1))
    np.testing.assert_allclose(flat["collision"][i, p:n], collision[p - 1 : -1], rtol=2e-5)
    scores = flat["logits"][i, p:n]
    assert scores.shape[1] == config.vocab <= config.padded_vocab
    again = scores - np.log(np.exp(np.float64(scores)).sum(-1, keepdims=True))
    np.testing.assert_allclose(again, logq[p - 1 : -1], rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(flat["logp"][i], own[p - 1 :].sum(), rtol=1e-5)
    np.testing.assert_allclose(flat["prompt_logp"][i], own[: p - 1].sum(), rtol=1e-5)
    hidden = by_hand.hidden(params, config, ids)
    np.testing.assert_allclose(flat["hidden"][i, :n], hidden, rtol=1e-4, atol=2e-5)
    assert flat["length"][i] == len(response)
    for name in ALL & set(language.PER_TOKEN):
      np.testing.assert_array_equal(flat[name][i, :p], 0.0)
      np.testing.assert_array_equal(flat[name][i, n:], 0.0)


@pytest.mark.parametrize("scored", [False, True])
@pytest.mark.parametrize("side,total", [("left", 9), ("middle", 9), ("around", 9), ("left", 17)])
def test_padding_of_any_amount_anywhere_changes_neither_logp_nor_gradients(side, total, scored):
  config, params = _model()
  pairs = by_hand.rows()
  other = by_hand.batch(pairs, total=total, side=side, scored=scored, junk=49)
  _, grads, logp = _loss_and_grads(params, by_hand.batch(pairs), config)
  _, regrads, again = _loss_and_grads(params, other, config)
  np.testing.assert_allclose(again["logp"], logp["logp"], rtol=1e-6)
  _assert_same_gradients(regrads, grads)


def test_prompt_logp_does_not_depend_on_padding():
  config, params = _model()
  pairs = by_hand.rows()
  a, b = (
    _measure(params, by_hand.batch(pairs, side=s), config, frozenset({"prompt_logp"}))[
      "prompt_logp"
    ]
    for s in ("right", "left")
  )
  np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("side", ["right", "left"])
def test_scored_places_give_the_same_numbers_and_gradients_as_all_places(side):
  config, params = _model("ragged")
  pairs = by_hand.rows(config.vocab)
  some = by_hand.batch(pairs, side=side, scored=True)
  every = {k: v for k, v in some.items() if k != "scored"}
  want = frozenset({"logp", "token_logp", "entropy"})
  _, grads, found = _loss_and_grads(params, some, config, want)
  _, regrads, again = _loss_and_grads(params, every, config, want)
  for name in want:
    np.testing.assert_allclose(found[name], again[name], atol=1e-6, rtol=1e-6)
  _assert_same_gradients(grads, regrads)


def test_scored_places_beyond_the_mask_count_for_nothing():
  config, params = _model()
  batch = by_hand.batch(by_hand.rows(), scored=True)
  batch["mask"][0, 0, batch["scored"][0, 0, 1]] = 0
  every = {k: v for k, v in batch.items() if k != "scored"}
  a, b = (_measure(params, x, config, frozenset({"logp"}))["logp"] for x in (batch, every))
  np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("scored", [False, True])
def test_rows_of_only_padding_give_zero_and_no_gradient(scored):
  config, params = _model()
  pairs = by_hand.rows(lengths=((0, 0), (0, 0), (0, 0), (0, 0)))
  batch = by_hand.batch(pairs, scored=scored)
  want = ALL - ({"hidden", "prompt_logp"} if scored else {"hidden"})
  _, grads, found = _loss_and_grads(params, batch, config, want)
  for name, x in found.items():
    np.testing.assert_array_equal(x, 0.0, err_msg=name)
  for leaf in jax.tree.leaves(grads):
    np.testing.assert_array_equal(leaf, 0.0)


def test_padding_rows_beside_real_rows_change_no_gradient():
  config, params = _model()
  pairs = by_hand.rows(lengths=((3, 4), (5, 2)))
  full = by_hand.batch(pairs + [([], []), ([], [])])
  _assert_same_gradients(
    _loss_and_grads(params, full, config)[1],
    _loss_and_grads(params, by_hand.batch(pairs), config)[1],
  )


def test_a_counted_first_token_that_nothing_predicts_has_logp_zero():
  config, params = _model()
  batch = by_hand.batch(by_hand.rows(lengths=((0, 3), (2, 2))))
  found = _measure(params, batch, config, frozenset({"token_logp"}))["token_logp"]
  assert found[0, 0, 0] == 0.0 and (found[0, 0, 1:3] < 0).all()


def _widths(jaxpr):
  """Last dimensions of everything that a jaxpr computes, inner jaxprs included."""
  for eqn in jaxpr.eqns:
    yield from (v.aval.shape[-1] for v in eqn.outvars if getattr(v.aval, "shape", ()))
    for inner in jex.core.jaxprs_in_params(eqn.params):
      yield from _widths(inner)


@pytest.mark.parametrize("want,logits", [("length", False), ("hidden", False), ("logp", True)])
def test_only_what_is_wanted_is_computed(want, logits):
  config, params = _model()
  batch = by_hand.batch(by_hand.rows())
  jaxpr = jax.make_jaxpr(lambda p, b: language.measure(p, b, config, {want}))(params, batch)
  widths = set(_widths(jaxpr.jaxpr))
  assert (config.padded_vocab in widths) == logits
  assert (config.hidden in widths) == (want != "length")


def test_with_scored_places_only_these_reach_the_head():
  config, params = _model()
  batch = by_hand.batch(by_hand.rows(), scored=True)
  jaxpr = jax.make_jaxpr(lambda p: language.measure(p, batch, config, {"logp"}))(params)
  n = batch["tokens"].shape[0] * batch["tokens"].shape[1]
  text = str(jaxpr)
  assert f"f32[{n * batch['scored'].shape[-1]},{config.padded_vocab}]" in text
  assert f"f32[{n * batch['tokens'].shape[-1]},{config.padded_vocab}]" not in text


def test_nothing_beyond_the_vocabulary_has_probability():
  config, params = _model("ragged")
  assert config.padded_vocab == 128
  params["head"] = params["head"].at[:, config.vocab :].set(1e3)
  batch = by_hand.batch(by_hand.rows(config.vocab))
  found = _measure(params, batch, config, frozenset({"entropy", "logp"}))
  assert (found["entropy"] <= np.log(config.vocab)).all() and (found["logp"] > -1e3).all()


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_rematerialisation_changes_no_number(remat):
  config, params = _model()
  batch = by_hand.batch(by_hand.rows())
  loss, grads, _ = _loss_and_grads(params, batch, config)
  again, regrads, _ = _loss_and_grads(params, batch, dataclasses.replace(config, remat=remat))
  np.testing.assert_allclose(again, loss, rtol=1e-6)
  _assert_same_gradients(regrads, grads)


@pytest.mark.slow
def test_full_rematerialisation_keeps_fewer_bytes_for_the_backward_pass():
  bytes_ = {}
  for remat in ("none", "dots", "full"):
    config = by_hand.config(depth=6, remat=remat)  # too deep to be unrolled
    params = language.init(jax.random.key(0), config)
    batch = by_hand.batch(by_hand.rows(lengths=((20, 20),) * 4), total=40)

    def total(p):
      return language.measure(p, batch, config, {"logp"})["logp"].sum()  # noqa: B023

    bytes_[remat] = jax.jit(jax.grad(total)).lower(params).compile().memory_analysis()
  sizes = {k: v.temp_size_in_bytes for k, v in bytes_.items()}
  assert sizes["full"] < sizes["dots"] < sizes["none"]


def test_scanned_layers_equal_unrolled_layers(monkeypatch):
  config, params = _model()
  batch = by_hand.batch(by_hand.rows())
  loss, grads, _ = _loss_and_grads(params, batch, config)
  monkeypatch.setattr(transformer, "UNROLLED", 0)
  jax.clear_caches()
  again, regrads, _ = _loss_and_grads(params, batch, config)
  np.testing.assert_allclose(again, loss, rtol=1e-6)
  _assert_same_gradients(regrads, grads)


def test_bf16_compute_is_near_float32_and_returns_float32():
  config, params = _model()
  batch = by_hand.batch(by_hand.rows())
  _, grads, half = _loss_and_grads(
    params, batch, dataclasses.replace(config, dtype="bfloat16"), ALL
  )
  full = _measure(params, batch, config, ALL)
  assert {x.dtype for x in half.values()} == {jnp.dtype(jnp.float32)}
  real = batch["mask"] + batch["prompt_mask"] > 0
  scale = np.abs(full["hidden"][real]).max()
  # two layers of a dozen roundings of 2^-9 each
  np.testing.assert_allclose(half["hidden"][real], full["hidden"][real], atol=24 * 2**-9 * scale)
  assert not np.array_equal(half["logp"], full["logp"])
  assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(grads))


def test_unknown_measures_are_refused_with_the_nearest():
  config, params = _model()
  with pytest.raises(Refused, match="cannot measure 'entropi'. Did you mean 'entropy'"):
    language.measure(params, by_hand.batch(by_hand.rows()), config, {"entropi"})
  with pytest.raises(Refused, match="no 'langage'. Did you mean 'language'"):
    models.find("langage")


@pytest.mark.parametrize(
  "change,sentence",
  [
    ({"kv_heads": 3}, "heads=4 is not a multiple of kv_heads=3"),
    ({"head_width": 7}, "head_width=7 must be even"),
    ({"depth": 0}, "depth must be a whole number of at least 1; got 0"),
    ({"width": 16.0}, "width must be a whole number of at least 1; got 16.0"),
    ({"dtype": "bfloat"}, "Did you mean 'bfloat16'"),
    ({"remat": "fulll"}, "Did you mean 'full'"),
    ({"norm_eps": 0.0}, "norm_eps must be above 0"),
  ],
)
def test_impossible_shapes_are_refused(change, sentence):
  with pytest.raises(Refused, match=sentence):
    by_hand.config(**change)


def test_the_table_has_rows_up_to_the_next_multiple_of_64():
  assert [by_hand.config(vocab=v).padded_vocab for v in (1, 64, 65)] == [64, 64, 128]


def test_a_new_model_predicts_nearly_uniformly():
  config = by_hand.config(width=64, vocab=2048, tied=False)
  params = language.init(jax.random.key(0), config)
  batch = by_hand.batch(by_hand.rows(2048))
  found = _measure(params, batch, config, frozenset({"logp", "length"}))
  np.testing.assert_allclose(found["logp"] / found["length"], -np.log(2048), rtol=0.05)


def test_scored_places_have_the_same_logits_and_collisions_as_all_places():
  config, params = _model()
  want = ALL & frozenset(language.PER_TOKEN)
  whole = by_hand.batch(by_hand.rows())
  some = by_hand.batch(by_hand.rows(), scored=True)
  left, right = (_measure(params, batch, config, want) for batch in (whole, some))
  for name in want:
    np.testing.assert_allclose(left[name], right[name], rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("scored", [False, True])
def test_a_critic_predicts_the_return_from_the_state_before_each_token(scored):
  config, params = _model()
  config = dataclasses.replace(config, critic=True)
  assert language.init(jax.random.key(0), config)["value"].shape == (config.width,)
  assert [name for name, _ in language.rules(config)][-1] == "value"
  params = params | {"value": jax.random.normal(jax.random.key(1), (config.width,))}
  pairs = by_hand.rows(config.vocab)
  batch = by_hand.batch(pairs)
  hidden = np.asarray(_measure(params, batch, config, frozenset({"hidden"}))["hidden"], np.float64)
  batch = by_hand.batch(pairs, scored=scored)
  value = np.asarray(_measure(params, batch, config, frozenset({"value"}))["value"])
  hidden, value = (x.reshape(len(pairs), *x.shape[2:]) for x in (hidden, value))
  head = np.asarray(params["value"], np.float64)
  for i, (prompt, response) in enumerate(pairs):
    p, n = len(prompt), len(prompt) + len(response)
    np.testing.assert_allclose(value[i, p:n], hidden[i, p - 1 : n - 1] @ head, rtol=1e-4, atol=1e-5)
    assert (value[i, :p] == 0).all() and (value[i, n:] == 0).all()


def test_a_model_without_a_critic_refuses_to_predict_a_return():
  config, params = _model()
  with pytest.raises(Refused, match="critic=True"):
    _measure(params, by_hand.batch(by_hand.rows(config.vocab)), config, frozenset({"value"}))
