"""Meshes, path rules and batches, on eight virtual devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxpref import sharding
from jaxpref.types import Refused

RULES = (("layers/.*/kernel", (None, "fsdp", "tensor")), ("scale", (None,)))


def _params():
  kernel = jnp.zeros((3, 8, 4))
  return {"layers": {"a": {"kernel": kernel}, "b": {"kernel": kernel}}, "scale": jnp.zeros(8)}


def test_a_mesh_has_the_four_axes_of_auto_kind_and_data_may_take_the_rest():
  mesh = sharding.make_mesh(data=-1, fsdp=2, tensor=2)
  assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2, "sequence": 1}
  assert set(mesh.axis_types) == {AxisType.Auto}
  assert sharding.make_mesh(data=3).size == 3


@pytest.mark.parametrize(
  ("sizes", "sentence"),
  [
    ({"data": 9}, "needs 9 devices; there are 8"),
    ({"data": -1, "tensor": 3}, "= 3 does not divide the 8 devices"),
    ({"fsdp": 0}, "fsdp=0"),
  ],
)
def test_a_mesh_that_does_not_fit_the_devices_is_refused(sizes, sentence):
  with pytest.raises(Refused, match=sentence):
    sharding.make_mesh(**sizes)


def test_a_constraint_shards_under_a_mesh_and_is_nothing_without_one():
  x = jnp.ones((8, 4))
  assert sharding.shard(x, "data", None) is x
  mesh = sharding.make_mesh(data=4)
  with jax.set_mesh(mesh):
    y = jax.jit(lambda x: sharding.shard(2 * x, "data", None))(x)
  assert y.sharding.is_equivalent_to(NamedSharding(mesh, P("data", None)), 2)


def test_every_parameter_takes_the_spec_of_its_one_rule():
  found = sharding.specs(_params(), RULES)
  assert found["layers"]["a"]["kernel"] == P(None, "fsdp", "tensor") and found["scale"] == P(None)


@pytest.mark.parametrize(
  ("rules", "sentence"),
  [
    (RULES[:1], "parameter scale must match exactly one sharding rule; it matches none"),
    ((*RULES, ("sc.*", (None,))), r"scale must match exactly one .* \['scale', 'sc\.\*'\]"),
    ((*RULES, ("bias", (None,))), r"sharding rules without a parameter: \['bias'\]"),
    ((RULES[0], ("scale", (None, None))), r"scale has shape \(8,\); its sharding rule says"),
  ],
)
def test_rules_that_do_not_match_exactly_once_are_refused(rules, sentence):
  with pytest.raises(Refused, match=sentence):
    sharding.specs(_params(), rules)


def test_a_dimension_that_does_not_divide_is_refused_by_parameter():
  mesh = sharding.make_mesh(fsdp=2, tensor=4)
  found = sharding.params_shardings(_params(), RULES, mesh)
  assert found["layers"]["b"]["kernel"].spec == P(None, "fsdp", "tensor")
  params = _params() | {"layers": {"a": {"kernel": jnp.zeros((3, 8, 6))}}}
  with pytest.raises(Refused, match="layers/a/kernel .* of 6 that does not divide over tensor = 4"):
    sharding.params_shardings(params, RULES, mesh)


def test_an_optimizer_state_takes_the_sharding_of_its_parameters():
  mesh, params = sharding.make_mesh(fsdp=2, tensor=4), _params()
  shardings = sharding.params_shardings(params, RULES, mesh)
  state = {"count": jnp.zeros(()), "mu": params, "row": {"scale": jnp.zeros(3)}}
  found = sharding.like_params(state, params, shardings, mesh)
  assert found["mu"] == shardings
  assert found["count"].spec == P() and found["row"]["scale"].spec == P()


def test_a_batch_is_split_over_data_and_fsdp_and_arrives_whole():
  mesh = sharding.make_mesh(data=2, fsdp=4)
  rows = np.arange(16, dtype=np.float32).reshape(8, 2)
  put = sharding.put({"logp": rows}, mesh)["logp"]
  np.testing.assert_array_equal(put, rows)
  assert {s.data.shape for s in put.addressable_shards} == {(1, 2)}
  assert sharding.batch_parts(mesh) == 8
  assert sharding.whole(mesh).is_fully_replicated


def test_a_batch_that_does_not_divide_is_refused_with_the_nearest_sizes():
  mesh = sharding.make_mesh(data=2, fsdp=2)
  sharding.check_batch(32, mesh, microbatches=2)
  with pytest.raises(Refused, match="batch 30 does not divide .* = 8; use 24 or 32"):
    sharding.check_batch(30, mesh, microbatches=2)
  with pytest.raises(Refused, match="batch 3 .*; use 8"):
    sharding.check_batch(3, mesh, microbatches=2)


def test_path_names_are_slashes_whatever_the_tree_is_made_of():
  paths = jax.tree_util.tree_leaves_with_path({"a": [1, (2,)]})
  assert [sharding.path_name(path) for path, _ in paths] == ["a/0", "a/1/0"]
