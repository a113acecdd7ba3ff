"""Reads the golden files: values that other implementations gave, and under which parameters.

`JAXPREF_GOLDEN` names another folder with files of the same names and arrays; sizes may differ.
"""

import functools
import json
import os
import pathlib
import re

import numpy as np
import pytest

OURS = pathlib.Path(__file__).parent / "golden"
IN_NAME = {"beta": r"_b([\d.]+)", "label_smoothing": r"_ls([\d.]+)", "gamma": r"_gamma_([\d.]+)"}


def folder() -> pathlib.Path:
  """Where the files are."""
  return pathlib.Path(os.environ.get("JAXPREF_GOLDEN") or OURS)


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
  """All arrays of a file; skips the test where another folder does not have the file."""
  path = folder() / f"{name}.npz"
  if not path.exists() and folder() != OURS:
    pytest.skip(f"{folder()} has no {name}.npz")
  with np.load(path, allow_pickle=False) as file:
    return {key: file[key] for key in file.files}


@functools.cache
def parameters(name: str) -> dict[str, dict]:
  """Cases of a file: function and knobs of each; a folder's own `parameters.json` goes first."""
  found = json.loads((OURS / "parameters.json").read_text())[name]
  other = folder() / "parameters.json"
  if other.exists():
    found = found | json.loads(other.read_text()).get(name, {})
  return found


def covered(name: str) -> list[str]:
  """Cases of a file that belong to a function which we have."""
  return [case for case, row in parameters(name).items() if "fn" in row]


def knobs(name: str, case: str) -> dict[str, float]:
  """Knobs of a case; what its name says (`_b0.1`, `_ls0.3`) goes before the table."""
  found = dict(parameters(name)[case]["knobs"])
  for knob, pattern in IN_NAME.items():
    match = re.search(pattern, case)
    if match and knob in found:
      found[knob] = float(match.group(1))
  return found


def outputs(name: str, case: str) -> dict[str, np.ndarray]:
  """Arrays `<case>__<what>` of a file, by what; a lone array `<case>` as `value`."""
  arrays = load(name)
  if case in arrays:
    return {"value": arrays[case]}
  prefix = f"{case}__"
  return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
