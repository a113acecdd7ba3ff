"""Reference log-probabilities kept on disk, so that no reference model runs during training.

A cache is one `.npz` with the arrays, one row per record, and what they were made from: a hash of
the parameters, of the data, the template, which numbers, the maximum length. If any of these is
another one, the cache is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxpref import sharding
from jaxpref.types import Refused


@jax.jit
def _checksums(params):
  def one(x):
    x = x if x.dtype == jnp.float32 else x.astype(jnp.float32)
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32).reshape(-1)
    place = 2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1
    return (bits * place).sum(dtype=jnp.uint32)  # wraps: the order of the sum does not matter

  return jax.tree.map(one, params)


def fingerprint(params) -> str:
  """Hash of parameters by name, shape and every bit; the same on any mesh."""
  sums = jax.device_get(_checksums(params))
  digest = hashlib.sha256()
  for (path, leaf), value in zip(
    jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(sums), strict=True
  ):
    digest.update(f"{sharding.path_name(path)} {leaf.shape} {leaf.dtype} {int(value)}\n".encode())
  return digest.hexdigest()[:16]


def load(path, key: dict[str, str]) -> dict[str, np.ndarray] | None:
  """The cached arrays, or None where there is no such file.

  Args:
    path: the `.npz`.
    key: what they must have been made from.

  Raises:
    Refused: it was made from something else (says from what), or is no such file.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None
  try:
    with np.load(path, allow_pickle=False) as file:
      stored = json.loads(str(file["key"]))
      arrays = {k: file[k] for k in file.files if k != "key"}
  except (ValueError, KeyError, OSError) as error:
    raise Refused(
      f"{path} is not a cache of reference log-probabilities ({error}); remove it."
    ) from error
  for name in key:
    if stored.get(name) != key[name]:
      raise Refused(
        f"the reference cache {path} is stale: its {name} is {stored.get(name)}, this run's is "
        f"{key[name]}. Remove the file or set another config.reference.cache."
      )
  return arrays


def save(path, key: dict[str, str], arrays: dict[str, np.ndarray]) -> None:
  """Writes a cache whole or not at all."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_name(f".{path.name}.{os.getpid()}")
  with open(temporary, "wb") as file:
    np.savez(file, key=np.asarray(json.dumps(key, sort_keys=True)), **arrays)
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)
