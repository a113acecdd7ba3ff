"""Human preferences between answers to red-team prompts: the test file of harmless-base of HH-RLHF.

2,312 pairs of dialogues; MIT. Some of the text is offensive. The file and its licence ship with
the package, in `bundled/hh_harmless`. Good for measuring a reward model, not as a first data set.
"""

from __future__ import annotations

import gzip
import importlib.resources
import json
import re
from collections.abc import Iterator

from jaxpref.types import Record, Refused

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def hh_harmless(split: str) -> Iterator[Record]:
  """Pairs of answers to a dialogue, the one that a person preferred first.

  The prompt is the turns that both dialogues share; a response is the text behind them. Three
  oddities of the file are kept: four preferred responses are empty, and in
  five pairs the dialogues part before the last turn, so that a response holds the text of further
  turns as it stands.

  Args:
    split: `test`, all of the file; there is no other.

  Yields:
    Records with turns as prompt and `relevance` (1, 0), in the file's order.

  Raises:
    Refused: another split.

  Reference: Bai et al., "Training a Helpful and Harmless Assistant with Reinforcement Learning from
  Human Feedback" (2022).
  """
  if split != "test":
    raise Refused(
      f"hh_harmless has no split {split!r}: only the published test file is bundled. Use 'test'."
    )
  path = importlib.resources.files("jaxpref.data") / "bundled" / "hh_harmless" / "test.jsonl.gz"
  with path.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
    for number, line in enumerate(lines, 1):
      row = json.loads(line)
      prompt, responses = _parse(row["chosen"], row["rejected"])
      yield Record(
        prompt=prompt,
        responses=responses,
        relevance=(1.0, 0.0),
        source=f"hh_harmless/test.jsonl.gz:{number}",
      )


def _parse(*dialogues):
  """Turns that the dialogues share, and what each has behind them."""
  parsed = [_turns(dialogue) for dialogue in dialogues]
  shared = 0
  least = min(len(turns) for turns in parsed) - 1
  while shared < least and len({turns[shared][:2] for turns in parsed}) == 1:
    shared += 1
  prompt = tuple({"role": role, "content": text} for role, text, _ in parsed[0][:shared])
  texts = zip(dialogues, parsed, strict=True)
  return prompt, tuple(dialogue[turns[shared][2] :].strip() for dialogue, turns in texts)


def _turns(dialogue):
  """`(role, text, where the text begins)` of each turn."""
  marks = list(_TURN.finditer(dialogue))
  ends = [mark.start() for mark in marks[1:]] + [len(dialogue)]
  return [
    (_ROLES[mark[1]], dialogue[mark.end() : end].strip(), mark.end())
    for mark, end in zip(marks, ends, strict=True)
  ]
