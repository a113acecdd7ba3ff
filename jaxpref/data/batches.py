"""Batches as a pure function of (seed, step): shuffled, mixed, sharded, resumable by one number.

The order of a run is an endless sequence of record numbers: each set is shuffled anew every epoch,
and sets are mixed with weights by `grain`. Global batch `s` is elements `s*B .. (s+1)*B - 1` of it,
and process `p` of `n` takes rows `p*B/n .. (p+1)*B/n - 1`: a run may resume on another number of
processes. T and R come from all rows of the global batch, so all processes agree on the shape.

Batches may be grouped by length: a window of so many batches is sorted by length, cut into batches,
and the batches are shuffled; all of it from the seed and the window's number.

The shuffle is numpy's permutation of (seed, set, epoch); grain's own index shuffle walks cycles of
at least 2**16 and takes milliseconds per record on sets of a hundred records.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxpref import call
from jaxpref.data import encode
from jaxpref.data.encode import Row
from jaxpref.types import Refused


@dataclasses.dataclass(frozen=True)
class Stream:
  """What batches are made of; `batch_at` makes them.

  Attributes:
    rows: all rows of all sets, sets in the order of their names; `index` points into it.
    sets: by name, the first row and the number of rows.
    order: `order[i]` is the row number of element i, for any i >= 0.
    seed: of the shuffle.
    batch: B, rows of a global batch.
    buckets: T that may occur, increasing; R is T, or half of it from 128 on.
    pad: id on padding.
    side: side of the padding.
    candidates: K, the most that a row has.
    names: outcome fields that every row has.
    aspects: attributes that any row has, in the order of their axis.
    mismatch: whether to make `mismatch_*`.
  """

  rows: tuple[Row, ...]
  sets: dict[str, tuple[int, int]]
  order: Any
  seed: int
  batch: int
  buckets: tuple[int, ...]
  pad: int
  side: str
  candidates: int
  names: tuple[str, ...]
  aspects: tuple[str, ...]
  mismatch: bool


def make_stream(
  sets: dict[str, Sequence[Row]],
  *,
  mix: dict[str, float] | None = None,
  seed: int = 0,
  batch: int,
  buckets: Sequence[int],
  pad: int,
  side: str = "right",
  mismatch: bool = False,
  group: int = 0,
) -> Stream:
  """The stream of some sets of rows.

  Args:
    sets: rows by name of the set. The order of the names does not matter.
    mix: share of each set, > 0, in any unit; 1 each if None. grain keeps the ratio to 1%.
    seed: of the shuffle.
    batch: B, rows of a global batch.
    buckets: lengths T that a batch may have; R is half of T where that is enough
      and T is at least 128, else T.
    pad: id on padding.
    side: side of the padding.
    mismatch: make `mismatch_*`, for KTO's baseline.
    group: batches in a window within which rows of like length come together; 0 leaves the order.

  Raises:
    Refused: an empty set, a share that is missing or not positive, a row longer than the largest
      bucket, or mismatched pairs of a batch of one or of rows with several candidates.
  """
  mix = dict.fromkeys(sets, 1.0) if mix is None else dict(mix)
  _check_mix(sets, mix)
  rows, spans = [], {}
  for name in sorted(sets):
    spans[name] = (len(rows), len(sets[name]))
    rows += sets[name]
  buckets = _checked_buckets(buckets, rows)
  candidates = max(len(r.ids) for r in rows)
  if batch < 1:
    raise Refused(f"batch is {batch}; it is the number of records of a step, at least 1.")
  if mismatch:
    _check_mismatch(batch, candidates)
  return Stream(
    rows=tuple(rows),
    sets=spans,
    order=_grouped(_order(spans, mix, seed), rows, batch, group, seed),
    seed=seed,
    batch=batch,
    buckets=buckets,
    pad=pad,
    side=side,
    candidates=candidates,
    names=encode.outcome_names(rows),
    aspects=encode.aspect_names(rows),
    mismatch=mismatch,
  )


def indices(stream: Stream, step: int) -> list[int]:
  """Row numbers of global batch `step`."""
  first = step * stream.batch
  return [int(stream.order[i]) for i in range(first, first + stream.batch)]


def batch_at(
  stream: Stream, step: int, process: int = 0, processes: int = 1
) -> dict[str, np.ndarray]:
  """This process's rows of global batch `step`, under the names of the vocabulary.

  Raises:
    Refused: the batch does not divide over the processes.
  """
  chosen = indices(stream, step)
  return _make(stream, chosen, process, processes)


def iterate(
  stream: Stream, start: int = 0, process: int = 0, processes: int = 1
) -> Iterator[dict[str, np.ndarray]]:
  """`batch_at` of steps `start`, `start + 1`, ... without end, made ahead by grain's threads."""
  import grain

  steps = grain.MapDataset.range(start, sys.maxsize)
  made = steps.map(lambda step: batch_at(stream, step, process, processes))
  return iter(made.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))


def passes(
  rows: Sequence[Row],
  *,
  batch: int,
  buckets: Sequence[int],
  pad: int,
  side: str = "right",
  mismatch: bool = False,
  process: int = 0,
  processes: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Each row once, in order, for evaluation and caches.

  The last batch is filled up with the first rows again, at weight 0; `index` is the row's number.

  Raises:
    Refused: as `make_stream` and `batch_at`.
  """
  rows = tuple(rows)
  stream = make_stream(
    {"pass": rows}, batch=batch, buckets=buckets, pad=pad, side=side, mismatch=mismatch
  )
  if mismatch and len(rows) < 2:
    raise Refused("mismatched pairs need at least two records; this pass has one.")
  for first in range(0, len(rows), batch):
    chosen = [i % len(rows) for i in range(first, first + batch)]
    yield _make(stream, chosen, process, processes, real=len(rows) - first)


def _make(stream, chosen, process, processes, real=None):
  """This process's part of the global batch of rows `chosen`; rows from `real` on only fill."""
  if len(chosen) % processes:
    raise Refused(
      f"batch {len(chosen)} does not divide over {processes} processes; use a multiple."
    )
  rows = [stream.rows[i] for i in chosen]
  part = slice(
    process * len(rows) // processes,
    (process + 1) * len(rows) // processes,
  )
  length = _bucket(stream.buckets, max(len(ids) for r in rows for ids in r.ids))
  out = encode.collate(
    rows[part],
    length=length,
    scored=_room(length, max(int(c.sum()) for r in rows for c in r.counted)),
    pad=stream.pad,
    side=stream.side,
    candidates=stream.candidates,
    index=chosen[part],
    names=stream.names,
    aspects=stream.aspects,
  )
  if real is not None:
    out["weight"][[i >= real for i in range(part.start, part.stop)]] = 0.0
  if stream.mismatch:
    others = rows[1:] + rows[:1]
    longest = max(a.prompt + len(b.ids[0]) - b.prompt for a, b in zip(rows, others, strict=True))
    length = _bucket(stream.buckets, min(longest, stream.buckets[-1]))
    out |= encode.mismatched(
      rows[part],
      others[part],
      length=length,
      scored=_room(length, max(int(r.counted[0][r.prompt :].sum()) for r in rows)),
      pad=stream.pad,
      side=stream.side,
    )
  return out


@functools.lru_cache(maxsize=16)
def _permutation(seed, name, size, epoch):
  return np.random.default_rng((seed, zlib.crc32(name.encode()), epoch)).permutation(size)


def _order(spans, mix, seed):
  """grain data set of row numbers, endless."""
  import grain

  def shuffled(name):
    first, size = spans[name]

    def one(i):
      return first + int(_permutation(seed, name, size, i // size)[i % size])

    return grain.MapDataset.range(sys.maxsize).map(one)

  parts = [shuffled(name) for name in spans]
  if len(parts) == 1:
    return parts[0]
  return grain.MapDataset.mix(parts, [float(mix[name]) for name in spans])


def _grouped(order, rows, batch, group, seed):
  """`order` with rows of like length together in windows of `group` batches."""
  import grain

  if group <= 1:
    return order
  size = group * batch
  length = [max(len(ids) for ids in row.ids) for row in rows]

  @functools.lru_cache(maxsize=4)
  def window(number):
    chosen = [int(order[i]) for i in range(number * size, (number + 1) * size)]
    chosen = np.asarray(sorted(chosen, key=length.__getitem__)).reshape(group, batch)
    return chosen[np.random.default_rng((seed, group, number)).permutation(group)].reshape(-1)

  return grain.MapDataset.range(sys.maxsize).map(lambda i: int(window(i // size)[i % size]))


def _bucket(buckets, size):
  return next(b for b in buckets if b >= size)


def _room(length, most):
  """R: half of a long T where that is enough, else T; so a bucket has two shapes at most."""
  return length // 2 if length >= 128 and most <= length // 2 else length


def _check_mix(sets, mix):
  if not sets:
    raise Refused("there is no data set; name at least one.")
  for name, rows in sets.items():
    if not rows:
      raise Refused(f"data set {name!r} is empty.")
    if name not in mix:
      raise Refused(f"mix has no share for data set {name!r}; it has: {', '.join(mix) or 'none'}.")
  for name, share in mix.items():
    if name not in sets:
      raise Refused(
        f"mix names {name!r}, which is no data set of this run. {call.nearest(name, sets)}"
        f"They are: {', '.join(sets)}."
      )
    if not 0 < share < float("inf"):
      raise Refused(f"the share of data set {name!r} is {share}; it must be > 0.")


def _checked_buckets(buckets, rows):
  buckets = tuple(int(b) for b in buckets)
  if not buckets or min(buckets) < 1 or list(buckets) != sorted(set(buckets)):
    raise Refused(f"buckets are {buckets}; they are increasing lengths, such as (32, 64, 128).")
  for row in rows:
    longest = max(len(ids) for ids in row.ids)
    if longest > buckets[-1]:
      raise Refused(
        f"{row.source or 'a record'} has {longest} tokens, more than the largest bucket "
        f"{buckets[-1]}; encode with max_length={buckets[-1]}, or add a bucket."
      )
  return buckets


def _check_mismatch(batch, candidates):
  if batch < 2:
    raise Refused(
      "mismatched pairs (KTO's baseline) take the response of another row of the batch, so the "
      f"batch must be at least 2; it is {batch}."
    )
  if candidates > 1:
    raise Refused(
      f"mismatched pairs (KTO's baseline) need one response per record; these have up to "
      f"{candidates}. Turn pairs into single records with pairs.to_single."
    )
