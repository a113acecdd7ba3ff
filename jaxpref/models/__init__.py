"""Models are modules with `init`, `rules`, `measure`; policies also have `prefill` and `step`."""

from __future__ import annotations

from types import ModuleType

from jaxpref import call
from jaxpref.models import language, reward
from jaxpref.types import Refused

__all__ = ["find", "language", "reward"]
KINDS = {"language": language, "reward": reward}


def find(kind: str) -> ModuleType:
  """The model module of that name.

  Raises:
    Refused: no such model; names the nearest and lists all.

  >>> find("reward").__name__
  'jaxpref.models.reward'
  """
  if kind not in KINDS:
    raise Refused(f"models has no {kind!r}. {call.nearest(kind, KINDS)}It has: {', '.join(KINDS)}.")
  return KINDS[kind]
