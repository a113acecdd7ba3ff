"""Runs with wrappers, mixes and a moving reference, through the whole loop."""

import json

import jax
import numpy as np
import pytest
import small_run

from jaxpref import recipe, train, update
from jaxpref.types import Refused


def _config(arg, **changes):
  config = small_run.get_config(f"evals=False,{arg}")
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  return config


def _lines(workdir):
  found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  return [line for line in found if "loss" in line]


@pytest.mark.slow
def test_a_wrapper_with_memory_trains_for_twenty_steps_and_its_memory_moves(tmp_path):
  final = train.run(_config("objective=dpo,around=lcpo", steps=20), tmp_path)
  lines = _lines(tmp_path)
  assert len(lines) == 10 and lines[-1]["loss"] < lines[0]["loss"]
  assert lines[0]["lcpo/reliability"] != lines[-1]["lcpo/reliability"]
  assert 0 < final["lcpo/reliability"] < 1


@pytest.mark.slow
def test_a_mix_trains_for_twenty_steps_and_its_terms_add_up(tmp_path):
  train.run(_config("objective=orpo", steps=20), tmp_path)
  lines = _lines(tmp_path)
  assert lines[-1]["loss"] < lines[0]["loss"]
  for line in lines:
    total = 0.1 * line["loss/main"] + line["loss/nll"]
    np.testing.assert_allclose(line["loss"], total, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("arg", ["objective=wpo_dpo", "objective=tdpo2", "objective=ld_dpo"])
def test_measured_collisions_logits_and_reference_tokens_train(arg, tmp_path):
  train.run(_config(arg, steps=6), tmp_path)
  lines = _lines(tmp_path)
  assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.fixture(scope="module")
def moving():
  return {"reference__sync__every": 3, "reference__sync__rate": 0.5}


@pytest.mark.slow
def test_a_moving_reference_is_checkpointed_and_a_resumed_run_goes_on_bitwise(
  tmp_path, moving, monkeypatch
):
  straight = train.run(_config("objective=dpo", steps=8, **moving), tmp_path / "straight")
  config = _config("objective=dpo", steps=8, **moving)
  loop, calls = train.speed.count, []

  def stop(clock, host):
    calls.append(1)
    if len(calls) == 5:
      train.signal.raise_signal(train.signal.SIGTERM)
    return loop(clock, host)

  monkeypatch.setattr(train.speed, "count", stop)
  with pytest.raises(SystemExit):
    train.run(config, tmp_path / "halves")
  monkeypatch.setattr(train.speed, "count", loop)
  assert train.run(config, tmp_path / "halves") == straight
  left, right = (tmp_path / n / "metrics.jsonl" for n in ("straight", "halves"))
  assert left.read_bytes() == right.read_bytes()
  frozen = train.run(_config("objective=dpo", steps=8), tmp_path / "frozen")
  assert frozen["loss"] != straight["loss"]


def test_the_reference_moves_every_so_many_steps_towards_the_policy():
  leaf = lambda x: {"w": jax.numpy.full(2, x)}
  state = lambda step, ref: update.TrainState(
    jax.numpy.int32(step), leaf(3.0), (), None, {}, {"ref": ref} if ref else {}
  )
  move = lambda step, rate: update.moved_reference(state(step, leaf(1.0)), every=4, rate=rate)
  np.testing.assert_array_equal(move(3, 0.6)["ref"]["w"], 1.0)
  np.testing.assert_allclose(move(8, 0.6)["ref"]["w"], 0.6 * 3 + 0.4 * 1, rtol=1e-6)
  np.testing.assert_array_equal(move(4, 1.0)["ref"]["w"], 3.0)
  assert update.moved_reference(state(4, None), every=4, rate=0.6) == {}


def test_a_reference_that_cannot_move_so_is_refused():
  for changes, sentence in (
    ({"reference__sync__every": -1}, "needs every >= 0"),
    ({"reference__sync__rate": 0.0}, "rate above 0, at most 1"),
    (
      {"reference__sync__every": 2, "reference__cache": "ref.npz"},
      "config.reference.cache is of a frozen reference",
    ),
  ):
    with pytest.raises(Refused, match=sentence):
      recipe.check(_config("objective=dpo", **changes))
