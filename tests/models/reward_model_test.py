import dataclasses

import jax
import numpy as np
import pytest
import transformer_by_hand as by_hand

from jaxpref import sharding
from jaxpref.models import reward
from jaxpref.types import Refused

_measure = jax.jit(reward.measure, static_argnames=("config", "want"))


def _model():
  config = by_hand.variants()["qwen2"]
  return config, by_hand.busy(reward.init(jax.random.key(0), config))


@pytest.mark.parametrize("side", ["right", "left", "middle", "around"])
def test_score_is_the_head_on_the_last_response_token_wherever_padding_stands(side):
  config, params = _model()
  pairs = by_hand.rows()
  batch = by_hand.batch(pairs, total=12, side=side, junk=11)
  found = _measure(params, batch, config, frozenset({"score", "length"}))
  assert set(found) == {"score", "length"} and found["score"].dtype == np.float32
  head = np.asarray(params["score"], np.float64)
  for i, (prompt, response) in enumerate(pairs):
    wanted = by_hand.hidden(params, config, prompt + response)[-1] @ head
    np.testing.assert_allclose(found["score"][i // 2, i % 2], wanted, rtol=2e-5, atol=2e-5)
    assert found["length"][i // 2, i % 2] == len(response)


def test_real_tokens_behind_the_last_counted_one_change_no_score():
  config, params = _model()
  batch = by_hand.batch(by_hand.rows())
  cut = dict(batch, mask=batch["mask"].copy(), prompt_mask=batch["prompt_mask"].copy())
  place = np.flatnonzero(batch["mask"][0, 0])[-1]
  cut["mask"][0, 0, place] = 0
  shorter = _measure(params, cut, config, frozenset({"score"}))["score"]
  cut["prompt_mask"][0, 0, place] = 1  # a real token that is only context
  longer = _measure(params, cut, config, frozenset({"score"}))["score"]
  np.testing.assert_allclose(longer, shorter, rtol=1e-5, atol=1e-6)


def test_a_new_model_scores_zero_and_its_head_gets_a_gradient():
  config = by_hand.config()
  params = reward.init(jax.random.key(0), config)
  batch = by_hand.batch(by_hand.rows())

  def total(p):
    return reward.measure(p, batch, config, {"score"})["score"][:, 0].sum()

  value, grads = jax.jit(jax.value_and_grad(total))(params)
  assert value == 0.0 and np.abs(grads["score"]).max() > 0.1


def test_candidates_without_tokens_score_zero_and_get_no_gradient():
  config, params = _model()
  batch = by_hand.batch(by_hand.rows(lengths=((0, 0), (0, 0))))

  def total(p):
    return reward.measure(p, batch, config, {"score"})["score"].sum()

  value, grads = jax.jit(jax.value_and_grad(total))(params)
  assert value == 0.0
  for leaf in jax.tree.leaves(grads):
    np.testing.assert_array_equal(leaf, 0.0)


def test_unknown_measures_are_refused_with_the_nearest():
  config, params = _model()
  with pytest.raises(Refused, match="reward model cannot measure 'scores'. Did you mean 'score'"):
    reward.measure(params, by_hand.batch(by_hand.rows()), config, {"scores"})


def _many(**fields):
  config = dataclasses.replace(by_hand.config(), **fields)
  return config, by_hand.busy(reward.init(jax.random.key(0), config))


def test_heads_exist_only_where_the_config_has_them_and_rules_name_all():
  for fields in ({}, {"parts": 3}, {"embedding": 4}, {"parts": 2, "embedding": 6, "unit": True}):
    config = dataclasses.replace(by_hand.config(), **fields)
    params = reward.init(jax.random.key(0), config)
    heads = {k: v.shape for k, v in params.items() if k in ("parts", "embedding", "gate")}
    assert heads.get("parts", (0, 0))[1] == config.parts
    assert heads.get("embedding", (0, 0))[1] == config.embedding
    assert heads.get("gate", (0, 0))[1] == config.embedding // 2
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    sharding.params_shardings(params, reward.rules(config), mesh)


@pytest.mark.parametrize("side", ["right", "left", "middle"])
def test_every_head_reads_its_place_wherever_padding_stands(side):
  config, params = _many(parts=3, embedding=4)
  pairs = by_hand.rows()
  batch = by_hand.batch(pairs, total=12, side=side, junk=11)
  names = frozenset({"score", "token_score", "score_parts", "embedding", "gate"})
  found = jax.tree.map(np.asarray, _measure(params, batch, config, names))
  head = {n: np.asarray(params[n], np.float64) for n in ("score", "parts", "embedding", "gate")}
  for i, (prompt, response) in enumerate(pairs):
    b, k = i // 2, i % 2
    hidden = by_hand.hidden(params, config, prompt + response)
    close = lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=5e-5)
    close(found["score_parts"][b, k], hidden[-1] @ head["parts"])
    close(found["embedding"][b, k], hidden[-1] @ head["embedding"])
    places = np.flatnonzero(batch["mask"][b, k])
    close(found["token_score"][b, k][places], (hidden @ head["score"])[len(prompt) :])
    assert (found["token_score"][b, k][batch["mask"][b, k] == 0] == 0).all()
    close(found["token_score"][b, k][places[-1]], found["score"][b, k])
    if k == 0:
      z = hidden[len(prompt) - 1] @ head["gate"]
      close(found["gate"][b], np.exp(z) / np.exp(z).sum())


def test_embeddings_have_length_one_where_the_config_says_so():
  config, params = _many(embedding=4, unit=True)
  batch = by_hand.batch(by_hand.rows())
  found = _measure(params, batch, config, frozenset({"embedding"}))["embedding"]
  np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, rtol=1e-5)


def test_heads_that_a_config_does_not_have_are_refused_with_the_field():
  config, params = _model()
  for name, field in (("score_parts", "parts"), ("embedding", "embedding"), ("gate", "embedding")):
    with pytest.raises(Refused, match=f"has no {name}: config.model.{field} is 0"):
      reward.measure(params, by_hand.batch(by_hand.rows()), config, {name})
  with pytest.raises(Refused, match="embedding=3 must be even"):
    by_hand.config(embedding=3)
  with pytest.raises(Refused, match="parts must be a whole number of at least 0"):
    by_hand.config(parts=-1)
