"""The soak script, as CI runs it."""

import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parent / "soak" / "kill.py"


@pytest.mark.slow
def test_twenty_kills_change_no_byte():
  out = subprocess.run([sys.executable, SCRIPT, "--kills=20"], capture_output=True, text=True)
  assert out.returncode == 0, out.stdout + out.stderr
  assert out.stdout.splitlines()[-1].startswith("20 kills (")
  assert out.stdout.rstrip().endswith("every byte equal")
