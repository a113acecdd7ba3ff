"""Where batches come from: records of the data, or rollouts of the policy on their prompts.

A source is `take(state, now) -> (batch, host, metrics)`: the prepared batch of step `now` on the
devices, its arrays on the host for the counters, and metrics of its making.
"""

from __future__ import annotations

import jax
import numpy as np

from jaxpref import rollout, sharding, update
from jaxpref.data import batches


def make(parts, frozen, cached, key, ready, start: int):
  """The source of a run.

  Args:
    parts: of the run (`jaxpref.assemble`).
    frozen: parameters that do not change.
    cached: reference log-probabilities by name, of all records, where there are any.
    key: of the run.
    ready: the compiled stage `prepare`.
    start: step at which the run begins.
  """
  if parts.config.rollout.count:
    return _rollouts(parts, frozen, key, ready)
  return _records(parts, frozen, cached, key, ready, start)


def _records(parts, frozen, cached, key, ready, start):
  stream = batches.iterate(parts.stream, start, jax.process_index(), jax.process_count())

  def take(state, now):
    del now  # the stream counts along
    host = next(stream)
    host |= {k: v[host["index"]] for k, v in cached.items()}
    put = lambda arrays: sharding.put(arrays, parts.mesh)
    return ready(state.params, frozen | state.reference, put(host), key), host, {}

  return take


def _rollouts(parts, frozen, key, ready):
  config, steps = parts.config, rollout.per_batch(parts.config.rollout)
  kept: dict = {}
  mismatch = jax.jit(rollout.mismatch)

  def take(state, now):
    number, part = divmod(now, steps)
    metrics = {}
    if part == 0:
      chosen = batches.indices(parts.stream, number)
      drawn = update.fold(key, "rollout", number)
      fixed = frozen | state.reference
      host, metrics = rollout.make(parts, state.params, fixed, chosen, drawn)
      whole = ready(state.params, fixed, sharding.put(host, parts.mesh), key)
      metrics |= {k: float(v) for k, v in jax.device_get(mismatch(whole)).items()}
      if steps == 1:
        return whole, host, metrics
      kept.update(host=host, whole=jax.device_get(whole))
    rows = _rows(config, number, part)
    pick = lambda arrays: {k: v[rows] for k, v in arrays.items()}
    return sharding.put(pick(kept["whole"]), parts.mesh), pick(kept["host"]), metrics

  return take


def _rows(config, number, part):
  """Rows of one optimizer step, shuffled anew in every pass over the rollouts."""
  epoch, piece = divmod(part, config.rollout.minibatches)
  order = np.random.default_rng((config.seed, number, epoch)).permutation(
    config.batch * config.rollout.minibatches
  )
  return order[piece * config.batch : (piece + 1) * config.batch]
