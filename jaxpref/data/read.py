"""From the data section of a config to records."""

from __future__ import annotations

import itertools

import jaxpref.data as room
from jaxpref import call, config
from jaxpref.types import Record, Refused

_OWN = ("split", "limit")


def read(sets) -> dict[str, list[Record]]:
  """Records of each set that a config names.

  Args:
    sets: `{name: section}`; a section has `fn` (a data set of `jaxpref.data`, or
      `package.module:function`), `split`, the function's knobs, and may have `limit` (takes the
      first so many records; 0 takes all) and `mix_weight` (read by `shares`).

  Returns:
    Records by name.

  Raises:
    Refused: an unknown function, knob or split; a limit below 0; a set without records.

  Example:
    >>> art = {"fn": "personas", "split": "test", "personas": "interest-in-art", "limit": 3}
    >>> {name: len(records) for name, records in read({"main": art}).items()}
    {'main': 3}
  """
  out = {}
  for name, section in dict(sets).items():
    section = dict(section)
    for needed in ("fn", "split"):
      if needed not in section:
        raise Refused(
          f"data set {name!r} has no {needed!r}. {call.nearest(needed, section)}"
          f"It has: {', '.join(section) or 'nothing'}."
        )
    limit = section.get("limit", 0)
    if limit < 0:
      raise Refused(f"data set {name!r} has limit {limit}; give 0 for all, or a number above 0.")
    fn = config.resolve(room, {k: v for k, v in section.items() if k not in _OWN})
    records = list(itertools.islice(fn(section["split"]), limit or None))
    if not records:
      raise Refused(f"data set {name!r} ({section['fn']}, split {section['split']!r}) is empty.")
    out[name] = records
  return out


def shares(sets) -> dict[str, float]:
  """`mix_weight` of each set, 1 where a section has none: the `mix` of `batches.make_stream`."""
  return {name: float(dict(section).get("mix_weight", 1.0)) for name, section in dict(sets).items()}
