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
  """Cases of a file: function and knobs of each; a folder's own table goes first."""
  found = json.loads((OURS / "parameters" / f"{name}.json").read_text())
  other = folder() / "parameters" / f"{name}.json"
  return found | (json.loads(other.read_text()) if other.exists() else {})


def files() -> list[str]:
  """Names of all files that have a table."""
  return sorted(path.stem for path in (OURS / "parameters").glob("*.json"))


def covered(name: str, test: str = "golden_test") -> list[str]:
  """Cases of a file that belong to a function which we have, and to a module of tests."""
  rows = parameters(name).items()
  return [case for case, row in rows if "fn" in row and row.get("test", "golden_test") == test]


def composed(name: str) -> list[str]:
  """Cases of a file that are terms of a config: sums, wrappers, functions with other inputs."""
  return [case for case, row in parameters(name).items() if "terms" in row]


def knobs(name: str, case: str) -> dict[str, float]:
  """Knobs of a case; what its name says (`_b0.1`, `_ls0.3`) goes before the table."""
  found = dict(parameters(name)[case]["knobs"])
  for knob, pattern in IN_NAME.items():
    match = re.search(pattern, case)
    if match and knob in found:
      found[knob] = float(match.group(1))
  return found


def outputs(name: str, case: str) -> dict[str, np.ndarray]:
  """Arrays `<case>__<what>` of a file, by what; a lone array `<case>` as `value`.

  Skips the test where another folder's file does not have the case.
  """
  arrays = load(name)
  if case in arrays:
    return {"value": arrays[case]}
  prefix = f"{case}__"
  found = {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}
  if not found and folder() != OURS:
    pytest.skip(f"{name}.npz of {folder()} has no {case}")
  return found
