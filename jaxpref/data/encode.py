"""Records to rows of ids, and rows to arrays under the names of the vocabulary.

Masks are data: which tokens count is decided here, from the record's structure, and travels with
the ids; nothing is ever inferred from an id, so pad may equal eos.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence

import numpy as np

from jaxpref import call
from jaxpref.data import chat
from jaxpref.data.tokenize import Tokenizer
from jaxpref.types import Record, Refused

TRUNCATE = ("error", "prompt", "response", "drop")
OUTCOMES = ("relevance", "label", "strength", "who", "group", "aspects")
_KINDS = {"who": np.int32, "group": np.int32}


@dataclasses.dataclass(frozen=True)
class Row:
  """One encoded record.

  Attributes:
    ids: per candidate, i32[tokens]: the prompt's ids, then the response's and its end token.
    counted: per candidate, u8[tokens]: 1 on tokens that count, the end token included.
    prompt: number of prompt ids, the same for all candidates.
    start: number of leading ids that truncation never cuts (bos).
    truncated: whether ids were cut.
    relevance: as in the record, like the fields below; None where the record has none.
    weight: example weight, 1 where the record has none.
    label: probability that candidate 0 is preferred.
    strength: how strongly.
    who: annotator or user.
    group: sub-population.
    aspects: per candidate, grades by name.
    source: where the record stands.
    record: the record itself, for functions that reward responses to it.
  """

  ids: tuple[np.ndarray, ...]
  counted: tuple[np.ndarray, ...]
  prompt: int
  start: int
  truncated: bool
  relevance: tuple[float, ...] | None
  weight: float
  label: float | None
  strength: float | None
  who: int | None
  group: int | None
  aspects: tuple[dict[str, float], ...] | None
  source: str
  record: Record | None = None


@dataclasses.dataclass(frozen=True)
class Report:
  """What truncation did to a set: how many records, how many cut or dropped, the first 20 of them.

  `sentences` is empty where nothing was cut or dropped.
  """

  total: int
  truncated: int
  dropped: int
  first: tuple[str, ...]

  def sentences(self) -> str:
    """The report as lines for people."""
    if not self.truncated and not self.dropped:
      return ""
    head = (
      f"encode: of {self.total:,} records, {self.truncated:,} were truncated and {self.dropped:,} "
      "dropped because they are longer than max_length"
    )
    more = self.truncated + self.dropped - len(self.first)
    tail = [f"  ... and {more:,} more"] if more else []
    return "\n".join([head + ":", *(f"  {line}" for line in self.first), *tail])


def encode(
  record: Record,
  tokenizer: Tokenizer,
  template: chat.Template,
  *,
  max_length: int,
  truncate: str = "error",
) -> Row | None:
  """One record as ids and masks.

  Args:
    record: with at least one response.
    tokenizer: text to ids.
    template: what surrounds prompt and responses.
    max_length: ids that a candidate may have, prompt and end token included.
    truncate: what to do with a longer one. `error` refuses it. `prompt` cuts the prompt from the
      left, behind bos, never the response. `response` cuts the response's end, and with it the end
      token. `drop` leaves the record out.

  Returns:
    The row; None where the record is dropped. `row.truncated` says that ids were cut.

  Raises:
    Refused: too long and `truncate` does not help; no response; an unknown `truncate`.
  """
  return _row(record, tokenizer, template, max_length, truncate, tokenizer.encode)


def encode_all(
  records: Iterable[Record],
  tokenizer: Tokenizer,
  template: chat.Template,
  *,
  max_length: int,
  truncate: str = "error",
) -> tuple[list[Row], Report]:
  """`encode` of many records, with every distinct text tokenised once, in one batch.

  What was truncated or dropped is counted, listed on stderr and returned.

  Raises:
    Refused: as `encode`; or every record was dropped.
  """
  records = list(records)
  table = _ids_by_text(records, tokenizer, template)
  rows, lines = [], []
  for number, record in enumerate(records):
    row = _row(record, tokenizer, template, max_length, truncate, table.__getitem__)
    place = record.source or f"record {number}"
    if row is None:
      lines.append(f"{place} dropped")
    else:
      rows.append(row)
      if row.truncated:
        lines.append(f"{place} truncated")
  cut = sum(row.truncated for row in rows)
  report = Report(len(records), cut, len(records) - len(rows), tuple(lines[:20]))
  if report.sentences():
    print(report.sentences(), file=sys.stderr)
  if records and not rows:
    raise Refused(
      f"all {len(records):,} records are longer than max_length={max_length} and truncate='drop' "
      "left none; raise max_length."
    )
  return rows, report


def _ids_by_text(records, tokenizer, template):
  """Ids of every distinct text of the records, tokenised in one batch."""
  texts = {}
  for record in records:
    pieces = chat.prompt_pieces(record.prompt, template)
    for response in record.responses:
      pieces += chat.response_pieces(response, template)
    texts |= dict.fromkeys(p.what for p in pieces if isinstance(p.what, str))
  return dict(zip(texts, tokenizer.encode_batch(list(texts)), strict=True))


def _joined(pieces, tokenizer, template, text_ids):
  """Ids of pieces, i32, and which of them count, u8."""
  ids, counted = [], []
  for what, counts in pieces:
    special = isinstance(what, chat.Special)
    new = [chat.special_id(what, tokenizer, template)] if special else text_ids(what)
    ids += new
    counted += [int(counts)] * len(new)
  return np.asarray(ids, np.int32), np.asarray(counted, np.uint8)


def _row(record, tokenizer, template, max_length, truncate, text_ids):
  if truncate not in TRUNCATE:
    raise Refused(
      f"truncate has no {truncate!r}. {call.nearest(truncate, TRUNCATE)}It has: {TRUNCATE}."
    )
  if not record.responses:
    raise Refused(
      f"{record.source or 'a record'} has no response to encode; for prompts alone use "
      "chat.prompt_ids."
    )

  prompt, *responses = (
    _joined(pieces, tokenizer, template, text_ids)
    for pieces in (
      chat.prompt_pieces(record.prompt, template),
      *(chat.response_pieces(r, template) for r in record.responses),
    )
  )
  start = len(template.start)
  fitted = _fit(record, prompt, responses, start, max_length, truncate)
  if fitted is None:
    return None
  prompt, responses, truncated = fitted
  return Row(
    ids=tuple(np.concatenate([prompt[0], ids]) for ids, _ in responses),
    counted=tuple(np.concatenate([prompt[1], counted]) for _, counted in responses),
    prompt=len(prompt[0]),
    start=start,
    truncated=truncated,
    weight=1.0 if record.weight is None else float(record.weight),
    source=record.source,
    record=record,
    **{name: getattr(record, name) for name in OUTCOMES},
  )


def _fit(record, prompt, responses, start, max_length, truncate):
  """Prompt and responses within `max_length` and whether something was cut; None to drop."""
  size, longest = len(prompt[0]), max(len(ids) for ids, _ in responses)
  over = size + longest - max_length
  if over <= 0:
    return prompt, responses, False
  if truncate == "drop":
    return None
  place = record.source or "a record"
  if truncate == "prompt" and start + longest <= max_length:
    return tuple(_cut_left(part, start, over) for part in prompt), responses, True
  room = max_length - size
  if truncate == "response" and room >= 1:
    return prompt, [(ids[:room], counted[:room]) for ids, counted in responses], True
  remedy = {
    "error": "raise max_length, or set truncate to 'prompt', 'response' or 'drop'",
    "prompt": "the response alone does not fit: raise max_length, or set truncate='drop'",
    "response": "the prompt alone fills it: raise max_length, or set truncate='prompt' or 'drop'",
  }[truncate]
  raise Refused(
    f"{place} has {size + longest} tokens (prompt {size}, longest response with its end token "
    f"{longest}), more than max_length={max_length}: {remedy}."
  )


def _cut_left(array, start, over):
  """`array` without the `over` elements behind the first `start`."""
  return np.concatenate([array[:start], array[start + over :]])


def outcome_names(rows: Iterable[Row]) -> tuple[str, ...]:
  """Outcome fields that every row has; only these can be arrays of a batch."""
  rows = list(rows)
  return tuple(n for n in OUTCOMES if rows and all(getattr(r, n) is not None for r in rows))


def aspect_names(rows: Iterable[Row]) -> tuple[str, ...]:
  """Names of all attributes that any response of the rows has, sorted."""
  found = {name for row in rows for grades in row.aspects or () for name in grades}
  return tuple(sorted(found))


def collate(
  rows: Sequence[Row],
  *,
  length: int,
  scored: int,
  pad: int,
  side: str = "right",
  candidates: int,
  index: Sequence[int] | None = None,
  names: Sequence[str] | None = None,
  aspects: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
  """Rows as arrays `[B, K, T]` under the names of the vocabulary.

  Args:
    rows: B rows.
    length: T; no candidate may be longer.
    scored: R; no candidate may have more tokens that count.
    pad: id on padding; its masks are 0, whatever it is.
    side: which side the padding is on; both hold the same content.
    candidates: K; rows with fewer are filled up with candidates that are not `present`.
    index: which record each row is; 0..B-1 if None.
    names: outcome fields to make; those that all rows have if None.
    aspects: attributes, in the order of their axis; those of these rows if None.

  Returns:
    `tokens`, `mask`, `prompt_mask`, `position`, `scored`, `present`, `weight`, `index`, and the
    outcome fields.

  Raises:
    Refused: a row that does not fit, an unknown side, or a field that a row does not have.
  """
  names = outcome_names(rows) if names is None else names
  shape = (len(rows), candidates)
  batch = _token_arrays(
    [(r.ids, r.counted, r.source) for r in rows], length, scored, pad, side, candidates
  )
  batch["present"] = np.zeros(shape, np.float32)
  for b, row in enumerate(rows):
    batch["present"][b, : len(row.ids)] = 1.0
  batch["weight"] = np.asarray([r.weight for r in rows], np.float32)
  batch["index"] = np.arange(len(rows), dtype=np.int32) if index is None else _i32(index)
  for name in names:
    missing = next((r for r in rows if getattr(r, name) is None), None)
    if missing is not None:
      raise Refused(f"{missing.source or 'a record'} has no {name}, but the batch is to hold it.")
    if name == "aspects":
      wanted = aspect_names(rows) if aspects is None else aspects
      batch[name] = _graded(rows, candidates, wanted)
    elif name == "relevance":
      batch[name] = np.zeros(shape, np.float32)
      for b, row in enumerate(rows):
        batch[name][b, : len(row.relevance)] = row.relevance
    else:
      batch[name] = np.asarray([getattr(r, name) for r in rows], _KINDS.get(name, np.float32))
  return batch


def _graded(rows, candidates, wanted):
  """f32[B, K, M] of the rows' attributes, NaN where there is no grade."""
  out = np.full((len(rows), candidates, len(wanted)), np.nan, np.float32)
  for b, row in enumerate(rows):
    for k, grades in enumerate(row.aspects):
      for m, name in enumerate(wanted):
        value = grades.get(name)
        out[b, k, m] = np.nan if value is None else value
  return out


def mismatched(
  prompts: Sequence[Row], responses: Sequence[Row], *, length: int, scored: int, pad: int, side: str
) -> dict[str, np.ndarray]:
  """KTO's unrelated pairs: the prompt of `prompts[i]` with the response of `responses[i]`.

  A prompt that does not fit beside the response is cut from the left behind bos; the response and
  its end token are never cut.

  Returns:
    `mismatch_tokens`, `mismatch_mask`, `mismatch_prompt_mask`, `mismatch_position` and
    `mismatch_scored`, with K = 1.
  """
  joined = []
  for row, other in zip(prompts, responses, strict=True):
    response, counted = other.ids[0][other.prompt :], other.counted[0][other.prompt :]
    prompt = row.ids[0][: row.prompt]
    over = max(0, len(prompt) + len(response) - length)
    prompt = _cut_left(prompt, row.start, over)
    ids = np.concatenate([prompt, response])
    counted = np.concatenate([np.zeros(len(prompt), np.uint8), counted])
    joined.append(((ids,), (counted,), f"{row.source} with {other.source}"))
  batch = _token_arrays(joined, length, scored, pad, side, 1)
  return {f"mismatch_{name}": array for name, array in batch.items()}


def _token_arrays(rows, length, scored, pad, side, candidates):
  """The five arrays with a token axis; `rows` holds ids and masks per candidate, and a place."""
  if side not in ("left", "right"):
    raise Refused(f"side is {side!r}; it is 'right' or 'left'.")
  shape = (len(rows), candidates, length)
  tokens = np.full(shape, pad, np.int32)
  mask, prompt_mask = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
  position = np.zeros(shape, np.int32)
  places = np.full((len(rows), candidates, scored), -1, np.int32)
  for b, (all_ids, all_counted, source) in enumerate(rows):
    _check_fits(all_ids, all_counted, source, length, scored, candidates)
    for k, (ids, counted) in enumerate(zip(all_ids, all_counted, strict=True)):
      first = 0 if side == "right" else length - len(ids)
      span = slice(first, first + len(ids))
      tokens[b, k, span] = ids
      mask[b, k, span] = counted
      prompt_mask[b, k, span] = 1 - counted
      position[b, k, span] = np.arange(len(ids))
      found = np.flatnonzero(counted) + first
      places[b, k, : len(found)] = found
  return {
    "tokens": tokens,
    "mask": mask,
    "prompt_mask": prompt_mask,
    "position": position,
    "scored": places,
  }


def _check_fits(all_ids, all_counted, source, length, scored, candidates):
  longest = max(len(ids) for ids in all_ids)
  most = max(int(counted.sum()) for counted in all_counted)
  for what, got, limit in (
    ("candidates", len(all_ids), candidates),
    ("tokens", longest, length),
    ("tokens that count", most, scored),
  ):
    if got > limit:
      raise Refused(f"{source or 'a record'} has {got} {what}; the batch has room for {limit}.")


def _i32(values):
  return np.asarray(values, np.int32)
