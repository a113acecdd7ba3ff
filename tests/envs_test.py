"""Environments: their rules, that they are pure, and that no text makes them raise."""

import re

import pytest

from jaxpref import data, envs
from jaxpref.envs import grid
from jaxpref.envs.calculator import computed
from jaxpref.types import Record, Refused

GRID = Record("", (), context="grid 3, start 0 0, key 0 1, door 2 1")
MACHINES = Record("", (), context="seed 3, pays 0 1 0.5")
QUESTION = Record("3*7?", (), answer="21")
ALL = [(envs.keydoor(), GRID), (envs.bandit(), MACHINES), (envs.calculator(), QUESTION)]
ODD = ("", " ", "\x00", "pull 9", "pull ²", "٣", "calc:", "calc: 2**99999", "calc: " + "(" * 59)
ODD += ("up down", "9" * 5000, "calc: " + "9*" * 20 + "9", "\ud800", "calc: __import__('os')", "-")
every_env = pytest.mark.parametrize(("env", "record"), ALL, ids=["keydoor", "bandit", "calculator"])


def _walk(env, record, actions):
  """`[(observation, reward, done, anchor)]` after the reset and each action."""
  state, text = env.reset(record)
  out = [(text, 0.0, False, env.anchor(state))]
  for action in actions:
    state, text, reward, done = env.step(state, action)
    out.append((text, reward, done, env.anchor(state)))
  return out


def test_the_way_over_the_key_to_the_door_is_rewarded_at_its_end_only():
  way = ("right", " pick ", "down", "down", "open", "up")
  found = _walk(envs.keydoor(), GRID, way)
  assert [reward for _, reward, _, _ in found] == [0, 0, 0, 0, 0, 10, 0]
  assert [done for _, _, done, _ in found] == [False] * 5 + [True, True]
  assert found[0][0] == "room 3x3. you are at r0 c0. key r0 c1. door r2 c1. you hold nothing."
  assert "you hold the key" in found[2][0] and found[5] == found[6][:1] + (10.0,) + found[6][2:]


@pytest.mark.parametrize("action", ["up", "left", "pick", "open"])
def test_walls_and_actions_in_the_wrong_place_change_nothing(action):
  first, second = _walk(envs.keydoor(), GRID, [action])
  assert second == first


def test_a_door_without_the_key_stays_shut_and_an_unknown_word_costs_the_penalty():
  found = _walk(envs.keydoor(penalty=0.5), GRID, ["down", "down", "right", "open", "opn", "UP"])
  assert [reward for _, reward, _, _ in found] == [0, 0, 0, 0, 0, -0.5, -0.5]
  assert len({anchor for *_, anchor in found[3:]}) == 1


def test_an_anchor_is_the_state_whatever_came_before():
  one = _walk(envs.keydoor(), GRID, ["right", "pick", "left"])[-1]
  other = _walk(envs.keydoor(), GRID, ["down", "up", "right", "pick", "pick", "left", "up"])[-1]
  without = _walk(envs.keydoor(), GRID, ["right", "left"])[-1]
  assert one[3] == other[3] != without[3]


@pytest.mark.parametrize("split", ["train", "test"])
def test_who_never_slips_opens_every_door(split):
  env = envs.keydoor(wording="short")
  for record in data.keydoor(split, count=40, size=4, slips=0.0, turns=14, wording="short"):
    actions = [turn["content"] for turn in record.prompt if turn["role"] == "assistant"]
    assert _walk(env, record, [*actions, *record.responses])[-1][1:3] == (10.0, True)
    state, _ = env.reset(record)
    assert grid.shortest(state) == (actions[0] if actions else record.responses[0])


def test_splits_of_grids_and_questions_share_none():
  grids = lambda split: {r.context for r in data.keydoor(split, count=300, size=3)}
  questions = lambda split: {r.answer and r.prompt[0]["content"] for r in data.calculator(split)}
  assert not grids("train") & grids("test") and not questions("train") & questions("test")


def test_a_bandit_pays_by_its_chances_and_the_same_for_the_same_pulls():
  found = _walk(envs.bandit(pulls=4), MACHINES, ["pull 2", "1", "pull 9", "2", "2"])
  assert [reward for _, reward, _, _ in found] == [0, 1, 0, -0.1, 1, 0]
  assert [done for _, _, done, _ in found] == [False] * 4 + [True, True]
  assert found[4][3] == "0/1 2/2 0/0"
  first = [r for _, r, _, _ in _walk(envs.bandit(pulls=200), MACHINES, ["3"] * 200)]
  second = [r for _, r, _, _ in _walk(envs.bandit(pulls=200), MACHINES, ["3", "1"] * 100)][1::2]
  assert 70 <= sum(first) <= 130 and second == first[1:101]


def test_a_calculator_is_asked_and_then_answered():
  found = _walk(envs.calculator(cost=0.1), QUESTION, ["calc: (3 * 7)", "calc: 3/7", "21", "21"])
  assert [text for text, *_ in found] == ["3*7?", "= 21", "= error", "", ""]
  assert [reward for _, reward, _, _ in found] == [0, -0.1, -0.1, 1, 0]
  assert found[-1][2] and not found[2][2]
  assert _walk(envs.calculator(), QUESTION, ["22"])[-1][1:3] == (0.0, True)
  assert _walk(envs.calculator(), QUESTION, ["it is 21"])[-1][1:3] == (0.0, True)


@pytest.mark.parametrize(
  ("text", "value"), [("2-3*4", "-10"), ("-(2+3)", "-5"), ("2 3", "error"), ("1000000000", "error")]
)
def test_what_the_tool_says(text, value):
  assert computed(text) == value


def test_demonstrations_with_the_tool_are_right_and_the_others_guess():
  right = {}
  for tool in (0.0, 1.0):
    rewards = []
    for record in data.calculator("train", count=60, tool=tool):
      actions = [t["content"] for t in record.prompt if t["role"] == "assistant"]
      rewards.append(_walk(envs.calculator(), record, [*actions, *record.responses])[-1][1])
    right[tool] = sum(rewards) / 60
  assert right[1.0] == 1.0 and right[0.0] < 0.2


@every_env
def test_no_action_raises_and_the_same_actions_give_the_same(env, record):
  for action in ODD:
    for _, reward, done, anchor in _walk(env, record, [action] * 3):
      assert type(reward) is float and type(done) is bool and type(anchor) is str
  assert _walk(env, record, ["up", "2", *ODD]) == _walk(env, record, ["up", "2", *ODD])


@every_env
def test_states_can_be_kept_and_stepped_again(env, record):
  state, _ = env.reset(record)
  assert hash(state) == hash(env.reset(record)[0])
  assert env.step(state, "down") == env.step(state, "down")


@pytest.mark.parametrize(
  ("make", "record", "words"),
  [
    (envs.keydoor, Record("", ()), "needs a context like 'grid 5, start 2 3"),
    (envs.keydoor, Record("", (), context="grid 3, start 0 0, key 0 0, door 1 1"), "different"),
    (envs.keydoor, Record("", (), context="grid 3, start 0, key 0 0, door 1 1"), "three"),
    (envs.keydoor, Record("", (), context="grid 3, start 0 3, key 0 0, door 1 1"), "inside"),
    (envs.bandit, Record("", (), context="seed 1, pays 0.5 1.5"), "chances from 0 to 1"),
    (envs.calculator, Record("2+2?", (), answer="four"), "whole number"),
  ],
)
def test_records_that_do_not_fit_are_refused(make, record, words):
  with pytest.raises(Refused, match=words):
    make().reset(record)


@pytest.mark.parametrize(
  ("make", "knobs", "words"),
  [
    (envs.keydoor, dict(wording="shrt"), "Did you mean 'short'"),
    (envs.keydoor, dict(penalty=-1.0), "penalty >= 0"),
    (envs.bandit, dict(pulls=0), "pulls > 0"),
    (envs.calculator, dict(cost=-0.1), "cost >= 0"),
  ],
)
def test_knobs_out_of_their_range_are_refused(make, knobs, words):
  with pytest.raises(Refused, match=re.escape(words)):
    make(**knobs)
