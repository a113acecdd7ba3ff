"""Rewards for responses whose answer can be checked."""

from __future__ import annotations

import ast
import operator
import re
from fractions import Fraction

from jaxpref.types import Record, Refused

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_STEPS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def exact_answer(record: Record, response: str, *, mark: str = "####") -> float:
  """1 where the number behind the mark equals the record's `answer`, else 0.

  The last mark of the response counts, and the first number behind it; thousands separators are
  dropped and numbers are compared as fractions, so `1,000.0` equals `1000`. With `mark=""` it is
  the last number of the response.

  Args:
    record: its `answer` is a number, as text.
    response: of the policy.
    mark: what stands before the final answer; `####` in GSM8K.

  Returns:
    1.0 or 0.0.

  Raises:
    Refused: the record has no answer, or one without a number.

  Example:
    >>> exact_answer(Record("Ten times 100?", ("",), answer="1000"), "10 * 100 = #### 1,000.0")
    1.0

  Reference: Cobbe et al., "Training Verifiers to Solve Math Word Problems" (2021), for the format.
  """
  wanted = _NUMBER.findall(record.answer or "")
  if not wanted:
    raise Refused(
      f"{record.source or 'a record'}: exact_answer needs a number in `answer`; "
      f"it is {record.answer!r}."
    )
  behind = response.rpartition(mark)[2] if mark and mark in response else response
  found = _NUMBER.findall(behind) if not mark or mark in response else []
  if not found:
    return 0.0
  return float(_fraction(found[0 if mark else -1]) == _fraction(wanted[-1]))


def _fraction(text):
  return Fraction(text.replace(",", ""))


def countdown(record: Record, response: str, *, partial: float = 0.1) -> float:
  """1 for an expression of exactly the given numbers that makes the target.

  The expression is the first line of the response, up to a `=` if there is one; it may hold the
  numbers, `+ - * /` and brackets. It is parsed, never evaluated as code.

  Args:
    record: its `answer` is `target: number number ...`, such as `24: 3 8 1`.
    response: of the policy.
    partial: reward of an expression that uses exactly the numbers but misses the target.

  Returns:
    1.0, `partial`, or 0.0 for anything else, a division by zero included.

  Raises:
    Refused: the record's `answer` has another form.

  Example:
    >>> countdown(Record("", ("",), answer="24: 3 8 1"), "3 * 8 * 1 = 24")
    1.0

  Reference: Gandhi et al., "Stream of Search (SoS): Learning to Search in Language" (2024), the
  task; Pan et al., TinyZero (2025), the reward of 0.1 for the format.
  """
  match = re.fullmatch(r"(-?\d+): ((?:\d+ ?)+)", record.answer or "")
  if match is None:
    raise Refused(
      f"{record.source or 'a record'}: countdown needs an answer like '24: 3 8 1'; "
      f"it is {record.answer!r}."
    )
  text = response.strip().partition("\n")[0].partition("=")[0].strip()
  if not text or len(text) > 200 or not re.fullmatch(r"[\d+\-*/() ]+", text):
    return 0.0
  try:
    numbers: list[int] = []
    value = _value(ast.parse(text, mode="eval").body, numbers)
  except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
    return 0.0
  if sorted(numbers) != sorted(int(n) for n in match[2].split()):
    return 0.0
  return 1.0 if value == int(match[1]) else partial


def _value(node, numbers) -> Fraction:
  """The value of a parsed expression; the numbers in it go into the list."""
  if isinstance(node, ast.Constant) and type(node.value) is int:
    numbers.append(node.value)
    return Fraction(node.value)
  if isinstance(node, ast.BinOp):
    left, right = _value(node.left, numbers), _value(node.right, numbers)
    if isinstance(node.op, ast.Div):
      return left / right
    if type(node.op) in _STEPS:
      return _STEPS[type(node.op)](left, right)
  raise ValueError("no arithmetic expression")
