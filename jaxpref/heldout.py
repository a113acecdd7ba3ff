"""Metrics on held-out data: every record once, unreduced values kept for each."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jaxpref import call, prepare, sharding, update
from jaxpref import config as cfg
from jaxpref import metrics as metrics_room


class Evaluation(NamedTuple):
  """A metric with its encoded data, ready to run again and again."""

  name: str
  fn: object
  rows: list
  batch: int
  every: int
  values: object  # jitted: (params, frozen, batch) -> unreduced metrics and their counts


def make(name, section, rows, measure, measures, mesh) -> Evaluation:
  """Binds a metric to encoded rows.

  Args:
    name: of the evaluation; prefix of its metrics.
    section: config section with `metric`, `every`, `batch`.
    rows: encoded records, in order.
    measure: `f(params, batch, want, key) -> arrays`, the model.
    measures: names that the model can measure.
    mesh: the batch is made to divide over it.

  Raises:
    Refused: the metric reads what nobody makes.
  """
  fn = cfg.resolve(metrics_room, section["metric"])
  names = call.needs(fn)
  prepare.check(names, fn.__name__)
  want = frozenset(names) & frozenset(measures)
  ready = prepare.make(measure, names)

  @jax.jit
  def values(params, frozen, batch, key):
    arrays = ready(params, frozen, batch, key)
    arrays |= measure(params, arrays, want, key) if want else {}
    found = call.feed(fn, arrays)
    return found, {k: update.counted(v, batch) for k, v in found.items()}

  parts = sharding.batch_parts(mesh)
  size = -(-min(section["batch"], len(rows)) // parts) * parts
  return Evaluation(name, fn, rows, size, section["every"], values)


def run(evaluation: Evaluation, params, frozen, key, mesh, stream) -> tuple[dict, dict]:
  """Means over all records, and the value of each record.

  Args:
    evaluation: from `make`.
    params: the policy.
    frozen: `{"ref": params}` where the metric reads the reference.
    key: random key.
    mesh: where the batches go.
    stream: `rows, batch -> iterator` of host batches, each record once, in order.

  Returns:
    ({"<name>/<metric>": mean}, {metric: f32[N]}), N records in order.
  """
  sums: dict[str, np.ndarray] = {}
  each: dict[str, list] = {}
  for host in stream(evaluation.rows, evaluation.batch):
    found, counts = evaluation.values(params, frozen, sharding.put(host, mesh), key)
    found, counts = jax.device_get((found, counts))
    real = host["weight"] > 0
    for name, (total, count) in counts.items():
      sums[name] = sums.get(name, 0.0) + np.asarray([total, count], np.float64)
      value = found[name][0] if isinstance(found[name], tuple) else found[name]
      each.setdefault(name, []).append(value[real])
  means = {
    f"{evaluation.name}/{k}": float(np.float32(total / count)) if count else 0.0
    for k, (total, count) in sums.items()
  }
  return means, {k: np.concatenate(v) for k, v in each.items()}
