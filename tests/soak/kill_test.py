import pathlib
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_twenty_kills_leave_no_trace():
  script = pathlib.Path(__file__).with_name("kill.py")
  done = subprocess.run(
    [sys.executable, str(script), "--kills=20"], capture_output=True, text=True, timeout=3000
  )
  assert done.returncode == 0, done.stdout + done.stderr
  assert "20 kills in" in done.stdout and "; 0 differences" in done.stdout
