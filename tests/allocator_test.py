import subprocess
import sys

import pytest

from jaxpref import allocator

COUNT = """
import resource, sys
from jaxpref import allocator
if sys.argv[1] == "keep":
  assert allocator.keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
block = bytearray(1 << 26); del block
before = faults()
for _ in range(8):
  block = bytearray(1 << 26); del block
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc on Linux only")
def test_freed_blocks_are_not_given_back_to_the_kernel():
  run = lambda how: int(subprocess.check_output([sys.executable, "-c", COUNT, how]))
  assert run("keep") < 0.1 * run("plain")


def test_other_systems_are_left_alone(monkeypatch):
  monkeypatch.setattr(allocator.sys, "platform", "darwin")
  assert not allocator.keep_freed_memory()
