"""Rollouts: samples share the reading of their prompt, rewards fail safely, batches fit."""

import json
import time

import jax
import numpy as np
import pytest
import sample_test

from jaxpref import data, rewards, rollout, scoring, source, train, vocabulary
from jaxpref import recipe as recipes
from jaxpref.models import language
from jaxpref.sample import sample
from jaxpref.types import Record, Refused

CONFIG = sample_test.CONFIG


@pytest.fixture(scope="module")
def params():
  tree = language.init(jax.random.key(0), CONFIG)
  return tree | {"embed": 25.0 * tree["embed"]}


def test_several_samples_of_a_prompt_are_scored_as_the_model_does(params):
  tokens, mask = sample_test._prompts("left")
  found = sample(params, CONFIG, tokens, mask, jax.random.key(1), max_new=6, stop=(4,), count=3)
  again = [np.repeat(x, 3, 0) for x in (tokens, mask)]
  assert found["tokens"].shape == (3 * len(tokens), 6)
  scored = sample_test._scored(params, *again, found)
  np.testing.assert_allclose(found["token_logp"], scored, atol=1e-5, rtol=0)
  assert any((found["tokens"][0] != found["tokens"][i]).any() for i in (1, 2))


@pytest.mark.parametrize("mixture", [0.0, 0.3, 1.0])
def test_a_mixture_samples_from_the_geometric_mean_of_both_models(params, mixture):
  other = language.init(jax.random.key(7), CONFIG)
  other |= {"embed": 25.0 * other["embed"]}
  tokens, mask = sample_test._prompts("left")
  options = dict(max_new=4, stop=(4,), other=other, mixture=mixture)
  found = jax.device_get(sample(params, CONFIG, tokens, mask, jax.random.key(1), **options))
  first = np.asarray(found["mask"][:, 0]) > 0
  logps = []
  for tree in (params, other):
    position = np.where(mask > 0, np.cumsum(mask, 1) - 1, 0).astype(np.int32)
    logits, _ = language.prefill(tree, CONFIG, tokens, mask > 0, position, tokens.shape[1])
    logps.append(np.asarray(jax.nn.log_softmax(logits[:, : CONFIG.vocab]), np.float64))
  blend = (1 - mixture) * logps[0] + mixture * logps[1]
  blend -= np.log(np.exp(blend).sum(1, keepdims=True))
  wanted = np.take_along_axis(blend, found["tokens"][:, :1], 1)[:, 0]
  np.testing.assert_allclose(found["sampler_logp"][first, 0], wanted[first], atol=2e-5)


def _reward(fn):
  return [scoring.Reward("mine", fn, 1.0)]


def test_a_reward_that_fails_or_hangs_is_masked_or_stops_with_the_record_and_the_reason():
  def fn(record, response):
    if response == "slow":
      time.sleep(5)
    return {"good": 1.5, "nan": float("nan"), "wrong": "no number"}.get(response, 0.0)

  said = ["good", "nan", "slow", "wrong", "good"]
  records = [Record("p", ("",), source=f"file:{i}") for i in range(5)]
  begin = time.monotonic()
  found = scoring.score(_reward(fn), records, said, seconds=1.0, on_error="mask")
  np.testing.assert_array_equal(found[:, 0], [1.5, np.nan, np.nan, np.nan, 1.5])
  assert time.monotonic() - begin < 4
  with pytest.raises(Refused, match="mine on file:1, response 'nan': it returned nan"):
    scoring.score(_reward(fn), records, said, seconds=1.0, on_error="stop")
  with pytest.raises(Refused, match="took longer than 1 s"):
    scoring.score(_reward(fn), records[2:], said[2:], seconds=1.0, on_error="stop")


def test_best_and_worst_of_a_group_and_groups_without_a_difference_do_not_count():
  batch = {
    "reward": np.asarray([[0.0, 3.0, 1.0], [2.0, 2.0, 2.0], [5.0, 1.0, 9.0]], np.float32),
    "present": np.asarray([[1, 1, 1], [1, 1, 1], [1, 1, 0]], np.float32),
    "tokens": np.arange(9).reshape(3, 3, 1),
    "weight": np.ones(3, np.float32),
    "index": np.arange(3),
  }
  found = rollout.best_worst(batch)
  np.testing.assert_array_equal(found["tokens"][[0, 2], :, 0], [[1, 0], [6, 7]])
  np.testing.assert_array_equal(found["weight"], [1, 0, 1])


def _config(tmp_path, steps=4, **options):
  config = recipes.load("tests/small_run.py:evals=False")
  with config.unlocked():
    config.steps = steps
    config.checkpoint.every = 2
    config.rewards = {"short": {"fn": "rollout_test:short", "weight": 1.0}}
    config.rollout.update(count=2, max_new=6, order="best_worst", **options)
  return config


def short(record, response):
  """A reward for the test: responses with few characters."""
  return -float(len(response))


def _lines(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_online_dpo_runs_and_a_resumed_run_writes_the_same_lines(tmp_path, monkeypatch):
  whole = train.run(_config(tmp_path), tmp_path / "whole")
  assert {"reward/mean", "reward/short", "length/mean"} <= set(whole)
  monkeypatch.setattr(rollout, "make", _stop_at(rollout.make, 4))
  with pytest.raises(KeyboardInterrupt):
    train.run(_config(tmp_path), tmp_path / "cut")
  monkeypatch.undo()
  train.run(_config(tmp_path), tmp_path / "cut")
  assert _lines(tmp_path / "cut") == _lines(tmp_path / "whole")


def _stop_at(fn, call):
  """The function, interrupted at its n-th call."""
  calls = []

  def counted(*arguments):
    calls.append(1)
    if len(calls) == call:
      raise KeyboardInterrupt
    return fn(*arguments)

  return counted


def test_several_epochs_and_minibatches_use_every_row_as_often(tmp_path):
  config = _config(tmp_path, epochs=2, minibatches=2)
  config.checkpoint.every = 4
  for number in (0, 5):
    for epoch in (0, 1):
      rows = [source._rows(config, number, 2 * epoch + piece) for piece in (0, 1)]
      assert sorted(np.concatenate(rows)) == list(range(2 * config.batch))
  final = train.run(config, tmp_path / "run")
  assert np.isfinite(final["loss"])


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    (dict(opponent="refrence"), "Did you mean 'reference'"),
    (dict(epochs=3), "config.steps=4 must be a multiple of 3"),
    (dict(count=1), "at least 2 responses"),
  ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_written(changes, words, tmp_path):
  config = _config(tmp_path)
  config.rollout.update(**changes)
  with pytest.raises(Refused, match=words):
    train.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_rollouts_without_a_reward_or_a_judge_are_refused(tmp_path):
  config = _config(tmp_path)
  with config.unlocked():
    config.rewards = {}
  with pytest.raises(Refused, match="config.rewards or a config.judge"):
    train.run(config, tmp_path / "run")


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    (dict(advantages={"a": recipes.advantage("grpo")}), "no term of config.objectives reads"),
    (dict(selectors={"a": recipes.selector("token_tis")}), "no term of config.objectives reads"),
    (dict(trials={"a": recipes.trial(recipes.data_set("personas"))}, rewards={}), "config.rewards"),
  ],
)
def test_sections_that_nothing_would_read_are_refused(changes, words, tmp_path):
  config = _config(tmp_path)
  with config.unlocked():
    for key, value in changes.items():
      config[key] = value
  with pytest.raises(Refused, match=words):
    train.run(config, tmp_path / "run")


def test_a_judge_without_rollouts_is_refused(tmp_path):
  config = _config(tmp_path)
  with config.unlocked():
    config.rollout.update(count=0)
    config.judge = {"steps": 2}
  with pytest.raises(Refused, match="set config.rollout.count"):
    train.run(config, tmp_path / "run")


def test_a_reward_that_reads_arrays_is_refused(tmp_path):
  config = _config(tmp_path)
  config.rewards.short.fn = "scaled"
  with pytest.raises(Refused, match="a reward of responses is f"):
    train.run(config, tmp_path / "run")


def test_a_batch_of_rollouts_fits_the_vocabulary(params):
  drawn = jax.device_get(
    sample(params, CONFIG, *sample_test._prompts("left"), jax.random.key(1), max_new=4, count=2)
  )
  tokens, mask = sample_test._prompts("left")
  drawn |= {"prompt_tokens": np.repeat(tokens, 2, 0), "prompt_mask": np.repeat(mask, 2, 0)}
  batch = rollout.arrays(drawn, len(tokens), 2)
  vocabulary.check(batch)
  np.testing.assert_array_equal((batch["scored"] >= 0).sum(-1), batch["mask"].sum(-1))


def test_every_countdown_problem_has_a_solution_and_the_splits_share_none():
  train_set = list(data.countdown("train", count=500))
  test_set = list(data.countdown("test", count=100))
  for record in train_set + test_set:
    assert rewards.countdown(record, record.responses[0]) == 1.0
  assert not {r.prompt for r in train_set} & {r.prompt for r in test_set}


@pytest.mark.parametrize(
  ("response", "value"),
  [
    ("3*8*1", 1.0),
    ("(8 * 3) / 1 = 24\nand more", 1.0),
    ("8+3+1", 0.1),
    ("24", 0.0),
    ("3*8", 0.0),
    ("3*8*1*1", 0.0),
    ("8/(1-1)*3", 0.0),
    ("__import__('os')", 0.0),
    ("3**8**1", 0.0),
    ("", 0.0),
  ],
)
def test_the_countdown_reward_parses_and_never_runs_a_response(response, value):
  assert rewards.countdown(Record("", ("",), answer="24: 3 8 1"), response) == value


@pytest.mark.parametrize(
  ("response", "value"),
  [("so #### 1,000", 1.0), ("#### 5 #### 1000.0", 1.0), ("1000", 0.0), ("#### no", 0.0)],
)
def test_an_exact_answer_stands_behind_the_last_mark(response, value):
  record = Record("", ("",), answer="text #### 1000")
  assert rewards.exact_answer(record, response) == value


def _small(name, **changes):
  """A recipe of rollouts, cut down to seconds."""
  config = recipes.load(name)
  with config.unlocked():
    config.steps, config.batch, config.mesh.data = 4, 8, 1
    config.model.update(width=32, depth=1, heads=2, kv_heads=1, head_width=16, hidden=64)
    config.tokenizer.vocab = 320
    config.data.buckets = (48, 128)
    config.data.max_length = 128
    config.rollout.max_new = 6
    config.checkpoint.every, config.log.every = 2, 1
    config.warm.steps, config.warm.batch = 2, 8
    for section in (*config.evals.values(), *config.trials.values()):
      section.data.limit = 8
    for section in config.data.sets.values():
      section.limit = 64
    for key, value in changes.items():
      config[key] = value
  return config


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["online_dpo", "xpo", "nash_md"])
def test_a_judge_is_trained_once_and_scores_what_the_policy_says(objective, tmp_path):
  config = _small(f"configs/online.py:objective={objective}")
  with config.unlocked():
    config.judge.steps, config.judge.batch = 2, 8
    config.judge.model = config.model.copy_and_resolve_references()
    config.judge.model.kind = "reward"
    config.judge.evals.heldout.data.limit = 8
  final = train.run(config, tmp_path)
  assert {"reward/judge", "reward/mean", "loss"} <= set(final)
  assert json.loads((tmp_path / "judge" / "done.json").read_text())
  before = (tmp_path / "metrics.jsonl").read_bytes()
  assert train.run(config, tmp_path) == final
  assert (tmp_path / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["grpo", "dapo", "ppo", "remax", "gdpo", "clip_cov"])
def test_group_rl_runs_with_the_published_settings(estimator, tmp_path):
  final = train.run(_small(f"configs/group_rl.py:estimator={estimator}"), tmp_path)
  assert np.isfinite([v for v in final.values() if isinstance(v, float)]).all()
  assert {"reward/mean", "heldout/reward/solved", "kl/rollout"} <= set(final)
  assert final["kl/rollout"] < 1e-6  # the sampler's parameters are the trainer's
  if "ratio/mean" in final:
    assert abs(final["ratio/mean"] - 1) < 1e-5  # the first step after new rollouts is on-policy
