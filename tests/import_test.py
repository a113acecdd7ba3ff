"""What `import jaxpref` and the command line bring along, measured in a process of their own."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
OPTIONAL = (
  *("tensorflow", "tensorflow_datasets", "torch", "transformers", "safetensors", "sentencepiece"),
  *("wandb", "tensorboard", "pyarrow", "scipy.stats", "sklearn", "selenium", "pytest"),
)
LATER = ("orbax.checkpoint", "grain", "tokenizers")  # imported where they are used
PROBE = """
import json, sys, time
begin = time.perf_counter()
import {names}
seconds = time.perf_counter() - begin
print(json.dumps([seconds, sorted(sys.modules)]))
"""
EVERYTHING = "jaxpref, jaxpref.train, jaxpref.evaluate, jaxpref.generate, jaxpref.experiment"


def _import(names):
  """(seconds, modules) of the quickest of three processes that import the names."""
  env = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONPATH": str(ROOT)}
  command = [sys.executable, "-c", PROBE.format(names=names)]
  found = [
    json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
    for _ in range(3)
  ]
  return min(found)


def test_the_package_is_imported_in_three_seconds_without_optional_packages():
  seconds, modules = _import("jaxpref")
  assert seconds < 3
  assert set(modules).isdisjoint((*OPTIONAL, *LATER))


@pytest.mark.slow
def test_every_command_is_imported_without_optional_packages_and_before_they_are_needed():
  seconds, modules = _import(EVERYTHING)
  assert seconds < 6  # jax and flax take most of it
  assert set(modules).isdisjoint((*OPTIONAL, *LATER))
