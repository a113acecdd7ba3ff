"""Kills a training run at random moments and checks that nothing shows.

  python tests/soak/kill.py --kills=20

One run goes undisturbed. Then the same command runs in another folder and is killed with SIGKILL
at a random moment (while it starts, trains, evaluates, samples or saves) and started again, until
it is done; then the next folder, until there were so many kills. Every finished folder must hold
the metrics, samples and wrong pairs of the undisturbed one, byte for byte, those of the warm start
too, and no leftovers. Exit code 1 on any difference.
"""

import argparse
import collections
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAME = ("metrics.jsonl", "samples.jsonl", "wrong.jsonl", "done.json")
CONFIG = ("--config=tests/small_run.py:warm=True", "--config.steps=60", "--config.warm.steps=24")
CONFIG += ("--config.checkpoint.every=3",)  # divides neither the log lines nor the evaluations


def environment(cache):
  """One device, and compiled programs kept, so that a start takes a few seconds."""
  keep = {
    "JAX_COMPILATION_CACHE_DIR": str(cache),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
  }
  keep |= {
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    "XLA_FLAGS": "",
    "JAX_PLATFORMS": "cpu",
  }
  return os.environ | keep | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(folder, env, log):
  """Starts the training command."""
  command = [sys.executable, "-m", "jaxpref", "train", *CONFIG, f"--workdir={folder}"]
  return subprocess.Popen(command, cwd=ROOT, env=env, stdout=log, stderr=log)


def finish(process, log):
  """Waits for a run that is to succeed."""
  if process.wait(timeout=600):
    log.seek(0)
    raise SystemExit(f"the run failed with exit code {process.returncode}:\n{log.read()[-3000:]}")


def moment(folder):
  """Where a run stands, for the report."""
  for stage in (folder, folder / "warm"):
    path = stage / "metrics.jsonl"
    lines = len(path.read_bytes().splitlines()) if path.exists() else 0
    saving = any((stage / "checkpoints").glob("*.orbax-checkpoint-tmp*"))
    if lines or saving:
      return f"{stage.name}, {lines} lines{', while saving' if saving else ''}"
  return "before the first line"


def wait(process, folder, rng, span):
  """Until a moment of the run's time, or, one time in three, until a save is under way.

  Raises:
    TimeoutExpired: the moment to kill has come.
  """
  if rng.random() > 1 / 3:
    process.wait(timeout=rng.uniform(0.1, span))
    return
  saves, seen = rng.randint(1, 16), set()
  while process.poll() is None:
    for stage in (folder, folder / "warm"):  # glob("**") would walk into folders that vanish
      seen |= set((stage / "checkpoints").glob("*.orbax-checkpoint-tmp*"))
    if len(seen) >= saves:
      time.sleep(rng.uniform(0.0, 0.1))
      raise subprocess.TimeoutExpired(process.args, 0)
    time.sleep(0.005)


def differences(folder, reference):
  """What a finished folder has otherwise than the undisturbed one."""
  found = []
  for stage in ("", "warm"):
    for name in SAME:
      one, other = folder / stage / name, reference / stage / name
      if one.exists() != other.exists() or one.exists() and one.read_bytes() != other.read_bytes():
        found.append(f"{stage}/{name} differs")
    for inside in (stage, f"{stage}/checkpoints".strip("/")):
      here, there = ({p.name for p in (f / inside).iterdir()} for f in (folder, reference))
      found += [f"{inside}/{name} is left over" for name in sorted(here - there)]
      found += [f"{inside}/{name} is missing" for name in sorted(there - here)]
  return found


def main():
  """Runs the soak; see the module's docstring."""
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("--kills", type=int, default=20)
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  rng, where = random.Random(arguments.seed), collections.Counter()
  work = pathlib.Path(tempfile.mkdtemp(prefix="jaxpref-soak-"))
  env = environment(work / "cache")
  with open(work / "log", "w+") as log:
    finish(start(work / "warmed", env, log), log)  # fills the cache of compiled programs
    begin = time.monotonic()
    finish(start(work / "reference", env, log), log)
    span = time.monotonic() - begin
    problems = differences(work / "warmed", work / "reference")
    print(f"undisturbed: {span:.1f} s", flush=True)
    kills = folders = 0
    while kills < arguments.kills:
      folder, folders = work / f"run{folders}", folders + 1
      while True:
        process = start(folder, env, log)
        try:
          if kills < arguments.kills:
            wait(process, folder, rng, span)
        except subprocess.TimeoutExpired:
          process.kill()
          process.wait()
          kills += 1
          at = moment(folder)
          stage = "warm start" if at.startswith("warm") else "main stage"
          where["while saving" if "saving" in at else at if "before" in at else stage] += 1
          print(f"kill {kills}: {folder.name}: {at}", flush=True)
          continue
        finish(process, log)
        break
      problems += [f"{folder.name}: {text}" for text in differences(folder, work / "reference")]
      shutil.rmtree(folder)
  print(f"{kills} kills in {folders} runs ({dict(where)}); {len(problems)} differences")
  for problem in problems:
    print(problem)
  if problems:
    print(f"the undisturbed run is kept in {work}")
    return 1
  shutil.rmtree(work)
  return 0


if __name__ == "__main__":
  sys.exit(main())
