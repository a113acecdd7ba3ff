"""Metrics on held-out data: every record once, unreduced values kept for each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jaxpref import call, metrics, prepare, sharding, update
from jaxpref import config as cfg


class Evaluation(NamedTuple):
  """A metric with its encoded data, ready to run again and again."""

  name: str
  fn: Callable
  rows: list  # sorted by length, so that batches need little padding
  order: np.ndarray  # number of each of them in the data
  batch: int
  every: int
  values: Callable  # jitted: (params, frozen, batch, key) -> (unreduced, sums and counts)
  reference: Callable  # jitted: (frozen, batch, key) -> what the metric reads of the reference
  kept: dict  # reference log-probabilities by batch number: the reference does not change


def make(name, section, rows, measure, measures, mesh, teacher=None) -> Evaluation:
  """Binds a metric to encoded rows.

  Args:
    name: of the evaluation; prefix of its metrics.
    section: config section with `metric`, `every`, `batch`.
    rows: encoded records.
    measure: `f(params, batch, want, key) -> arrays`, the model.
    measures: names that the model can measure.
    mesh: the batch is made to divide over it.
    teacher: `measure` of the teacher, where there is one.

  Raises:
    Refused: an unknown metric or knob, or one that reads what nobody makes.
  """
  fn = cfg.resolve(metrics, section["metric"])
  names = call.needs(fn)
  prepare.check(names, fn.__name__)
  want = frozenset(names) & frozenset(measures)
  ready = prepare.make(measure, names, teacher)
  under = frozenset(n for n in names if n.startswith("ref_"))

  @jax.jit
  def reference(frozen, batch, key):
    return {
      k: v for k, v in prepare.make(measure, under)(None, frozen, batch, key).items() if k in under
    }

  @jax.jit
  def values(params, frozen, batch, key):
    arrays = ready(params, frozen, batch, key)
    arrays |= measure(params, arrays, want, key) if want else {}
    found = call.feed(fn, arrays)
    return found, {k: update.counted(v, batch) for k, v in found.items()}

  parts = sharding.batch_parts(mesh)
  size = -(-min(section["batch"], len(rows)) // parts) * parts
  order = np.argsort([max(len(ids) for ids in row.ids) for row in rows], kind="stable")
  rows = [rows[i] for i in order]
  return Evaluation(name, fn, rows, order, size, section["every"], values, reference, {})


def run(evaluation: Evaluation, params, frozen, key, parts) -> tuple[dict, dict]:
  """Means over all records, and the value of each record.

  Args:
    evaluation: from `make`.
    params: the policy.
    frozen: `ref` and `teacher`, parameters, where the metric reads them; the same at every call.
    key: random key.
    parts: of the run (`jaxpref.assemble`): mesh and how rows become batches.

  Returns:
    ({metric: mean}, {metric: f32[N]}), the N records in the order of the data. The means are joined
    by what `summary(each)` of the metric's file tells of the whole sample, if it has one.
  """
  sums: dict[str, np.ndarray] = {}
  each: dict[str, list] = {}
  for number, host in enumerate(parts.passes(evaluation.rows, evaluation.batch)):
    batch = sharding.put(host, parts.mesh)
    if number not in evaluation.kept:
      # a program of its own, so that the first pass and the later ones round alike
      evaluation.kept[number] = evaluation.reference(frozen, batch, key)
    found, counts = evaluation.values(params, frozen, batch | evaluation.kept[number], key)
    found, counts = jax.device_get((found, counts))
    real = host["weight"] > 0
    for name, (total, count) in counts.items():
      sums[name] = sums.get(name, 0.0) + np.asarray([total, count], np.float64)
      value = found[name][0] if isinstance(found[name], tuple) else found[name]
      each.setdefault(name, []).append(value[real])
  means = {k: float(np.float32(t / c)) if c else 0.0 for k, (t, c) in sums.items()}
  back = np.argsort(evaluation.order)
  values = {k: np.concatenate(v)[back] for k, v in each.items()}
  told = getattr(sys.modules[evaluation.fn.__module__], "summary", lambda each: {})(values)
  return means | {k: float(np.float32(v)) for k, v in told.items()}, values
