"""Kills a training run with SIGKILL at random moments and resumes it, until nothing can be told.

  python tests/soak/kill.py --kills=20 [--seed=0]

A small run with a warm start, evaluations, samples and a checkpoint every few steps is trained
twice undisturbed, to see that it can be repeated. Then the same command is killed and started again
in other folders: at a moment drawn from the whole run, from its start, or in the middle of a save.
Whenever a folder is finished, its files must be those of the undisturbed run, byte for byte, with
no step twice or missing and nothing left over. Exit code 1 if they are not.
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

import commands  # noqa: E402  beside the tests, not installed

STEPS, WARM, LOG = 80, 20, 4
RUN = (
  "--config=tests/small_run.py:warm=True",
  f"--config.steps={STEPS}",
  f"--config.warm.steps={WARM}",
  f"--config.log.every={LOG}",
  "--config.checkpoint.every=3",
  "--config.evals.heldout.every=20",
)
SAME = ("metrics.jsonl", "samples.jsonl", "wrong.jsonl", "done.json", "tokenizer.json")
WHEN = ("at any time", "while starting", "while saving")


def start(workdir, cache):
  """The command, as a process; its output goes to files beside the workdir."""
  log = workdir.with_suffix(".log").open("ab")
  return subprocess.Popen(
    [sys.executable, "-m", "jaxpref", "train", *RUN, f"--workdir={workdir}"],
    cwd=TESTS.parent,
    env=commands.environment(cache),
    stdout=log,
    stderr=log,
  )


def whole(workdir, cache) -> float:
  """Runs the command to its end; seconds that it took."""
  begin = time.monotonic()
  code = start(workdir, cache).wait()
  check_code(code, workdir)
  return time.monotonic() - begin


def check_code(code, workdir):
  """Stops where a run ended by itself with an error."""
  if code:
    tail = workdir.with_suffix(".log").read_text()[-2000:]
    raise SystemExit(f"the run in {workdir} ended with exit code {code}:\n{tail}")


def interrupt(process, workdir, when, draw, seconds) -> bool:
  """Kills a process at a random moment; False if it was done before."""
  end = time.monotonic() + draw.uniform(0, seconds * (0.5 if when == "while starting" else 1.0))
  saves, seen = draw.randint(1, 12), set()
  while process.poll() is None:
    if when == "while saving":
      seen |= {
        p.name for p in workdir.rglob("*.orbax-checkpoint-tmp*") if p.parent.name == "checkpoints"
      }
      if len(seen) >= saves:
        time.sleep(draw.uniform(0, 0.1))
        break
    elif time.monotonic() >= end:
      break
    time.sleep(0.002)
  if process.poll() is None:
    process.kill()
  return process.wait() < 0


def reached(workdir) -> str:
  """How far a folder is, for the log."""
  for name, folder in (("step", workdir), ("warm step", workdir / "warm")):
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    if lines:
      return f"{name} {json.loads(lines[-1])['step']} written"
  return "nothing written"


def differences(workdir, truth) -> list[str]:
  """What tells a finished folder from the undisturbed one."""
  found = []
  for stage, steps in (("", STEPS), ("warm", WARM)):
    for name in SAME:
      one, other = workdir / stage / name, truth / stage / name
      if one.exists() != other.exists() or (
        one.exists() and one.read_bytes() != other.read_bytes()
      ):
        found.append(f"{one} differs from {other}")
    lines = [json.loads(x) for x in (workdir / stage / "metrics.jsonl").read_text().splitlines()]
    logged = [x["step"] for x in lines if "loss" in x]
    if logged != list(range(LOG, steps + 1, LOG)):
      found.append(f"{workdir / stage} logged the steps {logged}")
    kept = [sorted(p.name for p in (f / stage / "checkpoints").iterdir()) for f in (workdir, truth)]
    if kept[0] != kept[1]:
      found.append(f"{workdir / stage} keeps the checkpoints {kept[0]}, not {kept[1]}")
  rest = {str(p.relative_to(workdir)) for p in workdir.glob("*")} | {
    str(p.relative_to(workdir)) for p in workdir.glob("warm/*")
  }
  expected = {str(p.relative_to(truth)) for p in [*truth.glob("*"), *truth.glob("warm/*")]}
  if rest != expected:
    found.append(f"{workdir} has other files: {sorted(rest ^ expected)}")
  return found


def soak(folder, kills, seed) -> int:
  """Runs it all in a folder; the number of differences found."""
  cache, truth = folder / "cache", folder / "undisturbed"
  cold = whole(truth, cache)
  seconds = whole(folder / "again", cache)
  wrong = differences(folder / "again", truth)
  print(f"undisturbed: {cold:.1f} s, {seconds:.1f} s with its programs compiled", flush=True)
  draw, begin, done, number = random.Random(seed), time.monotonic(), 0, 0
  counts = dict.fromkeys(WHEN, 0)
  while done < kills:
    number += 1
    workdir, here = folder / f"run{number}", 0
    finished = False
    while not finished:
      process = start(workdir, cache)
      when = draw.choices(WHEN, (5, 2, 3))[0]
      if done < kills and interrupt(process, workdir, when, draw, seconds):
        done, here, counts[when] = done + 1, here + 1, counts[when] + 1
        print(f"kill {done}/{kills}: run {number}, {when}, {reached(workdir)}", flush=True)
      else:
        check_code(process.wait(), workdir)
        finished = True
    found = differences(workdir, truth)
    print(f"run {number}: finished after {here} kills, {len(found)} differences", flush=True)
    wrong += found
  for line in wrong:
    print(line)
  told = ", ".join(f"{n} {when}" for when, n in counts.items())
  verdict = "every byte equal" if not wrong else f"{len(wrong)} DIFFERENCES"
  print(f"{done} kills ({told}) in {number} runs, {time.monotonic() - begin:.0f} s: {verdict}")
  return len(wrong)


def main():
  """Reads the flags; exit code 1 on any difference."""
  parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
  parser.add_argument("--kills", type=int, default=20)
  parser.add_argument("--seed", type=int, default=0)
  flags = parser.parse_args()
  with tempfile.TemporaryDirectory(prefix="soak-") as folder:
    sys.exit(1 if soak(pathlib.Path(folder), flags.kills, flags.seed) else 0)


if __name__ == "__main__":
  main()
