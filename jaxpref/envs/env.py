"""What an environment is, and what a demonstration in it looks like as a record."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import NamedTuple

from jaxpref.types import Record, Refused


class Env(NamedTuple):
  """Pure functions on states that nobody outside looks into.

  Attributes:
    reset: `record -> (state, observation)`, the same for all episodes of a record.
    step: `(state, action) -> (state, observation, reward, done)`. The action is any text; one that
      the rules do not know is no error. After the end nothing changes and rewards are 0.
    anchor: `state -> text`, equal for states in which the same can happen next; without history
      and counters of steps.
  """

  reset: Callable
  step: Callable
  anchor: Callable


def demonstrated(env: Env, record: Record, choose: Callable, turns: int) -> Record:
  """The record with an episode as its prompt and response; the actions count, nothing else does.

  All turns but the last action are the prompt, so a supervised run learns every action and what
  the environment says is context.

  Args:
    env: the environment.
    record: what it is reset to.
    choose: `state -> action`.
    turns: actions at most, >= 1.
  """
  state, text = env.reset(record)
  said, action = [{"role": "user", "content": text}], ""
  for turn in range(turns):
    action = choose(state)
    state, text, _, done = env.step(state, action)
    if done or turn == turns - 1:
      break
    said.append({"role": "assistant", "content": action, "counts": True})
    said.append({"role": "user", "content": text})
  return dataclasses.replace(record, prompt=tuple(said), responses=(action,))


def numbers(record: Record, env: str, like: str) -> list[float]:
  """The numbers in `record.context`, which must have the form of `like`.

  Raises:
    Refused: another form.
  """
  number = r"\d+(?:\.\d+)?"
  form = lambda text: re.sub(r"(?: ?#)+", " #", re.sub(number, "#", text))
  found = record.context or ""
  if form(found) != form(like):
    raise Refused(
      f"{record.source or 'a record'}: {env} needs a context like {like!r}; it is {found!r}."
    )
  return [float(n) for n in re.findall(number, found)]
