"""The only look-up in the library: a function's signature is its contract.

Positional parameters are names of the vocabulary, what the function reads. Keyword-only parameters
with defaults are its knobs, what a config may set.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from jaxpref.types import Refused


def nearest(name: str, options: Iterable[str]) -> str:
  """`"Did you mean 'dpo'? "` if an option is near, else an empty string.

  Of several near ones, letters in another order are the likeliest slip.

  >>> nearest("dop", ["dpo", "dro", "ipo"])
  "Did you mean 'dpo'? "
  """
  near = difflib.get_close_matches(name, list(options), n=5, cutoff=0.5)
  near.sort(key=lambda option: sorted(option) != sorted(name))
  return f"Did you mean {near[0]!r}? " if near else ""


def functions(room: ModuleType) -> dict[str, Callable]:
  """Public functions of a room by name, in the room's order."""
  return {k: v for k, v in vars(room).items() if inspect.isfunction(v) and not k.startswith("_")}


def find(room: ModuleType, name: str) -> Callable:
  """The function `name` of a room, or `"package.module:function"` from anywhere importable.

  Raises:
    Refused: no such function; names the nearest and lists all.
  """
  if ":" in name:
    module_name, _, attribute = name.partition(":")
    try:
      module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
      raise Refused(
        f"cannot import {module_name!r} of fn={name!r}: {error}. Run from the folder that holds "
        "it, or put that folder on PYTHONPATH."
      ) from error
    if not callable(getattr(module, attribute, None)):
      options = functions(module)
      raise Refused(
        f"{module_name} has no function {attribute!r}. {nearest(attribute, options)}"
        f"It has: {', '.join(options)}."
      )
    return getattr(module, attribute)
  options = functions(room)
  if name not in options:
    title = room.__name__.rpartition(".")[2]
    raise Refused(
      f"{title} has no {name!r}. {nearest(name, options)}It has: {', '.join(sorted(options))}."
    )
  return options[name]


def _parameters(fn: Callable, keyword_only: bool) -> list[inspect.Parameter]:
  found = inspect.signature(fn).parameters.values()
  wanted = (
    (inspect.Parameter.KEYWORD_ONLY,)
    if keyword_only
    else (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
  )
  return [p for p in found if p.kind in wanted]


def needs(fn: Callable) -> tuple[str, ...]:
  """Names of the arrays that a function reads.

  >>> needs(lambda logp, length, *, beta=0.1: None)
  ('logp', 'length')
  """
  return tuple(p.name for p in _parameters(fn, keyword_only=False))


def knobs(fn: Callable) -> dict[str, Any]:
  """Knobs of a function and their defaults.

  >>> knobs(lambda logp, *, beta=0.1: None)
  {'beta': 0.1}
  """
  return {p.name: p.default for p in _parameters(fn, keyword_only=True)}


def bind(fn: Callable, **values) -> Callable:
  """The function with knobs fixed.

  Raises:
    Refused: a name that is no knob of `fn`; names the nearest and lists all.
  """
  options = knobs(fn)
  for name in values:
    if name not in options:
      raise Refused(
        f"{fn.__name__} has no hyperparameter {name!r}. {nearest(name, options)}"
        f"It has: {', '.join(options) or 'none'}."
      )
  bound = functools.partial(fn, **values)
  functools.update_wrapper(bound, fn)
  del bound.__wrapped__  # so that inspect sees the partial's own signature
  bound.__dict__.pop("__signature__", None)  # that of a wrapped objective, with its old defaults
  return bound


def wrapped(base: Callable, fn: Callable, reads: Iterable[str], **attributes) -> Callable:
  """An objective made from another: what the functions of the room `wrappers` return.

  It reads `reads` and has the name, the module, the attributes and the knobs of `base`.

  Args:
    base: the objective inside.
    fn: `f(inner, arrays)`, called with the arrays by name and `base` bound to the knobs of the
      call.
    reads: names of the arrays.
    **attributes: set on the result: `init_carry` and `next_carry` of a wrapper with memory.

  >>> twice = wrapped(
  ...   lambda logp, *, beta=0.1: beta * logp, lambda inner, arrays: 2 * feed(inner, arrays),
  ...   ["logp"])
  >>> needs(twice), knobs(twice), twice(1.0), twice(1.0, beta=3.0)
  (('logp',), {'beta': 0.1}, 0.2, 6.0)
  """
  reads = tuple(reads)
  arrays = [inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in reads]
  signature = inspect.Signature(arrays + _parameters(base, keyword_only=True))

  def objective(*args, **kwargs):
    given = signature.bind(*args, **kwargs).arguments
    inner = bind(base, **{k: v for k, v in given.items() if k not in reads})
    return fn(inner, {k: given[k] for k in reads})

  functools.update_wrapper(objective, base)
  del objective.__wrapped__
  objective.__signature__ = signature
  objective.__dict__.update(attributes)
  return objective


def feed(fn: Callable, arrays: dict[str, Any]) -> Any:
  """Calls a function with the arrays that it names.

  Raises:
    Refused: an array is missing; says which one and which exist.
  """
  for name in needs(fn):
    if name not in arrays:
      raise Refused(
        f"{fn.__name__} reads {name}, which this run does not make. "
        f"It makes: {', '.join(sorted(arrays))}."
      )
  return fn(*(arrays[name] for name in needs(fn)))


def positive(name: str, **values) -> None:
  """Refuses knobs that must be above 0.

  Args:
    name: the function whose knobs they are.
    **values: knobs and their values.

  Raises:
    Refused: a knob that is 0, negative or not a number.
  """
  for knob, value in values.items():
    if not value > 0:
      raise Refused(f"{name} needs {knob} > 0; it is {value}.")


def at_least(name: str, least: float, **values) -> None:
  """Refuses knobs below a bound.

  Raises:
    Refused: a knob that is less, or not a number.
  """
  for knob, value in values.items():
    if not value >= least:
      raise Refused(f"{name} needs {knob} >= {least}; it is {value}.")


def fraction(name: str, **values) -> None:
  """Refuses knobs outside of [0, 1].

  Raises:
    Refused: a knob that is less than 0, more than 1, or not a number.
  """
  for knob, value in values.items():
    if not 0 <= value <= 1:
      raise Refused(f"{name} needs {knob} in [0, 1]; it is {value}.")


def one_of(name: str, options: Iterable[str], **values) -> None:
  """Refuses knobs that are none of the words that they may be.

  Args:
    name: the function whose knobs they are.
    options: the words.
    **values: knobs and their values.

  Raises:
    Refused: another word; names the nearest and lists all.
  """
  for knob, value in values.items():
    if value not in options:
      raise Refused(
        f"{name} has no {knob}={value!r}. {nearest(str(value), options)}"
        f"It has: {', '.join(options)}."
      )


def candidates(name: str, count: int, **arrays) -> None:
  """Refuses arrays that do not hold `count` candidates per situation, `[B, count, ...]`.

  Raises:
    Refused: says which array has how many.
  """
  for array_name, array in arrays.items():
    if len(array.shape) < 2 or array.shape[1] != count:
      raise Refused(
        f"{name} reads {count} candidate{'s' * (count > 1)} per situation; {array_name} has shape "
        f"{tuple(array.shape)} where [B, {count}] is expected."
      )
