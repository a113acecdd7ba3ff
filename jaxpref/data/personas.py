"""Persona statements: what a speaker with some interest, trait or belief would and would not say.

14,400 training and 3,600 test pairs over 36 personas, written by a language model; CC-BY-4.0. The
file and its licence ship with the package, in `bundled/personas`.
"""

from __future__ import annotations

import functools
import gzip
import importlib.resources
import json
from collections.abc import Iterator

from jaxpref import call
from jaxpref.types import Record, Refused

_SPLITS = {"train": (0, 400), "test": (400, 500)}


def personas(split: str, *, personas: str = "") -> Iterator[Record]:
  """Pairs of statements, the one that the persona would say first.

  The prompt is the persona in words with a colon (`interest in art:`). Statement n that agrees is
  paired with statement n that does not, within a persona; `train` is n < 400, `test` n >= 400, so
  both splits have all personas. `group` is the persona's number in the file, 0..35.

  Args:
    split: `train` or `test`.
    personas: names, separated by commas, such as `interest-in-art,risk-averse`; all 36 if empty.

  Yields:
    Records with `relevance` (1, 0), persona by persona in the file's order.

  Raises:
    Refused: an unknown split or persona; names the nearest.

  Example:
    >>> print(next(personas("train", personas="risk-averse")).prompt)
    risk averse:

  Reference: Perez et al., "Discovering Language Model Behaviors with Model-Written Evaluations"
  (2022).
  """
  if split not in _SPLITS:
    raise Refused(
      f"personas has no split {split!r}. {call.nearest(split, _SPLITS)}It has: train, test."
    )
  statements = _read()
  wanted = [name.strip() for name in personas.split(",") if name.strip()] or list(statements)
  for name in wanted:
    if name not in statements:
      raise Refused(
        f"there is no persona {name!r}. {call.nearest(name, statements)}"
        f"They are: {', '.join(statements)}."
      )
  first, last = _SPLITS[split]
  for number, (name, by_label) in enumerate(statements.items()):
    if name in wanted:
      for n in range(first, last):
        yield Record(
          prompt=f"{name.replace('-', ' ')}:",
          responses=(by_label[1][n], by_label[0][n]),
          relevance=(1.0, 0.0),
          group=number,
          source=f"personas/{name}:{n}",
        )


@functools.cache
def _read():
  """`{persona: {1: statements that agree, 0: that do not}}` in the file's order."""
  path = importlib.resources.files("jaxpref.data") / "bundled" / "personas" / "personas.jsonl.gz"
  found: dict[str, dict[int, list[str]]] = {}
  with path.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
    for line in lines:
      row = json.loads(line)
      found.setdefault(row["persona"], {0: [], 1: []})[row["agree"]].append(row["statement"])
  return found
