"""Feeds golden arrays of rows `[N, ...]` to functions of rooms that read `[B, K, ...]`."""

import importlib

import golden_files
import numpy as np

from jaxpref import call

RTOL, ATOL = 2e-5, 2e-6


def find(row):
  """The function of a table row, from its room."""
  return getattr(importlib.import_module(f"jaxpref.{row['room']}"), row["fn"])


def apply(row, arrays):
  """The function of a row with its knobs on the arrays that it names."""
  return call.feed(call.bind(find(row), **row["knobs"]), arrays)


def compare(ours, wanted, message, mask=1.0):
  """At the tolerances of the folder's README."""
  left, right = np.asarray(ours) * mask, np.asarray(wanted) * mask
  np.testing.assert_allclose(left, right, rtol=RTOL, atol=ATOL, err_msg=message)


def cases(file, *rooms):
  """Covered cases of a file whose function is in one of the rooms."""
  rows = golden_files.parameters(file)
  return [c for c in golden_files.covered(file) if rows[c].get("room") in rooms]


def places(index):
  """(group, place in it) of each row, and the sizes."""
  groups = {value: number for number, value in enumerate(dict.fromkeys(np.asarray(index).tolist()))}
  group = np.asarray([groups[value] for value in np.asarray(index).tolist()])
  place = np.asarray([(group[:i] == g).sum() for i, g in enumerate(group)])
  return group, place


def fold(x, index, fill=0.0):
  """Rows `[N, ...]` as `[B, K, ...]`; `fill` where a group has fewer rows."""
  group, place = places(index)
  x = np.asarray(x)
  out = np.full((group.max() + 1, place.max() + 1, *x.shape[1:]), fill, np.float32)
  out[group, place] = x
  return out


def unfold(x, index):
  """`[B, K, ...]` as rows again."""
  return np.asarray(x)[places(index)]
