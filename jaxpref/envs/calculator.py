"""A calculator as a tool: ask it, read what it says, answer."""

from __future__ import annotations

import ast
import operator
import re
from typing import NamedTuple

from jaxpref import call
from jaxpref.envs.env import Env
from jaxpref.types import Record, Refused

_STEPS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


class State(NamedTuple):
  """The question's answer, what the calculator said last, and whether an answer was given."""

  answer: int
  said: str = ""
  over: bool = False


def calculator(*, right: float = 1.0, cost: float = 0.0) -> Env:
  """A question in arithmetic, and a tool: `calc: 3*7` is answered by `= 21`.

  The tool knows whole numbers of at most nine digits, `+ - *` and brackets, and says `= error` to
  all else. Whatever does not begin with `calc:` is the answer and ends the episode; it is right if
  it is the number in the record's `answer`, and nothing besides. The record's prompt is the
  question (its first turn where it holds a demonstration).

  Args:
    right: reward of the right answer; a wrong one gives 0.
    cost: taken off the reward at each call of the tool, at least 0.

  Returns:
    the environment.

  Raises:
    Refused: a negative cost.

  Example:
    >>> env = calculator()
    >>> state, text = env.reset(Record("3*7?", (), answer="21"))
    >>> state, text, reward, done = env.step(state, "calc: 3*7")
    >>> text, reward, done
    ('= 21', 0.0, False)
    >>> env.step(state, "21")[2:]
    (1.0, True)

  Reference: Schick et al., "Toolformer: Language Models Can Teach Themselves to Use Tools" (2023).
  """
  call.at_least("calculator", 0.0, cost=cost)

  def reset(record: Record):
    if not re.fullmatch(r"-?\d+", record.answer or "", re.ASCII):
      raise Refused(
        f"{record.source or 'a record'}: calculator needs a whole number in `answer`; it is "
        f"{record.answer!r}."
      )
    question = record.prompt if isinstance(record.prompt, str) else record.prompt[0]["content"]
    return State(int(record.answer)), question

  def step(state, action):
    if state.over:
      return state, "", 0.0, True
    text = action.strip()
    if text.startswith("calc:"):
      state = state._replace(said=f"= {computed(text[5:].strip())}")
      return state, state.said, 0.0 - cost, False
    given = re.fullmatch(r"-?\d{1,30}", text, re.ASCII)
    hit = given is not None and int(text) == state.answer
    return state._replace(over=True), "", right * hit, True

  return Env(reset, step, lambda s: f"{s.said} {int(s.over)}")


def computed(text: str) -> str:
  """The value of an expression as text, or `error`; it is parsed, never run.

  >>> computed("(3+4)*5"), computed("3**9"), computed("")
  ('35', 'error', 'error')
  """
  if len(text) > 60 or not re.fullmatch(r"[\d+\-*() ]+", text, re.ASCII):
    return "error"
  try:
    return str(_value(ast.parse(text, mode="eval").body))
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return "error"


def _value(node):
  if isinstance(node, ast.Constant) and type(node.value) is int and node.value < 10**9:
    return node.value
  if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
    return -_value(node.operand)
  if isinstance(node, ast.BinOp) and type(node.op) in _STEPS:
    return _STEPS[type(node.op)](_value(node.left), _value(node.right))
  raise ValueError("no arithmetic expression")
