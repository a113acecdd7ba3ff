"""Chat templates as data: what stands before and after the text of each role.

A row is built segment by segment: special tokens are ids, texts are tokenised one by one. So the
ids of a prompt are always an exact prefix of the ids of prompt and response, which is also how the
sampler sees a prompt; nothing merges over the seam. (A library that tokenises the joined text can
differ from this at seams; train and sample with one of the two.)

A prompt is text, which counts as one user turn, or turns `{"role": ..., "content": ...}`. A turn of
the assistant with `"counts": True` counts in the mask, its end token included; other turns are
context.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from jaxpref import call
from jaxpref.data.tokenize import Tokenizer
from jaxpref.types import Refused


class Special(NamedTuple):
  """A special token by name; `bos` and `eos` are the tokenizer's own."""

  name: str


class Piece(NamedTuple):
  """A special token or a text, and whether it counts in the mask."""

  what: Special | str
  counts: bool


@dataclasses.dataclass(frozen=True)
class Template:
  """What surrounds the turns.

  Attributes:
    name: its name in `TEMPLATES`.
    start: special tokens that begin every row; truncation never cuts them.
    roles: by role, what stands before and after the text. The first piece after an assistant's
      text is the special token that stops a response.
  """

  name: str
  start: tuple[Special, ...]
  roles: dict[str, tuple[tuple[Special | str, ...], tuple[Special | str, ...]]]

  @property
  def stop(self) -> Special:
    """The special token that ends a response."""
    return self.roles["assistant"][1][0]

  @property
  def specials(self) -> tuple[str, ...]:
    """Names of the special tokens that a tokenizer must have beside bos and eos."""
    pieces = [*self.start, *(p for around in self.roles.values() for side in around for p in side)]
    names = [p.name for p in pieces if isinstance(p, Special)]
    return tuple(dict.fromkeys(n for n in names if n not in ("bos", "eos")))


_BOS, _EOS = Special("bos"), Special("eos")


def _chatml(role):
  return (Special("<|im_start|>"), f"{role}\n"), (Special("<|im_end|>"), "\n")


def _llama3(role):
  before = (Special("<|start_header_id|>"), role, Special("<|end_header_id|>"), "\n\n")
  return before, (Special("<|eot_id|>"),)


TEMPLATES = {
  "plain": Template(
    "plain", (_BOS,), {"system": ((), ()), "user": ((), ()), "assistant": ((), (_EOS,))}
  ),
  "dialogue": Template(
    "dialogue",
    (_BOS,),
    {
      "system": ((), ()),
      "user": (("\n\nHuman: ",), ()),
      "assistant": (("\n\nAssistant: ",), (_EOS,)),
    },
  ),
  "chatml": Template(
    "chatml", (), {role: _chatml(role) for role in ("system", "user", "assistant", "tool")}
  ),
  "llama3": Template(
    "llama3",
    (_BOS,),
    {role: _llama3(role) for role in ("system", "user", "assistant")}
    | {"tool": _llama3("ipython")},
  ),
}


def template(name: str) -> Template:
  """The template of a name.

  Raises:
    Refused: no such template; names the nearest.
  """
  if name not in TEMPLATES:
    raise Refused(
      f"there is no chat template {name!r}. {call.nearest(name, TEMPLATES)}"
      f"There are: {', '.join(TEMPLATES)}."
    )
  return TEMPLATES[name]


def turns(prompt: Any) -> tuple[dict[str, Any], ...]:
  """A prompt as turns; text is one user turn.

  >>> turns("Hello")
  ({'role': 'user', 'content': 'Hello'},)
  """
  return ({"role": "user", "content": prompt},) if isinstance(prompt, str) else tuple(prompt)


def prompt_pieces(prompt: Any, template: Template) -> list[Piece]:
  """Everything before the response: the start, the turns, and what opens an assistant's turn.

  Raises:
    Refused: a turn of a role that the template does not have.
  """
  pieces = [Piece(s, False) for s in template.start]
  for turn in turns(prompt):
    role = turn["role"]
    if role not in template.roles:
      raise Refused(
        f"template {template.name} has no role {role!r}. {call.nearest(role, template.roles)}"
        f"It has: {', '.join(template.roles)}."
      )
    before, after = template.roles[role]
    counts = role == "assistant" and bool(turn.get("counts", False))
    pieces += [Piece(p, False) for p in before]
    pieces.append(Piece(turn["content"], counts))
    pieces += [Piece(p, counts and i == 0) for i, p in enumerate(after)]
  return pieces + [Piece(p, False) for p in template.roles["assistant"][0]]


def response_pieces(response: str, template: Template) -> list[Piece]:
  """The response and its end token; both count."""
  return [Piece(response, True), Piece(template.stop, True)]


def between(content: str, template: Template) -> list[Piece]:
  """What stands between two responses, behind the first one's end token: a user's turn.

  A response, its end token and this are what `prompt_pieces` makes of the same turns.
  """
  before, after = template.roles["user"]
  opening = template.roles["assistant"][0]
  texts = (*template.roles["assistant"][1][1:], *before, content, *after, *opening)
  return [Piece(p, False) for p in texts]


def special_id(special: Special, tokenizer: Tokenizer, template: Template) -> int:
  """The id of a special token.

  Raises:
    Refused: the tokenizer does not have it; says how to make one that has.
  """
  own = {"bos": tokenizer.bos, "eos": tokenizer.eos}
  if special.name in own:
    return own[special.name]
  if special.name not in tokenizer.specials:
    raise Refused(
      f"template {template.name} needs the special token {special.name}, which this tokenizer "
      f"({tokenizer.kind}) does not have. Make it with specials={template.specials}, or use the "
      "template 'plain' or 'dialogue'."
    )
  return tokenizer.specials[special.name]


def stop_id(tokenizer: Tokenizer, template: Template) -> int:
  """The id at which a sampler stops: the end token of a response."""
  return special_id(template.stop, tokenizer, template)


def prompt_ids(prompt: Any, tokenizer: Tokenizer, template: Template) -> list[int]:
  """Ids of a prompt as the sampler sees it: an exact prefix of every encoded row of this prompt.

  >>> from jaxpref.data import tokenize
  >>> prompt_ids("hi", tokenize.byte_tokenizer(), TEMPLATES["plain"])
  [256, 104, 105]
  """
  return piece_ids(prompt_pieces(prompt, template), tokenizer, template)


def piece_ids(pieces: list[Piece], tokenizer: Tokenizer, template: Template) -> list[int]:
  """Ids of pieces, one after another."""
  ids = []
  for what, _ in pieces:
    if isinstance(what, Special):
      ids.append(special_id(what, tokenizer, template))
    else:
      ids += tokenizer.encode(what)
  return ids
