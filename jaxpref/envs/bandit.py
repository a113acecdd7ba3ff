"""A bandit told in text: which machine pays is found out by pulling."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from jaxpref import call
from jaxpref.envs.env import Env, numbers
from jaxpref.types import Record, Refused

MACHINES = "seed 7, pays 0.2 0.9"


class State(NamedTuple):
  """The machines, and pulls and wins of each so far; `bad` counts invalid actions."""

  seed: int
  pays: tuple[float, ...]
  pulled: tuple[int, ...]
  won: tuple[int, ...]
  bad: int = 0


def bandit(*, pulls: int = 6, penalty: float = 0.1) -> Env:
  """Machines that pay 1 with a fixed chance each; an episode is a number of pulls.

  The action is the number of a machine, such as `2` or `pull 2`, counted from 1. An invalid action
  uses up a pull. A record has its machines in `context`, such as `seed 7, pays 0.2 0.9`; the n-th
  pull of a machine gives the same in every episode of the record.

  Args:
    pulls: length of an episode.
    penalty: taken off the reward of an invalid action, at least 0.

  Returns:
    the environment.

  Raises:
    Refused: no pulls, a negative penalty.

  Example:
    >>> env = bandit(pulls=2)
    >>> state, text = env.reset(Record("", (), context="seed 7, pays 0 1"))
    >>> text
    '2 machines. 2 pulls left.'
    >>> env.step(state, "pull 2")[1:]
    ('machine 2 pays 1. 1 pulls left.', 1.0, False)

  Reference: Robbins, "Some Aspects of the Sequential Design of Experiments" (1952).
  """
  call.positive("bandit", pulls=pulls)
  call.at_least("bandit", 0.0, penalty=penalty)
  left = lambda state: pulls - sum(state.pulled) - state.bad

  def reset(record):
    state = _machines(record)
    return state, f"{len(state.pays)} machines. {pulls} pulls left."

  def step(state, action):
    if left(state) <= 0:
      return state, "no pulls left.", 0.0, True
    arm = _arm(action, len(state.pays))
    if arm < 0:
      state, told, reward = state._replace(bad=state.bad + 1), "no such machine.", -penalty
    else:
      pay = _pay(state, arm)
      told, reward = f"machine {arm + 1} pays {pay}.", float(pay)
      state = state._replace(pulled=_add(state.pulled, arm, 1), won=_add(state.won, arm, pay))
    return state, f"{told} {left(state)} pulls left.", reward, left(state) == 0

  return Env(
    reset, step, lambda s: " ".join(f"{w}/{n}" for w, n in zip(s.won, s.pulled, strict=True))
  )


def _machines(record: Record) -> State:
  seed, *pays = numbers(record, "bandit", MACHINES)
  if not 1 <= len(pays) <= 9 or max(pays) > 1:
    raise Refused(
      f"{record.source or 'a record'}: bandit needs 1 to 9 chances from 0 to 1; its context is "
      f"{record.context!r}."
    )
  none = (0,) * len(pays)
  return State(int(seed), tuple(pays), none, none)


def _arm(action, machines):
  """Which machine is meant, from 0; -1 where none is."""
  match = re.fullmatch(r"(?:pull )?([1-9])", action.strip(), re.ASCII)
  return int(match[1]) - 1 if match and int(match[1]) <= machines else -1


def _pay(state, arm):
  return int(np.random.default_rng((state.seed, arm, state.pulled[arm])).random() < state.pays[arm])


def _add(counts, arm, more):
  return tuple(n + more * (i == arm) for i, n in enumerate(counts))
