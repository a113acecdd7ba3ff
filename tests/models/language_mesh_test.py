import jax
import numpy as np
import pytest
import transformer_by_hand as by_hand

from jaxpref import sharding
from jaxpref.models import language, reward
from jaxpref.types import Refused

CASES = [  # mesh, tied, depth (5 is scanned, 2 unrolled), scored
  ({"fsdp": 8}, True, 2, False),
  ({"data": 2, "fsdp": 4}, False, 5, True),
  ({"data": 2, "fsdp": 2, "tensor": 2}, True, 2, True),
  ({"data": 2, "fsdp": 2, "tensor": 2}, False, 5, False),
]


def _config(**changes):
  shape = dict(vocab=100, width=32, kv_heads=2, hidden=64, qkv_bias=True, qk_norm=True)
  return by_hand.config(**shape | changes)


def _names(tree):
  return {sharding.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("sizes,tied,depth,scored", CASES)
def test_loss_and_gradients_on_a_mesh_equal_those_of_one_device(sizes, tied, depth, scored):
  config = _config(tied=tied, depth=depth, remat="dots")
  params = by_hand.busy(language.init(jax.random.key(0), config))
  pairs = by_hand.rows(100, lengths=((3, 4), (5, 2), (1, 6), (2, 2)) * 4)
  batch = by_hand.batch(pairs, scored=scored)

  def loss(p, b):
    found = language.measure(p, b, config, {"logp", "entropy"})
    return found["logp"].sum() + found["entropy"].sum()

  value, grads = jax.jit(jax.value_and_grad(loss))(params, batch)
  mesh = sharding.make_mesh(**sizes)
  places = sharding.params_shardings(params, language.rules(config), mesh)
  with jax.set_mesh(mesh):
    placed = jax.device_put(params, places)
    step = jax.jit(jax.value_and_grad(loss), out_shardings=(None, places))
    there, regrads = step(placed, sharding.put(batch, mesh))
  np.testing.assert_allclose(there, value, rtol=1e-6)
  for a, b in zip(jax.tree.leaves(regrads), jax.tree.leaves(grads), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(), rtol=0)


def test_weights_lie_in_parts_on_a_mesh():
  config = _config()
  params = language.init(jax.random.key(0), config)
  mesh = sharding.make_mesh(fsdp=4, tensor=2)
  placed = jax.device_put(params, sharding.params_shardings(params, language.rules(config), mesh))
  for name in ("q", "k", "v", "o"):
    whole = placed["layers"]["attention"][name]
    assert whole.addressable_shards[0].data.size * 8 == whole.size
  assert placed["embed"].addressable_shards[0].data.size * 8 == placed["embed"].size


def test_a_reward_model_on_a_mesh_equals_one_device():
  config = _config()
  params = by_hand.busy(reward.init(jax.random.key(0), config))
  batch = by_hand.batch(by_hand.rows(100, lengths=((3, 4), (5, 2), (1, 6), (2, 2)) * 4))

  def total(p, b):
    return reward.measure(p, b, config, {"score"})["score"].sum()

  value, grads = jax.jit(jax.value_and_grad(total))(params, batch)
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  with jax.set_mesh(mesh):
    placed = jax.device_put(params, sharding.params_shardings(params, reward.rules(config), mesh))
    there, regrads = jax.jit(jax.value_and_grad(total))(placed, sharding.put(batch, mesh))
  np.testing.assert_allclose(there, value, rtol=2e-6)
  for a, b in zip(jax.tree.leaves(regrads), jax.tree.leaves(grads), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max(), rtol=0)


@pytest.mark.parametrize("name", by_hand.variants())
@pytest.mark.parametrize("model", [language, reward], ids=["language", "reward"])
def test_rules_cover_exactly_the_parameters_that_exist(name, model):
  config = by_hand.variants()[name]
  params = jax.eval_shape(lambda: model.init(jax.random.key(0), config))
  assert _names(sharding.specs(params, model.rules(config))) == _names(params)


def test_a_model_that_does_not_divide_over_the_mesh_is_refused_by_parameter():
  config = _config(width=36)
  params = jax.eval_shape(lambda: language.init(jax.random.key(0), config))
  with pytest.raises(Refused, match="embed .* dimension of 36 .* fsdp = 8"):
    sharding.params_shardings(params, language.rules(config), sharding.make_mesh(fsdp=8))
