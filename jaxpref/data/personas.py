"""Persona statements: what a speaker with some interest, trait or belief would and would not say.

14,400 training and 3,600 test pairs over 36 personas, written by a language model; CC-BY-4.0. The
file and its licence ship with the package, in `bundled/personas`.
"""

from __future__ import annotations

import dataclasses
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
          responses=(by_label[1][n][0], by_label[0][n][0]),
          relevance=(1.0, 0.0),
          group=number,
          source=f"personas/{name}:{n}",
        )


def graded_personas(split: str, *, personas: str = "") -> Iterator[Record]:
  r"""The pairs of `personas` with how sure a language model was of each statement.

  With `g_0` the probability that the first statement is one of the persona and `g_1` the same of
  the second: `aspects` are `{"agreement": g}` of each, `strength` is `g_0 - g_1` and `label` the
  probability that the first agrees and the second does not, if exactly one of them does,
  `g_0 (1 - g_1) / (g_0 (1 - g_1) + g_1 (1 - g_0))`. These are a model's, not people's.

  Args:
    split: `train` or `test`.
    personas: names, separated by commas; all 36 if empty.

  Yields:
    Records with `relevance` (1, 0), `label`, `strength`, `aspects`, in the order of `personas`.

  Raises:
    Refused: an unknown split or persona; names the nearest.

  Example:
    >>> print(f"{next(graded_personas('train', personas='risk-averse')).strength:.2f}")
    0.94

  Reference: Perez et al., "Discovering Language Model Behaviors with Model-Written Evaluations"
  (2022), section 3, label confidence.
  """
  sure = _read()
  for record in _personas(split, personas=personas):
    name, _, n = record.source.removeprefix("personas/").rpartition(":")
    first, second = sure[name][1][int(n)][1], 1.0 - sure[name][0][int(n)][1]
    right, wrong = first * (1.0 - second), second * (1.0 - first)
    yield dataclasses.replace(
      record,
      label=right / (right + wrong) if right + wrong else 0.5,
      strength=first - second,
      aspects=({"agreement": first}, {"agreement": second}),
    )


_personas = personas  # a knob has the name of the function


@functools.cache
def _read():
  """`{persona: {1: [(statement that agrees, confidence), ...], 0: ...}}` in the file's order."""
  path = importlib.resources.files("jaxpref.data") / "bundled" / "personas" / "personas.jsonl.gz"
  found: dict[str, dict[int, list[str]]] = {}
  with path.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
    for line in lines:
      row = json.loads(line)
      found.setdefault(row["persona"], {0: [], 1: []})[row["agree"]].append(
        (row["statement"], row["confidence"])
      )
  return found
