"""Every example in a docstring runs; `jax`, `jnp` and `np` are imported for it."""

import doctest
import importlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpref

MODULES = sorted(
  m.name
  for m in pkgutil.walk_packages(jaxpref.__path__, "jaxpref.")
  if not m.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_print_what_they_say(name):
  importlib.import_module(name)
  import sys

  module = sys.modules[name]
  result = doctest.testmod(module, extraglobs={"jax": jax, "jnp": jnp, "np": np})
  assert result.failed == 0
