"""Stopped, killed, continued: what a run leaves behind is what the next command needs, no more.

Runs are in this process, on one of the eight virtual devices unless a test says otherwise. A run is
stopped as SIGTERM stops it: the signal is raised in the middle of a step.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import commands
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_run
from jax.experimental.compilation_cache import compilation_cache

from jaxpref import checkpoint, folder, objectives, reference, speed, train
from jaxpref import config as cfg
from jaxpref.types import Refused


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(tmp_path_factory):
  """Programs of equal runs are compiled once and kept on disk."""
  before = (
    jax.config.jax_compilation_cache_dir,
    jax.config.jax_persistent_cache_min_compile_time_secs,
  )
  path = before[0] or str(tmp_path_factory.mktemp("cache"))

  def use(path, seconds):
    jax.config.update("jax_compilation_cache_dir", path)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
    compilation_cache.reset_cache()

  use(path, 0.0)
  yield
  use(*before)


def _config(arg="evals=False", **changes):
  """The small run with changes; `log__every=3` is `log.every = 3`."""
  config = small_run.get_config(arg)
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  return config


def _stopped_at(step, config, workdir, **more):
  """Runs a config until a SIGTERM in its step number `step` of this process."""
  count, calls = speed.count, []

  def one_more(clock, host):
    calls.append(1)
    if len(calls) == step:
      signal.raise_signal(signal.SIGTERM)
    count(clock, host)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(speed, "count", one_more)
    with pytest.raises(SystemExit) as end:
      train.run(config, workdir, **more)
  assert end.value.code == 0
  assert not (workdir / "done.json").exists()


def _lines(workdir):
  return [json.loads(x) for x in (workdir / "metrics.jsonl").read_text().splitlines()]


def _losses(workdir):
  return np.asarray([x["loss"] for x in _lines(workdir) if "loss" in x])


def _files(workdir):
  return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in workdir.rglob("*") if p.is_file()}


def _final(workdir):
  """All arrays of the last checkpoint: parameters, optimizer, key, memories."""
  keeper = checkpoint.open_folder(workdir, reading=True)
  last = checkpoint.pick(keeper, "last")
  args = checkpoint._orbax().args
  found = keeper.manager.restore(last, args=args.Composite(state=args.StandardRestore()))
  return jax.tree.map(np.asarray, found["state"])


def _assert_same_run(one, other, names=("metrics.jsonl",)):
  for name in names:
    assert (one / name).read_bytes() == (other / name).read_bytes(), name
  jax.tree.map(np.testing.assert_array_equal, _final(one), _final(other))


# log lines at 3, 6, 8 and checkpoints at 4, 8: neither divides the other
ODD = dict(log__every=3, checkpoint__every=4)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """A run with evaluations, samples and checkpoints that nothing disturbs."""
  workdir = tmp_path_factory.mktemp("straight") / "run"
  train.run(_config("evals=True", **ODD), workdir)
  return workdir


@pytest.mark.slow
@pytest.mark.parametrize("stops", [(5,), (1, 1, 1, 3)])
def test_a_run_that_is_stopped_and_resumed_writes_the_same_bytes(stops, straight, tmp_path):
  for step in stops:
    _stopped_at(step, _config("evals=True", **ODD), tmp_path)
  train.run(_config("evals=True", **ODD), tmp_path)
  _assert_same_run(straight, tmp_path, ("metrics.jsonl", "samples.jsonl", "wrong.jsonl"))
  steps = [x["step"] for x in _lines(tmp_path) if "loss" in x]
  assert steps == [3, 6, 8]


@pytest.mark.slow
def test_a_run_that_is_killed_goes_back_to_its_checkpoint(straight, tmp_path):
  """What was written after the last checkpoint is written again, once."""
  _stopped_at(4, _config("evals=True", **ODD), tmp_path)
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"step": 6, "loss": 1.0}\n{"step": 8, "lo')
  for name in ("checkpoints/6.orbax-checkpoint-tmp-1/state", "checkpoints/7.orbax-checkpoint-tmp"):
    (tmp_path / name).mkdir(parents=True)
  for name in (".run.json.4711", ".tokenizer-x1.tmp", "metrics.jsonl.part", ".probe.12"):
    (tmp_path / name).write_text("torn")
  train.run(_config("evals=True", **ODD), tmp_path)
  _assert_same_run(straight, tmp_path, ("metrics.jsonl", "samples.jsonl"))
  there = {p.name for p in tmp_path.iterdir()} | {
    p.name for p in (tmp_path / "checkpoints").iterdir()
  }
  assert not [n for n in there if "tmp" in n or n.startswith(".") or n.endswith(".part")]


def test_a_page_that_a_kill_prevented_is_made_by_the_next_command(straight, tmp_path):
  shutil.copytree(straight, tmp_path / "run")
  (tmp_path / "run" / "page.html").unlink()
  train.run(_config("evals=True", **ODD), tmp_path / "run")
  assert (tmp_path / "run" / "page.html").exists()


def test_a_reader_leaves_a_save_in_progress_alone(straight, tmp_path):
  shutil.copytree(straight, tmp_path / "run")
  saving = tmp_path / "run" / "checkpoints" / "9.orbax-checkpoint-tmp-1"
  saving.mkdir()
  checkpoint.open_folder(tmp_path / "run", reading=True)
  assert saving.exists()
  checkpoint.open_folder(tmp_path / "run")
  assert not saving.exists()


def test_a_changed_config_is_refused_with_the_difference_and_proceed_continues(tmp_path):
  train.run(_config(), tmp_path)
  first = (tmp_path / "metrics.jsonl").read_bytes()
  before = _files(tmp_path)
  longer = _config(steps=12)
  with pytest.raises(Refused, match="steps: 8 there, 12 now.*--proceed"):
    train.run(longer, tmp_path)
  assert _files(tmp_path) == before
  train.run(longer, tmp_path, proceed=True)
  assert (tmp_path / "metrics.jsonl").read_bytes().startswith(first)
  assert [x["step"] for x in _lines(tmp_path)] == [2, 4, 6, 8, 10, 12]
  assert folder.about(tmp_path)["config"]["steps"] == 12


def test_changed_data_are_refused_and_proceed_continues(tmp_path):
  _stopped_at(4, _config(), tmp_path)
  about = folder.about(tmp_path)
  folder.write_json(tmp_path / "run.json", about | {"data": "0123456789abcdef"})
  with pytest.raises(Refused, match="data of the run .* hash 0123456789ab.*--proceed"):
    train.run(_config(), tmp_path)
  train.run(_config(), tmp_path, proceed=True)
  assert folder.about(tmp_path)["data"] == about["data"]


def test_only_a_step_that_was_measured_can_be_the_best_checkpoint(tmp_path):
  """The margin grows, so the smallest one is the first; only measured steps are candidates."""
  config = _config("evals=True", samples__count=0, checkpoint__every=1)
  config.checkpoint.update(metric="heldout/rewards/margins", mode="min")
  train.run(config, tmp_path)
  margins = {x["step"]: x["heldout/rewards/margins"] for x in _lines(tmp_path) if "loss" not in x}
  best = min((4, 8), key=margins.get)
  keeper = checkpoint.open_folder(tmp_path, metric=config.checkpoint.metric, mode="min")
  assert set(checkpoint.steps(keeper)) == {best, 8}
  assert checkpoint.pick(keeper, "best") == best and checkpoint.pick(keeper, "last") == 8
  with pytest.raises(Refused, match=r"has no checkpoint '3'; it has the steps"):
    checkpoint.pick(keeper, "3")


CACHED = dict(reference__cache="reference.npz")


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("cached") / "run"
  train.run(_config(**CACHED), workdir)
  return workdir


def test_a_reference_cache_is_used(cached, tmp_path):
  """Other numbers in the file give other losses: it is read, not made again."""
  path = tmp_path / "reference.npz"
  with np.load(cached / "reference.npz") as file:
    np.savez(path, key=file["key"], ref_logp=file["ref_logp"] + [[5.0, 0.0]])
  train.run(_config(**CACHED), tmp_path)
  assert (np.abs(_losses(tmp_path) - _losses(cached)) > 0.01).any()


@pytest.mark.parametrize("name", ["parameters", "data", "template", "reduction", "maximum length"])
def test_a_stale_reference_cache_is_refused_by_each_thing_that_it_was_made_from(name, cached):
  with np.load(cached / "reference.npz") as file:
    key = json.loads(str(file["key"]))
  assert reference.load(cached / "reference.npz", key)["ref_logp"].shape == (64, 2)
  with pytest.raises(Refused, match=f"is stale: its {name} is {key[name]}, this run's is other"):
    reference.load(cached / "reference.npz", key | {name: "other"})


# An objective with a memory: the margin that it asks for is the mean margin of the step before.


def demanding(logp, ref_logp, carry, *, start: float = 0.5):
  """Pairs must beat the margin of the step before."""
  margin = (logp - ref_logp)[:, 0] - (logp - ref_logp)[:, 1]
  return jax.nn.softplus(carry["margin"] - 0.1 * margin), {"margin": 0.1 * margin}


def init_carry(*, start: float = 0.5):
  """The memory before the first step."""
  return {"margin": jnp.float32(start)}


def next_carry(carry, metrics, *, start: float = 0.5):
  """The memory after a step."""
  return {"margin": 0.5 * carry["margin"] + 0.5 * metrics["margin"]}


def _remembering(**changes):
  config = _config(**changes)
  config.objectives.main = cfg.term(objectives, "resume_test:demanding", start=0.25)
  return config


@pytest.fixture(scope="module")
def remembering(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("remembering") / "run"
  train.run(_remembering(log__every=1), workdir)
  return workdir


def test_a_memory_survives_a_resume(remembering, tmp_path):
  _stopped_at(3, _remembering(log__every=1), tmp_path)
  train.run(_remembering(log__every=1), tmp_path)
  _assert_same_run(remembering, tmp_path)


def test_a_memory_holds_what_the_definition_says(remembering):
  memory = 0.25
  for line in _lines(remembering):
    memory = 0.5 * memory + 0.5 * line["margin"]
  np.testing.assert_allclose(_final(remembering)["carry"]["main"]["margin"], memory, rtol=1e-5)


def test_a_coupled_objective_is_refused_in_micro_batches_before_anything_is_written(
  tmp_path, monkeypatch
):
  (tmp_path / "centred_loss.py").write_text(
    "COUPLED = True\n\ndef centred(logp):\n  return (logp - logp.mean()).sum(1), {}\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  config = _config(microbatches=2)
  config.objectives.main = cfg.term(objectives, "centred_loss:centred")
  with pytest.raises(Refused, match="centred couples the examples of a batch: set microbatches=1"):
    train.run(config, tmp_path / "run")
  assert not list((tmp_path / "run").iterdir())


def _command(workdir, steps):
  words = ["train", "--config=tests/small_run.py:evals=False", f"--workdir={workdir}"]
  return [sys.executable, "-m", "jaxpref", *words, f"--config.steps={steps}"]


@pytest.mark.slow
def test_sigterm_saves_exits_with_zero_and_the_next_command_goes_on(tmp_path):
  steps = 400
  run = dict(cwd=commands.ROOT, env=commands.environment(tmp_path / "cache"), text=True)
  quiet = run | dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
  command = _command(tmp_path / "stopped", steps)
  with subprocess.Popen(command, **quiet) as process:
    metrics = tmp_path / "stopped" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_bytes()):
      time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
  assert process.returncode == 0, err
  step = int(out.partition("SIGTERM: saved at step ")[2].partition(".")[0])
  assert "Run the same command again to go on." in out and 0 < step < steps
  assert os.path.isdir(tmp_path / "stopped" / "checkpoints" / str(step))
  for workdir in (tmp_path / "stopped", tmp_path / "straight"):
    subprocess.run(_command(workdir, steps), **run, check=True, capture_output=True, timeout=300)
  _assert_same_run(tmp_path / "straight", tmp_path / "stopped")
