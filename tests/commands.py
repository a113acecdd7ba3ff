"""`jaxpref` commands in processes of their own, most of which start at once.

A command that is refused before it compiles runs in a fork of one warm process, which has imported
everything and touched no device: from there on it is what `python -m jaxpref` is, with its own
flags, devices and exit code. To compile after a fork is not safe (MLIR's threads are gone), so a
command that does so runs in a new process: `fresh`. Run as a script, this file is the warm process.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import NamedTuple

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Outcome(NamedTuple):
  """What a command did; `compiled` is how many programs it compiled, None if not counted."""

  code: int
  out: str
  err: str
  compiled: int | None


def environment(cache, devices=1) -> dict[str, str]:
  """Variables for a process that compiles quickly, and what was compiled before not at all."""
  quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
  return os.environ | {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"{quick} --xla_force_host_platform_device_count={devices}",
    "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(cache)),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "PYTHONPATH": ROOT,
  }


class Commands:
  """Hands commands to the warm process; `with Commands(folder) as jaxpref: jaxpref("train", ...)`.

  Attributes:
    folder: for their output and for compiled programs.
  """

  def __init__(self, folder):
    self.folder = folder
    self.server = subprocess.Popen(
      [sys.executable, __file__],
      env=environment(folder / "cache"),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )

  def __call__(self, *words, cwd=ROOT) -> Outcome:
    job = {"words": words, "cwd": str(cwd), "folder": str(self.folder)}
    print(json.dumps(job), file=self.server.stdin, flush=True)
    code = json.loads(self.server.stdout.readline())
    out, err = ((self.folder / name).read_text() for name in ("out", "err"))
    return Outcome(code, out, err, int((self.folder / "compiled").read_text() or 0))

  def fresh(self, *words, cwd=ROOT, devices=1) -> Outcome:
    """Runs a command in a new process."""
    command = [sys.executable, "-m", "jaxpref", *words]
    env = environment(self.folder / "cache", devices)
    out = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300)
    return Outcome(out.returncode, out.stdout, out.stderr, None)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.server.stdin.close()
    self.server.wait(30)


def _serve():
  import jaxpref.train  # noqa: F401  everything that `train` needs, before the fork

  for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
      os._exit(_child(**job))
    _, status = os.waitpid(child, 0)
    print(json.dumps(os.waitstatus_to_exitcode(status)), flush=True)


def _child(words, cwd, folder):
  from jaxpref import __main__, speed

  os.chdir(cwd)
  signal.alarm(60)  # rather a failure than a wait without end
  sys.argv = ["jaxpref", *words]
  for name, number in (("out", 1), ("err", 2), ("compiled", 3)):
    os.dup2(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
  code = 1
  try:
    __main__.main()
    code = 0
  except SystemExit as end:
    code = end.code or 0
  except BaseException:
    sys.excepthook(*sys.exc_info())
  with contextlib.suppress(OSError):
    os.write(3, str(speed._compiled.programs).encode())
  sys.stdout.flush()
  sys.stderr.flush()
  return code


if __name__ == "__main__":
  _serve()
