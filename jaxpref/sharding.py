"""Where arrays live: the mesh, path rules for parameters, constraints for activations.

Mesh axes are `data, fsdp, tensor, sequence`, of size 1 unless set. A model file has `RULES`: an
ordered list of `(regex, spec)` on the parameter's path (`layers/attention/q`). Every parameter
matches exactly one rule and every rule at least one parameter: nothing is replicated by accident.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxpref.types import Refused

AXES = ("data", "fsdp", "tensor", "sequence")
BATCH = ("data", "fsdp")


def make_mesh(data=1, fsdp=1, tensor=1, sequence=1, devices=None) -> jax.sharding.Mesh:
  """A mesh with the four axes; `data=-1` takes all devices that the others leave.

  Raises:
    Refused: the sizes want more devices than there are, or do not divide them.
  """
  devices = jax.devices() if devices is None else devices
  others = fsdp * tensor * sequence
  if data == -1:
    if len(devices) % others:
      raise Refused(
        f"mesh fsdp*tensor*sequence = {others} does not divide the {len(devices)} devices."
      )
    data = len(devices) // others
  shape = (data, fsdp, tensor, sequence)
  size = math.prod(shape)
  if min(shape) < 1 or size > len(devices):
    raise Refused(
      f"mesh data={data}, fsdp={fsdp}, tensor={tensor}, sequence={sequence} needs {size} devices; "
      f"there are {len(devices)} ({devices[0].platform}). Lower config.mesh, or set data=-1."
    )
  kinds = (AxisType.Auto,) * len(AXES)
  if size == len(jax.devices()) and list(devices) == list(jax.devices()):
    return jax.make_mesh(shape, AXES, axis_types=kinds)
  return jax.sharding.Mesh(np.asarray(devices[:size]).reshape(shape), AXES, axis_types=kinds)


def shard(x, *spec):
  """Constrains an activation, where a mesh is set (`jax.set_mesh`); else returns it unchanged.

  Args:
    x: array.
    *spec: per dimension, a mesh axis, a tuple of them, or None.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return x
  return jax.lax.with_sharding_constraint(x, P(*spec))


def path_name(path) -> str:
  """`layers/attention/q` for a key path of a pytree of dicts."""
  return "/".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path)


def specs(tree, rules: Sequence[tuple[str, Any]]):
  """One PartitionSpec per leaf, from path rules.

  Args:
    tree: pytree of arrays or ShapeDtypeStructs.
    rules: `(regex, spec)`; the regex must match the whole path.

  Raises:
    Refused: a leaf with no rule or with two, a rule without a leaf, a spec of another rank.
  """
  used = set()

  def one(path, leaf):
    name = path_name(path)
    hits = [i for i, (pattern, _) in enumerate(rules) if re.fullmatch(pattern, name)]
    if len(hits) != 1:
      which = [rules[i][0] for i in hits] or "none"
      raise Refused(f"parameter {name} must match exactly one sharding rule; it matches {which}.")
    used.add(hits[0])
    spec = rules[hits[0]][1]
    if len(spec) != len(leaf.shape):
      raise Refused(f"parameter {name} has shape {leaf.shape}; its sharding rule says {spec}.")
    return P(*spec)

  found = jax.tree_util.tree_map_with_path(one, tree)
  unused = [pattern for i, (pattern, _) in enumerate(rules) if i not in used]
  if unused:
    raise Refused(f"sharding rules without a parameter: {unused}.")
  return found


def params_shardings(tree, rules, mesh):
  """NamedShardings of the parameters; checks that every sharded dimension divides.

  Raises:
    Refused: a dimension that does not divide over its mesh axes, by parameter and number.
  """
  wanted = specs(tree, rules)
  for (path, leaf), spec in zip(
    jax.tree_util.tree_leaves_with_path(tree),
    jax.tree.leaves(wanted, is_leaf=lambda s: isinstance(s, P)),
    strict=True,
  ):
    for size, axis in zip(leaf.shape, spec, strict=True):
      names = () if axis is None else (axis,) if isinstance(axis, str) else axis
      parts = math.prod(mesh.shape[n] for n in names)
      if size % parts:
        raise Refused(
          f"parameter {path_name(path)} {leaf.shape} has a dimension of {size} that does not "
          f"divide over {'*'.join(names)} = {parts}; choose another mesh or model size."
        )
  return jax.tree.map(lambda s: NamedSharding(mesh, s), wanted, is_leaf=lambda s: isinstance(s, P))


def like_params(state, params, shardings, mesh):
  """Shardings for an optimizer state: a leaf whose path ends as a parameter's takes its sharding.

  Leaves that mirror no parameter (counters) are replicated.
  """
  table = {
    path_name(path): (leaf.shape, spec)
    for (path, leaf), spec in zip(
      jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(shardings), strict=True
    )
  }

  def one(path, leaf):
    parts = path_name(path).split("/")
    for start in range(len(parts)):
      shape, spec = table.get("/".join(parts[start:]), (None, None))
      if shape == leaf.shape:
        return spec
    return NamedSharding(mesh, P())

  return jax.tree_util.tree_map_with_path(one, state)


def batch_sharding(mesh) -> NamedSharding:
  """`B` over `data` and `fsdp`; all other axes whole."""
  return NamedSharding(mesh, P(BATCH))


def batch_parts(mesh) -> int:
  """Into how many parts `B` is split: data * fsdp."""
  return math.prod(mesh.shape[a] for a in BATCH)


def check_batch(size: int, mesh, microbatches: int = 1) -> None:
  """Refuses a batch that does not divide over the devices and micro-batches.

  Raises:
    Refused: with the two nearest sizes that do.
  """
  parts = batch_parts(mesh) * microbatches
  if size % parts:
    low = size // parts * parts
    near = f"{low} or {low + parts}" if low else str(parts)
    raise Refused(
      f"batch {size} does not divide over data*fsdp*microbatches = {parts}; use {near}."
    )


def whole(mesh) -> NamedSharding:
  """A copy on every device."""
  return NamedSharding(mesh, P())


def put(batch, mesh):
  """Host arrays (each process's rows) as global arrays, `B` over data and fsdp."""
  sharding = batch_sharding(mesh)
  return {k: jax.make_array_from_process_local_data(sharding, v) for k, v in batch.items()}
