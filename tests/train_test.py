"""The loop: resuming, other meshes, finished runs, the reference cache, every kind of objective."""

import json
import os
import pathlib
import signal

import jax
import numpy as np
import pytest

from jaxpref import assemble, checkpoint, folder, recipe, sharding, train
from jaxpref.types import Refused

ROOT = pathlib.Path(__file__).parents[1]
RECIPE = str(ROOT / "tests" / "small_run.py")


def _config(arg="evals=False", **changes):
  config = recipe.load(f"{RECIPE}:{arg}")
  with config.unlocked():
    for dotted, value in changes.items():
      *path, last = dotted.split("__")
      node = config
      for key in path:
        node = node[key]
      node[last] = value
  return config


def _files(workdir):
  """Bytes of every file below a folder."""
  found = sorted(p for p in pathlib.Path(workdir).rglob("*") if p.is_file())
  return {str(p.relative_to(workdir)): p.read_bytes() for p in found}


def _params(workdir, step="last"):
  """Parameters of a checkpoint as numpy arrays by path."""
  loaded = assemble.restore(recipe.stored(workdir), workdir, step)
  leaves = jax.tree_util.tree_leaves_with_path(loaded.params)
  return {sharding.path_name(path): np.asarray(x) for path, x in leaves}


def _stop_after(monkeypatch, step):
  """Makes the loop see a SIGTERM after so many steps, once."""
  fetch, seen = train.speed.count, []

  def count(clock, host):
    fetch(clock, host)
    seen.append(1)
    if len(seen) == step:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(train.speed, "count", count)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
  """A run of 8 steps in one go, with evaluations, samples and a warm start."""
  workdir = tmp_path_factory.mktemp("straight")
  train.run(_config("warm=True"), workdir)
  return workdir


def test_the_lines_of_a_run_are_its_steps_once_each(straight):
  lines = folder.lines(straight / "metrics.jsonl")
  assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8]
  assert [x["step"] for x in lines if "heldout/rewards/accuracies" in x] == [0, 4, 8]
  assert lines[0]["heldout/rewards/margins"] == 0.0  # the policy is still the reference
  first = next(line for line in lines if "loss" in line)
  assert first["logps/chosen"] != first["logps/rejected"]


def test_a_finished_run_run_again_prints_its_metrics_and_changes_no_file(straight, capsys):
  before = _files(straight)
  final = train.run(_config("warm=True"), straight)
  assert final == json.loads((straight / "done.json").read_text())["metrics"]
  assert "is finished" in capsys.readouterr().out
  assert _files(straight) == before


def test_the_best_and_the_last_checkpoint_are_kept(straight):
  lines = folder.lines(straight / "metrics.jsonl")
  name = "heldout/rewards/accuracies"
  found = {x["step"]: x[name] for x in lines if name in x and x["step"]}
  keeper = checkpoint.open_folder(straight, metric=name)
  assert checkpoint.pick(keeper, "last") == 8
  assert found[checkpoint.pick(keeper, "best")] == max(found.values())
  assert set(checkpoint.steps(keeper)) <= {checkpoint.pick(keeper, w) for w in ("best", "last")}


def test_leftovers_of_interrupted_saves_are_removed_when_a_folder_is_opened(tmp_path):
  leftover = tmp_path / "checkpoints" / "7.orbax-checkpoint-tmp-123"
  leftover.mkdir(parents=True)
  (leftover / "half").write_bytes(b"x")
  checkpoint.open_folder(tmp_path)
  assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.slow
def test_a_run_goes_on_on_another_mesh_with_the_same_losses(tmp_path, monkeypatch):
  straight = tmp_path / "straight"
  train.run(_config(), straight)
  for name, first, then in (("up", {}, dict(fsdp=4, tensor=2)), ("down", dict(fsdp=8), {})):
    workdir = tmp_path / name
    with monkeypatch.context() as patch:
      _stop_after(patch, 4)
      with pytest.raises(SystemExit):
        train.run(_config(mesh=dict(data=1, fsdp=1, tensor=1, sequence=1) | first), workdir)
    config = _config(mesh=dict(data=1, fsdp=1, tensor=1, sequence=1) | then)
    train.run(config, workdir, proceed=True)
    one, other = (folder.lines(d / "metrics.jsonl") for d in (workdir, straight))
    assert [x["step"] for x in one] == [x["step"] for x in other]
    for x, y in zip(one, other, strict=True):
      np.testing.assert_allclose(x["loss"], y["loss"], rtol=1e-5)


@pytest.mark.slow
def test_cached_reference_log_probabilities_train_as_those_made_in_each_step(tmp_path):
  train.run(_config(), tmp_path / "fly")
  train.run(_config(reference__cache="reference.npz"), tmp_path / "cached")
  assert (tmp_path / "cached" / "reference.npz").exists()
  one, other = (folder.lines(tmp_path / d / "metrics.jsonl") for d in ("fly", "cached"))
  for x, y in zip(one, other, strict=True):
    np.testing.assert_allclose(x["loss"], y["loss"], rtol=1e-6)


def test_a_cache_that_no_objective_reads_is_refused(tmp_path):
  config = _config("objective=simpo,evals=False", reference__cache="reference.npz")
  with pytest.raises(Refused, match="no objective of this run reads ref_logp"):
    train.run(config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nll", "dpo", "cdpo", "ipo", "ipo_sum", "simpo", "kto"])
def test_every_objective_trains_and_its_loss_falls(name, tmp_path):
  config = _config(f"objective={name},evals=False", steps=40, log__every=5)
  train.run(config, tmp_path)
  lines = folder.lines(tmp_path / "metrics.jsonl")
  assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]
  assert all(np.isfinite(v) for line in lines for v in line.values())


@pytest.mark.slow
def test_a_reward_model_trains_and_its_loss_falls(tmp_path):
  train.run(_config("objective=bradley_terry,evals=False", steps=40, log__every=5), tmp_path)
  lines = folder.lines(tmp_path / "metrics.jsonl")
  assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]


def test_objectives_without_a_reference_keep_no_reference(tmp_path):
  config = _config("objective=simpo,evals=False")
  parts = assemble.parts(config, assemble.corpus(config, tmp_path))
  assert assemble.frozen(parts, {"w": np.ones(2)}, tmp_path) == {}
  config = _config("objective=dpo,evals=False")
  parts = assemble.parts(config, assemble.corpus(config, tmp_path))
  assert set(assemble.frozen(parts, {"w": np.ones(2)}, tmp_path)) == {"ref"}
