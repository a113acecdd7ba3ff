"""Key and door: a grid told in text, with a reward at the end only."""

from __future__ import annotations

from typing import NamedTuple

from jaxpref import call
from jaxpref.envs.env import Env, numbers
from jaxpref.types import Record, Refused

ACTIONS = ("up", "down", "left", "right", "pick", "open")
MOVES = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
LAYOUT = "grid 5, start 2 3, key 0 4, door 4 1"


class State(NamedTuple):
  """Where all is; `holds` the key, `over` after the door was opened."""

  size: int
  at: tuple[int, int]
  key: tuple[int, int]
  door: tuple[int, int]
  holds: bool = False
  over: bool = False


def keydoor(*, prize: float = 10.0, penalty: float = 0.1, wording: str = "full") -> Env:
  """A grid in which the key must be picked up before the door opens.

  The actions are `up down left right pick open`; moves stop at walls, `pick` works on the cell of
  the key, `open` with the key on the cell of the door, which ends the episode. Anything else said
  is an invalid action: nothing changes. A record has its layout in `context`, such as
  `grid 5, start 2 3, key 0 4, door 4 1` (size, then row and column of each).

  Args:
    prize: reward for opening the door; all else gives 0.
    penalty: taken off the reward of an invalid action, at least 0.
    wording: of observations: `full`, or `short` for models that are small.

  Returns:
    the environment.

  Raises:
    Refused: another wording, a negative penalty.

  Example:
    >>> env = keydoor()
    >>> state, text = env.reset(Record("", (), context="grid 5, start 2 3, key 1 3, door 1 2"))
    >>> text
    'room 5x5. you are at r2 c3. key r1 c3. door r1 c2. you hold nothing.'
    >>> for action in ("up", "pick", "left", "open"):
    ...   state, text, reward, done = env.step(state, action)
    >>> text, reward, done
    ('the door is open.', 10.0, True)

  Reference: Feng et al., "Group-in-Group Policy Optimization for LLM Agent Training" (2025), for
  which this is a small stand-in of its environments.
  """
  call.one_of("keydoor", ("full", "short"), wording=wording)
  call.at_least("keydoor", 0.0, penalty=penalty)
  tell = _full if wording == "full" else _short

  def reset(record):
    state = _layout(record)
    return state, tell(state)

  def step(state, action):
    if state.over:
      return state, tell(state), 0.0, True
    word = action.strip()
    state = _moved(state, word)
    reward = prize * state.over - penalty * (word not in ACTIONS)
    return state, tell(state), float(reward), state.over

  return Env(reset, step, lambda s: f"{s.at[0]} {s.at[1]} {int(s.holds)} {int(s.over)}")


def shortest(state: State) -> str:
  """The first action of a shortest way: rows first, then columns."""
  goal, act = (state.door, "open") if state.holds else (state.key, "pick")
  down, right = goal[0] - state.at[0], goal[1] - state.at[1]
  if down:
    return "down" if down > 0 else "up"
  if right:
    return "right" if right > 0 else "left"
  return act


def _layout(record: Record) -> State:
  found = [int(n) for n in numbers(record, "keydoor", LAYOUT)]
  size, cells = found[0], tuple(zip(found[1::2], found[2::2], strict=False))
  if len(found) != 7 or max(found[1:]) >= size or len(set(cells)) < 3:
    raise Refused(
      f"{record.source or 'a record'}: keydoor needs three different cells inside of the grid; its "
      f"context is {record.context!r}."
    )
  return State(size, *cells)


def _moved(state, word):
  if word in MOVES:
    inside = lambda x: min(max(x, 0), state.size - 1)
    return state._replace(
      at=tuple(inside(x + d) for x, d in zip(state.at, MOVES[word], strict=True))
    )
  if word == "pick" and state.at == state.key:
    return state._replace(holds=True)
  if word == "open" and state.at == state.door and state.holds:
    return state._replace(over=True)
  return state


def _full(state):
  if state.over:
    return "the door is open."
  cell = lambda at: f"r{at[0]} c{at[1]}"
  return (
    f"room {state.size}x{state.size}. you are at {cell(state.at)}. key {cell(state.key)}. "
    f"door {cell(state.door)}. you hold {'the key' if state.holds else 'nothing'}."
  )


def _short(state):
  if state.over:
    return "open"
  cell = lambda at: f"{at[0]}{at[1]}"
  return f"{cell(state.at)}k{cell(state.key)}d{cell(state.door)}{'+' if state.holds else '-'}"
