"""From the fields of a line of data to a Record, in the shapes that people have.

| fields | record |
|---|---|
| `prompt`, `chosen`, `rejected` | a pair |
| `prompt`, `completion`, `label` | one response that is desirable (`true`) or not |
| `prompt`, `completion` | a demonstration |
| `prompt`, `completions`, `scores` | graded responses, best first |
| `messages`, perhaps `label` | a conversation |
| `prompt` | a prompt for sampling |

Each of them is text or chat (`[{"role": ..., "content": ...}, ...]`). `chosen`, `rejected`,
`completion` and `completions` may be whole conversations that share all but the last turn; then
`prompt` may be absent. Of `messages` without `label` every assistant turn counts, but those with
`"counts": false`; otherwise only the response counts. Beside them `weight`, `strength`, `who`,
`group`, `rationale`, `answer`, `context` and, of a pair, `label` (the probability that the
preference is right) go through.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jaxpref import call
from jaxpref.types import Record, Refused

OPTIONAL = ("weight", "strength", "who", "group", "rationale", "answer", "context", "aspects")
KNOWN = (
  *("prompt", "chosen", "rejected", "completion", "completions", "scores", "label", "messages"),
  *OPTIONAL,
)
_SHAPES = (
  "The shapes are: prompt, chosen, rejected; prompt, completion[, label]; prompt, completions, "
  "scores; messages[, label]; prompt alone (with no fields but "
  f"{', '.join(OPTIONAL)})."
)


def parse(fields: Any, where: str) -> Record:
  """One record from the fields of a line, a row or an example.

  A field that is null is absent.

  Args:
    fields: a dict of JSON values.
    where: `file.jsonl:17`, for messages and for `Record.source`.

  Raises:
    Refused: not an object, missing field, wrong type, empty response, equal responses; says where,
      what and how to repair it.

  Example:
    >>> parse({"prompt": "q", "completions": ["a", "b"], "scores": [1, 2]}, "x.jsonl:1").responses
    ('b', 'a')
  """
  if not isinstance(fields, dict):
    raise Refused(
      f"{where} holds {_kind(fields)}, not an object; write one record per line, such as "
      '{"prompt": "...", "chosen": "...", "rejected": "..."}.'
    )
  fields = {k: v for k, v in fields.items() if v is not None}
  made = _maker(fields)(fields, where)
  aspects = _aspects(fields, made, where)
  return Record(source=where, **(_options(fields, where) | made | aspects))


def _maker(fields) -> Callable[[dict, str], dict]:
  """Which shape the fields are meant to be."""
  if "chosen" in fields or "rejected" in fields:
    return _pair
  if "completions" in fields or "scores" in fields:
    return _list
  if "completion" in fields:
    return _single
  if "messages" in fields:
    return _conversation
  return _prompt_alone


def _pair(fields, where):
  chosen, rejected = (_need(fields, name, where) for name in ("chosen", "rejected"))
  prompt, responses = _candidates(fields, {"chosen": chosen, "rejected": rejected}, where)
  if responses[0] == responses[1]:
    raise Refused(
      f"{where}: chosen and rejected are equal, so the record says nothing; leave it out."
    )
  made = {"prompt": prompt, "responses": responses, "relevance": (1.0, 0.0)}
  if "label" in fields:
    made["label"] = _number(fields, "label", where)
    if not 0 <= made["label"] <= 1:
      raise Refused(
        f"{where}: label of a pair is the probability that chosen is preferred, 0 to 1; it is "
        f"{made['label']}."
      )
  return made


def _list(fields, where):
  completions, scores = (_need(fields, name, where) for name in ("completions", "scores"))
  for name, value in (("completions", completions), ("scores", scores)):
    if not isinstance(value, list):
      raise Refused(f"{where}: {name} is {_kind(value)}; it is a list with one entry per response.")
  if len(completions) != len(scores) or len(scores) < 2:
    raise Refused(
      f"{where} has {len(completions)} completions and {len(scores)} scores; it needs one score "
      "per completion and at least two."
    )
  named = {f"completions[{k}]": value for k, value in enumerate(completions)}
  prompt, texts = _candidates(fields, named, where)
  scores = [_number({f"scores[{k}]": s}, f"scores[{k}]", where) for k, s in enumerate(scores)]
  by_text: dict[str, float] = {}
  for text, score in zip(texts, scores, strict=True):
    if by_text.setdefault(text, score) != score:
      raise Refused(
        f"{where}: two completions are equal but have the scores {by_text[text]} and {score}; "
        "leave one out."
      )
  order = sorted(range(len(texts)), key=lambda k: -scores[k])
  return {
    "order": order,
    "prompt": prompt,
    "responses": tuple(texts[k] for k in order),
    "relevance": tuple(scores[k] for k in order),
  }


def _single(fields, where):
  prompt, responses = _candidates(fields, {"completion": fields["completion"]}, where)
  return {"prompt": prompt, "responses": responses} | _desirable(fields, where)


def _conversation(fields, where):
  turns = _chat(fields["messages"], "messages", where)
  prompt, response = _split_last(turns, "messages", where)
  outcome = _desirable(fields, where)
  if not outcome:
    prompt = tuple({"counts": t["role"] == "assistant"} | t for t in prompt)
  return {"prompt": prompt, "responses": (response,)} | outcome


def _prompt_alone(fields, where):
  unknown = [name for name in fields if name != "prompt" and name not in OPTIONAL]
  if unknown or "prompt" not in fields:
    near = "".join(
      f"The field {name!r} is not known. {call.nearest(name, KNOWN)}"
      for name in unknown
      if name not in KNOWN
    )
    raise Refused(
      f"{where} has a shape that is not known; its fields are: {', '.join(fields) or 'none'}. "
      f"{near}{_SHAPES}"
    )
  return {"prompt": _prompt(fields, where), "responses": ()}


def _need(fields, name, where):
  if name in fields:
    return fields[name]
  unknown = [k for k in fields if k not in KNOWN]
  near = call.nearest(name, unknown)
  raise Refused(
    f"{where} has no field {name!r}; its fields are: {', '.join(fields)}. {near}{_SHAPES}"
  )


def _candidates(fields, values, where):
  """The prompt and the texts of the responses, from text or chat."""
  for name, value in values.items():
    if not isinstance(value, (str, list)):
      raise Refused(f"{where}: {name} is {_kind(value)}; it is text or a list of messages.")
  kinds = {type(value) for value in values.values()}
  if len(kinds) > 1:
    what = " and ".join(f"{name} is {_kind(value)}" for name, value in values.items())
    raise Refused(f"{where}: {what}; make all of them text, or all of them lists of messages.")
  if kinds == {str}:
    prompt = _prompt(fields, where)
    return prompt, tuple(_response(value, name, where) for name, value in values.items())
  split = {n: _split_last(_chat(v, n, where), n, where) for n, v in values.items()}
  heads = {name: head for name, (head, _) in split.items()}
  return _shared(fields, heads, where), tuple(text for _, text in split.values())


def _shared(fields, heads, where):
  """The prompt of conversations whose turns before the last are `heads`."""
  names, turns = list(heads), list(heads.values())
  for name, head in heads.items():
    if head != turns[0]:
      raise Refused(
        f"{where}: {names[0]} and {name} differ before their last turn; they must be answers to "
        "the same prompt."
      )
  if not turns[0]:
    return _prompt(fields, where)
  if "prompt" in fields:
    prompt = _prompt(fields, where)
    users = [t["content"] for t in turns[0] if t["role"] == "user"]
    same = prompt in users if isinstance(prompt, str) else prompt == turns[0]
    if not same:
      raise Refused(
        f"{where}: the turns of {names[0]} before its last are not the prompt; give the whole "
        "conversation there and leave out prompt, or give only the response there."
      )
  return turns[0]


def _prompt(fields, where):
  value = _need(fields, "prompt", where)
  if isinstance(value, list):
    return _chat(value, "prompt", where)
  return _string(value, "prompt", where)


def _split_last(turns, name, where):
  if turns[-1]["role"] != "assistant":
    raise Refused(
      f"{where}: {name} ends with a turn of {turns[-1]['role']!r}; the last turn is the response "
      "and must be of the assistant."
    )
  return turns[:-1], _response(turns[-1]["content"], name, where)


def _chat(value, name, where):
  """Checked turns: role, content and, where it is given, counts."""
  if not isinstance(value, list) or not value:
    raise Refused(f"{where}: {name} is {_kind(value)}; it is a list of at least one message.")
  out = []
  for n, turn in enumerate(value):
    place = f"{name}[{n}]"
    if not isinstance(turn, dict):
      raise Refused(f'{where}: {place} is {_kind(turn)}, not {{"role": ..., "content": ...}}.')
    for key in ("role", "content"):
      if turn.get(key) is None:
        raise Refused(
          f"{where}: {place} has no {key!r}; its fields are: {', '.join(turn) or 'none'}. "
          'A message is {"role": "user", "content": "..."}.'
        )
    checked = {key: _string(turn[key], f"{place}.{key}", where) for key in ("role", "content")}
    if turn.get("counts") is not None:
      if not isinstance(turn["counts"], bool):
        raise Refused(f"{where}: {place}.counts is {_kind(turn['counts'])}; it is true or false.")
      checked["counts"] = turn["counts"]
    out.append(checked)
  return tuple(out)


def _desirable(fields, where):
  if "label" not in fields:
    return {}
  label = fields["label"]
  if not isinstance(label, bool) and not (isinstance(label, int) and label in (0, 1)):
    raise Refused(f"{where}: label of one response is {label!r}; it is true (desirable) or false.")
  return {"relevance": (float(label),)}


def _options(fields, where):
  found = {}
  for name in ("weight", "strength"):
    if name in fields:
      found[name] = _number(fields, name, where)
  if found.get("weight", 0.0) < 0:
    raise Refused(f"{where}: weight is {found['weight']}; it must be at least 0.")
  for name in ("who", "group"):
    if name in fields:
      value = fields[name]
      if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise Refused(
          f"{where}: {name} is {value!r}; it is a whole number from 0. Number the names that you "
          "have."
        )
      found[name] = value
  for name in ("rationale", "answer", "context"):
    if name in fields:
      found[name] = _string(fields[name], name, where)
  return found


def _aspects(fields, made, where):
  """Grades by name of each response, in the order of the record's responses."""
  order = made.pop("order", None) or range(len(made.get("responses", ())))
  if "aspects" not in fields:
    return {}
  value = fields["aspects"]
  if not isinstance(value, list) or len(value) != len(order):
    raise Refused(
      f"{where}: aspects is {_kind(value)}; it is a list with one object of grades per response, "
      'such as [{"helpfulness": 4}, {"helpfulness": 1}].'
    )
  out = []
  for k in order:
    if not isinstance(value[k], dict):
      raise Refused(f"{where}: aspects[{k}] is {_kind(value[k])}, not an object of grades.")
    grades = {n: g for n, g in value[k].items() if g is not None}
    out.append({n: _number(grades, n, where) for n in grades})
  return {"aspects": tuple(out)}


def _number(fields, name, where):
  value = fields[name]
  if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
    raise Refused(f"{where}: {name} is {_kind(value)}; it is a finite number.")
  return float(value)


def _string(value, name, where):
  if not isinstance(value, str):
    raise Refused(f"{where}: {name} is {_kind(value)}; it is text.")
  try:
    value.encode("utf-8")
  except UnicodeEncodeError as error:
    raise Refused(
      f"{where}: {name} holds half of a surrogate pair, U+{ord(value[error.start]):04X}, at "
      f"character {error.start}; it is no Unicode text. Write the pair, or leave it out."
    ) from error
  return value


def _response(value, name, where):
  if not _string(value, name, where).strip():
    raise Refused(f"{where}: {name} is an empty response; give it a text, or leave the record out.")
  return value


def _kind(value):
  """What a JSON value is, in words."""
  if value is None or isinstance(value, bool):
    return {None: "null", True: "true", False: "false"}[value]
  if isinstance(value, (int, float)):
    return f"the number {value}"
  names = {str: "text", list: f"a list of {len(value)}" if isinstance(value, list) else ""}
  return names.get(type(value), {dict: "an object", bytes: "bytes"}.get(type(value), "no JSON"))
