"""Configs: sections made from signatures, recipe arguments, checks and differences."""

from __future__ import annotations

import ast
import hashlib
import json
from types import ModuleType, SimpleNamespace
from typing import Any

from ml_collections import config_dict

from jaxpref import call
from jaxpref.types import Refused

RESERVED = ("fn", "term_weight", "reduce", "reduce_constant", "every", "mix_weight", "around")


def defaults(room: ModuleType, name: str, **values) -> dict[str, Any]:
  """The config section of a function: `fn` and every knob with its default.

  Knobs whose default is None become placeholders, so that they can be set on the command line.

  Args:
    room: a module such as `jaxpref.objectives`.
    name: name in the room, or `"package.module:function"`.
    **values: knobs to set at once.

  Raises:
    Refused: no such function or knob.
  """
  fn = call.find(room, name)
  call.bind(fn, **values)  # refuses unknown names
  knobs = call.knobs(fn) | values
  return {"fn": name} | {
    k: config_dict.placeholder(str) if v is None else v for k, v in knobs.items()
  }


def term(
  room: ModuleType, name: str, *, term_weight=1.0, reduce="", around=None, **values
) -> dict[str, Any]:
  """The section of one term of the loss: `defaults` with its weight and its reduction.

  `reduce=""` takes the mean over examples, or over tokens for losses that have a token axis.
  `around` is the section of a wrapper, `defaults(wrappers, "lcpo")`; a wrapper's section may have
  an `around` of its own, for a second one outside.
  """
  section = defaults(room, name, **values)
  section |= {"term_weight": term_weight, "reduce": reduce, "reduce_constant": 0.0}
  return section | ({"around": around} if around else {})


def resolve(room: ModuleType, section, wrappers: ModuleType | None = None) -> Any:
  """The function that a section names, with the knobs that it sets, inside its wrappers.

  Args:
    room: where `fn` is looked up.
    section: `fn`, knobs, reserved keys.
    wrappers: the room where the `fn` of `around` is looked up; None: the section has none.

  Raises:
    Refused: an unknown name or knob, or a wrapper that does not fit.
  """
  fn = _bound(room, section)
  while section.get("around"):
    if wrappers is None:
      raise Refused(f"{section['fn']}: only terms of the loss take 'around'.")
    section = section["around"]
    fn = _bound(wrappers, section)(fn)
  return fn


def _bound(room, section):
  values = {k: v for k, v in dict(section).items() if k not in RESERVED and v is not None}
  values = {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in values.items()}
  return call.bind(call.find(room, section["fn"]), **values)


def parse_arg(arg: str, **options) -> SimpleNamespace:
  """Reads the part behind the colon of `--config=file.py:key=value,key=value`.

  Args:
    arg: that part; empty means all defaults.
    **options: the keys and their defaults; a value takes the type of its default.

  Raises:
    Refused: an unknown key (with the nearest), or a value of another type.

  >>> parse_arg("scale=tiny", scale="small", steps=3)
  namespace(scale='tiny', steps=3)
  """
  found = dict(options)
  for part in filter(None, arg.split(",")):
    key, equals, text = part.partition("=")
    if not equals or key not in options:
      raise Refused(
        f"the config argument has no key {key!r}. {call.nearest(key, options)}"
        f"It takes: {', '.join(f'{k}={v}' for k, v in options.items())}."
      )
    found[key] = _typed(key, text, options[key])
  return SimpleNamespace(**found)


def _typed(key, text, default):
  if isinstance(default, str):
    return text
  try:
    value = ast.literal_eval(text)
  except (ValueError, SyntaxError):
    value = text
  if isinstance(default, float) and type(value) is int:
    value = float(value)
  if type(value) is not type(default):
    raise Refused(
      f"the config argument {key}={text} is not of type {type(default).__name__} "
      f"(default {default!r})."
    )
  return value


def plain(config) -> dict[str, Any]:
  """The config as nested dicts that JSON can hold, keys sorted."""
  tree = config.to_dict() if hasattr(config, "to_dict") else dict(config)
  return json.loads(json.dumps(tree, sort_keys=True, default=list))


def flat(config) -> dict[str, Any]:
  """The config as one level of dotted keys.

  >>> flat({"a": {"b": 1}})
  {'a.b': 1}
  """
  out = {}
  for key, value in plain(config).items():
    if isinstance(value, dict) and value:
      out |= {f"{key}.{k}": v for k, v in flat(value).items()}
    else:
      out[key] = value
  return out


def diff(old, new) -> list[tuple[str, Any, Any]]:
  """Dotted keys whose values differ, with both values; `None` where a side has no such key.

  >>> diff({"a": 1, "b": 2}, {"a": 1, "b": 3})
  [('b', 2, 3)]
  """
  a, b = flat(old), flat(new)
  return [(k, a.get(k), b.get(k)) for k in sorted(a | b) if a.get(k) != b.get(k)]


def digest(config) -> str:
  """16 hex digits that name a config; equal configs have equal digests in every process."""
  text = json.dumps(plain(config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
