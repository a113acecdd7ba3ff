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

from jaxpref import call, folder, prepare, sharding
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


def for_run(parts, workdir, frozen, key) -> dict[str, np.ndarray]:
  """The cached `ref_logp` of a run by record; made and kept if it is not there.

  Args:
    parts: of the run (`jaxpref.assemble`).
    workdir: its folder, where `config.reference.cache` is.
    frozen: `{"ref": params}`.
    key: random key.

  Returns:
    `{"ref_logp": f32[N, K]}`, or nothing where the config names no cache.

  Raises:
    Refused: a stale cache, or one that no objective reads.
  """
  config = parts.config
  if not config.reference.cache:
    return {}
  names = sorted(n for t in parts.terms for n in prepare.made(call.needs(t.fn)))
  if "ref_logp" not in names:
    raise Refused(
      f"config.reference.cache={config.reference.cache!r}: no objective of this run reads ref_logp."
    )
  made_from = {
    "parameters": fingerprint(frozen["ref"]),
    "data": parts.corpus.digest,
    "template": config.data.template,
    "reduction": "sum over response tokens",
    "maximum length": str(config.data.max_length),
  }
  path = folder.inside(workdir, config.reference.cache)
  found = load(path, made_from)
  if found is None:
    found = {"ref_logp": _measured(parts, frozen, key)}
    save(path, made_from, found)
  return found


def _measured(parts, frozen, key):
  """f32[N, K]: `ref_logp` of all records, in the order of their numbers."""
  ready = jax.jit(prepare.make(parts.measure, ["ref_logp"]))
  kept = []
  for host in parts.passes(parts.stream.rows, parts.config.batch):
    out = ready(None, frozen, sharding.put(host, parts.mesh), key)
    kept.append(np.asarray(out["ref_logp"])[host["weight"] > 0])
  return np.concatenate(kept)
