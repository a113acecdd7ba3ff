"""Episodes: what the environment says is context, turns are segments, GiGPO reads them."""

import jax
import numpy as np
import pytest

from jaxpref import assemble, episodes, estimate, prepare, recipe, rollout, train, vocabulary
from jaxpref.data import encode
from jaxpref.envs import env as envs
from jaxpref.types import Record, Refused

SMALL = dict(width=32, depth=1, heads=2, kv_heads=1, head_width=16, hidden=64)
TURNS, COUNT = 5, 2


def _config():
  c = recipe.load("configs/group_rl.py:task=keydoor,estimator=gigpo,scale=tiny")
  with c.unlocked():
    c.model.update(**SMALL)
    c.mesh.data = 1
    c.steps, c.batch, c.checkpoint.every, c.log.every = 2, 2, 2, 1
    c.rollout.update(count=COUNT, turns=TURNS)
    c.data.sets.main.update(count=6, turns=TURNS)
    c.trials.heldout.data.update(count=3, turns=TURNS)
    c.data.max_length, c.data.buckets = 80, (80,)
    c.warm.update(steps=2, batch=2)
  return c


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
  config = _config()
  return assemble.parts(config, assemble.corpus(config, tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def params(parts):
  tree = parts.module.init(jax.random.key(0), parts.model)
  return tree | {"embed": 25.0 * tree["embed"]}  # peaked predictions


@pytest.fixture(scope="module")
def made(parts, params):
  return rollout.make(parts, params, {}, [1, 4], jax.random.key(3))


def _script(monkeypatch, parts, said):
  """The policy says these lists of actions, one per episode; `~` stands for a missing end."""
  turns = [iter(actions) for actions in said]
  order = {}

  def speak(parts, params, live, most, options, key):
    ids, limit = [], options.max_new
    for episode in live:
      action = next(turns[order.setdefault(id(episode), len(order))])
      text = parts.corpus.tokenizer.encode(action.rstrip("~"))
      ids.append((text if action.endswith("~") else [*text, parts.corpus.tokenizer.eos])[:limit])
    mask = np.asarray([[float(i < len(x)) for i in range(limit)] for x in ids], np.float32)
    tokens = np.asarray([x + [0] * (limit - len(x)) for x in ids], np.int32)
    return {"tokens": tokens, "mask": mask, "sampler_logp": -0.5 * mask}

  monkeypatch.setattr(episodes, "_said", speak)


LAYOUT = Record("", ("",), context="grid 3, start 0 0, key 0 1, door 0 2", source="here")
WIN = ("right", "pick", "right", "open")
LOSE = ("up", "right", "jump", "right", "left")


def _by_hand(monkeypatch, parts, said=(WIN, LOSE)):
  """A batch of one record with two episodes by script."""
  row = encode.encode(
    Record("", ("",)), parts.corpus.tokenizer, parts.corpus.template, max_length=80
  )
  _script(monkeypatch, parts, said)
  played = episodes.play(parts, {}, [LAYOUT] * len(said), parts.config.rollout, jax.random.key(0))
  return played, episodes.arrays(parts, played, [row], [0])


def test_a_batch_fits_the_vocabulary_and_is_what_the_run_says_it_makes(parts, made):
  batch, metrics = made
  vocabulary.check(batch)
  assert set(batch) == set(rollout.made(parts.config.rollout))
  assert batch["segment_key"].shape == (2, COUNT, TURNS)
  assert {"reward/mean", "reward/solved", "length/turns", "length/truncated"} <= set(metrics)


def test_log_probabilities_of_the_sampler_are_those_of_the_scorer(parts, params, made):
  batch, want = made[0], frozenset({"token_logp"})
  scored = parts.measure(params, batch, want, jax.random.key(0))["token_logp"]
  assert batch["mask"].sum() > 20 and np.abs(batch["sampler_token_logp"]).max() > 0.1
  np.testing.assert_allclose(batch["sampler_token_logp"], scored, atol=1e-5, rtol=0)


def test_the_same_key_gives_the_same_batch_and_another_one_does_not(parts, params, made):
  again, _ = rollout.make(parts, params, {}, [1, 4], jax.random.key(3))
  for name, array in made[0].items():
    np.testing.assert_array_equal(array, again[name], err_msg=name)
  other, _ = rollout.make(parts, params, {}, [1, 4], jax.random.key(4))
  assert (other["tokens"] != again["tokens"]).any()


def test_the_policys_tokens_alone_count_and_carry_the_number_of_their_turn(monkeypatch, parts):
  _, batch = _by_hand(monkeypatch, parts)
  decode = lambda ids: parts.corpus.tokenizer.decode(ids.tolist())
  for k, actions in enumerate((WIN, LOSE)):
    tokens, segment = batch["tokens"][0, k], batch["segment"][0, k]
    np.testing.assert_array_equal(segment >= 0, batch["mask"][0, k] > 0)
    assert [decode(tokens[segment == i]) for i in range(len(actions))] == list(actions)
    heard = tokens[(batch["prompt_mask"][0, k] > 0)]
    assert decode(heard[:10]) == "00k01d02-" and not set(decode(heard)) & set("pgj")
    ends = tokens[batch["mask"][0, k] > 0] == parts.corpus.tokenizer.eos
    assert ends.sum() == len(actions)
  np.testing.assert_array_equal(batch["sampler_token_logp"], -0.5 * batch["mask"])
  np.testing.assert_array_equal(batch["terminated"], [[1, 0]])


def test_an_episode_reads_like_the_demonstration_of_the_same_actions(monkeypatch, parts):
  played, _ = _by_hand(monkeypatch, parts)
  for episode, actions in zip(played, (WIN, LOSE), strict=True):
    script = iter(actions)
    env = episodes.environment(parts.config.rollout.env)
    record = envs.demonstrated(env, LAYOUT, lambda _, s=script: next(s), TURNS)
    row = encode.encode(record, parts.corpus.tokenizer, parts.corpus.template, max_length=80)
    assert episode.ids == row.ids[0].tolist() and episode.counted == row.counted[0].tolist()


def test_rewards_and_keys_are_of_turns_and_equal_states_have_equal_keys(monkeypatch, parts):
  _, batch = _by_hand(monkeypatch, parts)
  wanted = np.asarray([[[0, 0, 0, 10, 0], [0, 0, -0.1, 0, 0]]], np.float32)
  np.testing.assert_array_equal(batch["segment_reward"], wanted)
  np.testing.assert_allclose(batch["reward"], [[10, -0.1]], rtol=1e-6)
  np.testing.assert_array_equal(batch["segment_mask"].sum(-1), [[4, 5]])
  (a, b, c, d, _), (e, f, g, h, i) = batch["segment_key"][0]
  assert a == e == f and b == g == h and len({a, b, c, d, i}) == 5


def test_gigpo_through_the_whole_path_on_an_episode_by_hand(monkeypatch, parts):
  """The four steps of the one that wins and the five of the other, gamma 0.95, both levels."""
  _, batch = _by_hand(monkeypatch, parts)
  out = estimate.apply(parts.plan, {k: jax.numpy.asarray(v) for k, v in batch.items()})
  returns = [[8.57375, 9.025, 9.5, 10.0], [-0.09025, -0.095, -0.1, 0.0, 0.0]]
  start, at_key = (8.57375 - 0.09025 - 0.095) / 3, (9.025 - 0.1 + 0.0) / 3
  wanted = [
    [5.05 + returns[0][0] - start, 5.05 + returns[0][1] - at_key, 5.05, 5.05],
    [returns[1][0] - start, returns[1][1] - start, -0.1 - at_key, 0.0 - at_key, 0.0],
  ]
  wanted[1] = [a - 5.05 for a in wanted[1]]
  for k in range(2):
    segment, told = batch["segment"][0, k], np.asarray(out["advantage"])[0, k]
    assert not told[segment < 0].any()
    for turn, value in enumerate(wanted[k]):
      np.testing.assert_allclose(told[segment == turn], value, rtol=1e-5)


def test_a_turn_without_an_end_gets_one_that_does_not_count(monkeypatch, parts):
  _, batch = _by_hand(monkeypatch, parts, (("rightt~", "pick", "right", "open", "up"), LOSE))
  ids, counted = batch["tokens"][0, 0], batch["mask"][0, 0]
  end = np.flatnonzero(ids == parts.corpus.tokenizer.eos)[0]
  assert counted[end] == 0 and counted[end - 1] == 1 and batch["prompt_mask"][0, 0, end] == 1
  np.testing.assert_allclose(batch["segment_reward"][0, 0, 0], -0.1, rtol=1e-6)


def test_an_episode_ends_where_another_turn_would_not_fit(monkeypatch, parts):
  config = parts.config.copy_and_resolve_references()
  with config.unlocked():
    config.data.buckets = (40,)
  _, batch = _by_hand(monkeypatch, parts._replace(config=config), (LOSE, LOSE))
  assert batch["tokens"].shape[-1] == 40 and (batch["segment_mask"].sum(-1) == 2).all()
  assert not batch["terminated"].any()


def test_a_trial_tells_success_and_turns(parts, params):
  rows = parts.corpus.evals["heldout"]
  found = rollout.trial(parts, params, parts.config.trials.heldout, rows, jax.random.key(0))
  assert set(found) >= {"reward/mean", "reward/solved", "length/turns", "length/truncated"}
  assert 0 <= found["reward/solved"] <= 1 <= found["length/turns"] <= TURNS


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (dict(env={"fn": "keydor"}), "Did you mean 'keydoor'"),
    (dict(env={"fn": "keydoor", "prise": 1.0}), "Did you mean 'prize'"),
    (dict(turns=0), "turns=0 must be at least 1"),
    (dict(opponent="reference"), "does not go with config.rollout.env"),
    (dict(overlong_buffer=2), "does not go with config.rollout.env"),
  ],
)
def test_options_that_do_not_go_with_an_environment_are_refused(change, words):
  c = _config()
  with c.unlocked():
    for name, value in change.items():
      c.rollout[name] = value
  with pytest.raises(Refused, match=words):
    recipe.check(c)


def test_rewards_beside_an_environment_are_refused():
  c = _config()
  with c.unlocked():
    c.rewards = {"one": recipe.reward("countdown")}
  with pytest.raises(Refused, match="leave config.rewards"):
    recipe.check(c)


def test_gigpo_without_an_environment_is_refused(tmp_path):
  c = _config()
  with c.unlocked():
    c.rollout.env, c.rewards = {}, {"one": recipe.reward("length")}
    c.trials = {}
  with pytest.raises(Refused, match="read segment_key"):
    assemble.parts(c, assemble.corpus(c, tmp_path))
  assert prepare.made({"segment_key"}) == frozenset()


@pytest.mark.slow
def test_a_run_of_two_steps_trains_on_episodes(tmp_path):
  final = train.run(_config(), tmp_path / "run")
  assert np.isfinite(final["loss"]) and 0 <= final["heldout/reward/solved"] <= 1
