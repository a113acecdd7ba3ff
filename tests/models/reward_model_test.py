import jax
import numpy as np
import pytest
import transformer_by_hand as by_hand

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
