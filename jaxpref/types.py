"""The types that every part shares: one record of data, one state of a run, one kind of refusal.

Axis letters, the same in shapes, docstrings and einsum strings: `B` situations, `K` candidates,
`T` tokens, `R` scored tokens, `S` segments, `D` width, `V` vocabulary, `M` attributes or parts,
`E` embedding, `H` heads, `L` layers.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from flax import struct


class Refused(ValueError):
  """A user's input that cannot be used; its text is the sentence that the user reads."""


@dataclasses.dataclass(frozen=True)
class Record:
  """One situation with its candidate responses, as data sets yield it and JSONL files hold it.

  Attributes:
    prompt: text, or turns `({"role": ..., "content": ...}, ...)`.
    responses: K texts; where an outcome orders them, the preferred one comes first.
    relevance: K numbers, the outcome given by people: (1, 0) for a pair, grades, clicks; for one
      response 1 (desirable) or 0 (undesirable).
    label: probability that response 0 is the preferred one.
    strength: how strongly it is preferred (rating gap, votes).
    who: annotator or user.
    group: sub-population.
    weight: example weight, at least 0.
    aspects: per response, grades by name.
    context: text that the judgement depends on.
    rationale: why the preferred response is preferred.
    answer: the right answer, where there is one.
    source: where the record stands, for messages: `file.jsonl:17`.
  """

  prompt: Any
  responses: tuple[str, ...]
  relevance: tuple[float, ...] | None = None
  label: float | None = None
  strength: float | None = None
  who: int | None = None
  group: int | None = None
  weight: float | None = None
  aspects: Any = None
  context: str | None = None
  rationale: str | None = None
  answer: str | None = None
  source: str = ""


@struct.dataclass
class TrainState:
  """Everything of a run that changes; it is donated to the update and checkpointed.

  Attributes:
    step: i32[], updates done.
    params: pytree of the trained arrays.
    opt_state: optimizer state of `params`.
    key: the run's random key; constant, folded with the step where it is used.
    carry: `{term: pytree}`, memory of objectives that read `carry`.
    reference: `{"ref": params}` where the reference moves, else empty: it is frozen then.
  """

  step: Any
  params: Any
  opt_state: Any
  key: Any
  carry: Any
  reference: Any = dataclasses.field(default_factory=dict)
