"""Transforms of records: lists to pairs, pairs to single responses and back, swaps, label noise.

All are pure functions: they return new records and leave what they are given alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable

import numpy as np

from jaxpref import call
from jaxpref.types import Record, Refused

HOW = ("best_worst", "all")


def to_pairs(records: Iterable[Record], *, how: str = "best_worst") -> list[Record]:
  """Graded responses to pairs, the better one first; `strength` is the gap of their grades.

  Responses of equal grade make no pair, so a record whose grades are all equal gives none.

  Args:
    records: with `relevance` and two responses or more.
    how: `best_worst`: the best against the worst, one pair; `all`: every two of unequal grade.

  Raises:
    Refused: an unknown `how`, a record without grades or with fewer than two responses.

  Example:
    >>> [r.responses for r in to_pairs([Record("q", ("a", "b", "c"), (1.0, 3.0, 2.0))], how="all")]
    [('b', 'c'), ('b', 'a'), ('c', 'a')]
  """
  if how not in HOW:
    raise Refused(f"to_pairs has no how={how!r}. {call.nearest(how, HOW)}It has: {HOW}.")
  out = []
  for record in records:
    grades = _graded(record, 2)
    order = sorted(range(len(grades)), key=lambda k: -grades[k])
    chosen = itertools.combinations(order, 2) if how == "all" else [(order[0], order[-1])]
    for best, worst in chosen:
      gap = grades[best] - grades[worst]
      if gap > 0:
        pair = _select(record, (best, worst))
        out.append(dataclasses.replace(pair, relevance=(1.0, 0.0), label=None, strength=gap))
  return out


def to_single(records: Iterable[Record]) -> list[Record]:
  """Each pair to two records of one response, desirable (1) and undesirable (0), for KTO.

  Records of one graded response are that already and stay as they are.

  Raises:
    Refused: a record that is no pair, or whose grades do not say which response is preferred.
  """
  out = []
  for record in records:
    grades = _graded(record, 1)
    if len(grades) == 1:
      out.append(record)
      continue
    if len(grades) != 2 or grades[0] == grades[1]:
      raise Refused(
        f"{_place(record)} has {len(grades)} responses with grades {grades}; to_single takes pairs "
        "of unequal grade. Make them with to_pairs."
      )
    for k in (0, 1):
      desirable = float(grades[k] > grades[1 - k])
      one = _select(record, (k,))
      out.append(dataclasses.replace(one, relevance=(desirable,), label=None, strength=None))
  return out


def to_best(records: Iterable[Record]) -> list[Record]:
  """Each record with its first response alone, the preferred one: data for supervised training.

  Single responses that are labelled undesirable (relevance 0) are left out.
  """
  return [_select(r, (0,)) for r in records if r.relevance is None or r.relevance[0] > 0]


def to_list(records: Iterable[Record]) -> list[Record]:
  """Records of the same prompt, annotator and group to one record with all distinct responses.

  The grade of a response is the mean of its grades; the best comes first, ties as they came.
  Records come in the order in which their prompts first occur. `label` and `strength` belong to
  pairs and are left out; the other fields are those of the first record.

  Raises:
    Refused: a record without grades.
  """
  found: dict[str, tuple[Record, dict[str, list[float]]]] = {}
  for record in records:
    grades = _graded(record, 1)
    key = repr((record.prompt, record.who, record.group))
    _, by_response = found.setdefault(key, (record, {}))
    for response, grade in zip(record.responses, grades, strict=True):
      by_response.setdefault(response, []).append(grade)
  out = []
  for first, by_response in found.values():
    means = {response: float(np.mean(grades)) for response, grades in by_response.items()}
    order = sorted(means, key=lambda response: -means[response])
    out.append(
      dataclasses.replace(
        first,
        responses=tuple(order),
        relevance=tuple(means[r] for r in order),
        label=None,
        strength=None,
        aspects=None,
      )
    )
  return out


def swap(records: Iterable[Record]) -> list[Record]:
  """The same facts with the responses in reverse order: grades go along, `label` becomes 1 - label.

  Doing it twice gives the records back.
  """
  out = []
  for record in records:
    reverse = tuple(range(len(record.responses)))[::-1]
    label = None if record.label is None else 1.0 - record.label
    out.append(dataclasses.replace(_select(record, reverse), label=label))
  return out


def flip(records: Iterable[Record], rate: float, seed: int) -> list[Record]:
  """Label noise: with probability `rate` the outcome of a pair or of a single response is wrong.

  A flipped pair has its responses exchanged and its grades left where they are; a flipped single
  response has grade 1 - grade.

  Args:
    records: pairs, or single responses with grade 0 or 1.
    rate: probability, 0..1.
    seed: the same seed flips the same records.

  Raises:
    Refused: a rate outside 0..1, or a record of more than two responses.
  """
  if not 0.0 <= rate <= 1.0:
    raise Refused(f"flip got rate {rate}; it is a probability, 0 to 1.")
  records = list(records)
  wrong = np.random.default_rng(seed).random(len(records)) < rate
  return [_flipped(r) if w else r for r, w in zip(records, wrong, strict=True)]


def _flipped(record):
  grades = _graded(record, 1)
  if len(grades) == 1:
    return dataclasses.replace(record, relevance=(1.0 - grades[0],))
  if len(grades) > 2:
    raise Refused(
      f"{_place(record)} has {len(grades)} responses; flip takes pairs or single responses. Make "
      "pairs with to_pairs."
    )
  exchanged = _select(record, (1, 0))
  return dataclasses.replace(exchanged, relevance=record.relevance)


def _graded(record, least):
  if record.relevance is None or len(record.responses) < least:
    raise Refused(
      f"{_place(record)} has {len(record.responses)} responses and relevance {record.relevance}; "
      f"this transform needs graded responses, at least {least}."
    )
  return record.relevance


def _select(record, order):
  """The record with its responses, and all that goes along with them, in this order."""
  aspects = record.aspects
  return dataclasses.replace(
    record,
    responses=tuple(record.responses[k] for k in order),
    relevance=None if record.relevance is None else tuple(record.relevance[k] for k in order),
    aspects=None if aspects is None else tuple(aspects[k] for k in order),
  )


def _place(record):
  return record.source or "a record"
