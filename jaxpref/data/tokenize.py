"""Tokenizers: bytes, a byte-level BPE trained on the run's own data, or a tokenizer.json from disk.

`encode` treats text as ordinary text, always: a text that spells `<|eos|>` or a chat tag gives
ordinary ids. Special ids enter a row only where `chat` puts them. `decode` leaves special ids out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence

from jaxpref import call
from jaxpref.types import Refused

BOS, EOS, PAD = "<|bos|>", "<|eos|>", "<|pad|>"
_FORMAT = "jaxpref tokenizer 1"
_USUAL = {
  "bos": (BOS, "<s>", "<|begin_of_text|>", "<bos>", "[BOS]", "<|endoftext|>"),
  "eos": (EOS, "</s>", "<|end_of_text|>", "<eos>", "[EOS]", "<|endoftext|>", "<|im_end|>"),
  "pad": (PAD, "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|endoftext|>"),
}
_CHAT = ("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


@dataclasses.dataclass(frozen=True)
class Tokenizer:
  """Text to ids and back.

  Attributes:
    kind: `bytes`, `bpe` or `file`.
    vocab: number of ids; a model's embedding has at least so many rows.
    bos: id that begins a sequence.
    eos: id that ends a response.
    pad: id on padding; may equal `eos`, since masks are data.
    specials: id by name of every special token.
    encode: text -> ids, without special ids.
    encode_batch: texts -> ids of each; the fast way for many texts.
    decode: ids -> text, special ids left out; bytes that are no UTF-8 become U+FFFD.
    fingerprint: sha256 of `content`, 64 hex digits.
    content: canonical JSON from which `load` makes the same tokenizer.
  """

  kind: str
  vocab: int
  bos: int
  eos: int
  pad: int
  specials: dict[str, int]
  encode: Callable[[str], list[int]]
  encode_batch: Callable[[Sequence[str]], list[list[int]]]
  decode: Callable[[Iterable[int]], str]
  fingerprint: str
  content: str


def byte_tokenizer(specials: Sequence[str] = ()) -> Tokenizer:
  """Ids 0..255 are the bytes of the UTF-8 text; 256.. are bos, eos, pad and `specials`.

  Args:
    specials: names of further special tokens, such as a chat template's.

  Example:
    >>> t = byte_tokenizer()
    >>> t.encode("a<|eos|>")[:2], t.eos, t.decode([97, t.eos])
    ([97, 60], 257, 'a')
  """
  names = list(dict.fromkeys((BOS, EOS, PAD, *specials)))
  return _build(
    {
      "kind": "bytes",
      "bos": BOS,
      "eos": EOS,
      "pad": PAD,
      "specials": names,
      "library": None,
    }
  )


def train_bpe(texts: Iterable[str], vocab: int, specials: Sequence[str] = ()) -> Tokenizer:
  """A byte-level BPE trained on `texts`; the same texts in the same order give the same tokenizer.

  All 256 bytes are in its alphabet, so any Unicode text survives encode and decode.

  Args:
    texts: what to learn merges from.
    vocab: ids wanted, special tokens included; fewer where the texts hold too little to merge.
    specials: names of special tokens beside bos, eos and pad.

  Raises:
    Refused: `vocab` is too small for the bytes and the special tokens.
  """
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, trainers

  names = list(dict.fromkeys((BOS, EOS, PAD, *specials)))
  least = 256 + len(names)
  if vocab < least:
    raise Refused(
      f"a byte-level BPE with {len(names)} special tokens needs vocab >= {least}; got {vocab}. "
      f"Use byte_tokenizer, or raise vocab."
    )
  library = tokenizers.Tokenizer(models.BPE())
  library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  library.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=vocab,
    special_tokens=names,
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
  )
  library.train_from_iterator(map(_checked, texts), trainer)
  return _build(
    {
      "kind": "bpe",
      "bos": BOS,
      "eos": EOS,
      "pad": PAD,
      "specials": names,
      "library": json.loads(library.to_str()),
    }
  )


def from_file(path: str, bos: str = "", eos: str = "", pad: str = "") -> Tokenizer:
  """A `tokenizer.json` of the library `tokenizers`, as published beside open models.

  Its special tokens are the added tokens that it marks as special and the chat tags of our
  templates; they never come from text. Its own post-processing (automatic bos), truncation and
  padding are switched off: `chat` and `encode` do that.

  Args:
    path: the file.
    bos: name of the added token that begins a sequence; found by its usual names if empty.
    eos: name of the added token that ends a response; likewise.
    pad: name of the added token for padding; likewise, and `eos` where there is none.

  Raises:
    Refused: no such file, not a tokenizer.json, or a token that it does not have.
  """
  data = _json(path)
  if data.get("format") == _FORMAT:
    raise Refused(f"{path} was written by jaxpref's save; read it with tokenize.load.")
  if "model" not in data or not isinstance(data.get("added_tokens", []), list):
    raise Refused(f"{path} is not a tokenizer.json of the library tokenizers: it has no 'model'.")
  added = {t["content"]: bool(t.get("special")) for t in data.get("added_tokens") or []}
  chosen = {}
  for part, given in (("bos", bos), ("eos", eos), ("pad", pad)):
    usual = next((name for name in _USUAL[part] if name in added), None)
    name = given or usual or (chosen["eos"] if part == "pad" else None)
    if name not in added:
      raise Refused(
        f"{path} has no token {given!r} for {part}. {call.nearest(given, added)}"
        f"Its added tokens: {', '.join(list(added)[:20]) or 'none'}."
        if given
        else f"{path} has none of the usual {part} tokens ({', '.join(_USUAL[part])}). Name one "
        f"with {part}=...; its added tokens: {', '.join(list(added)[:20]) or 'none'}."
      )
    chosen[part] = name
  names = [n for n, special in added.items() if special or n in chosen.values() or n in _CHAT]
  data = data | {"truncation": None, "padding": None, "post_processor": None}
  return _build(chosen | {"kind": "file", "specials": names, "library": data})


def save(tokenizer: Tokenizer, path: str) -> None:
  """Writes one JSON file, whole or not at all (temporary file in the same folder, then rename)."""
  folder = os.path.dirname(os.path.abspath(path))
  os.makedirs(folder, exist_ok=True)
  handle, temporary = tempfile.mkstemp(dir=folder, prefix=".tokenizer-", suffix=".tmp")
  try:
    with os.fdopen(handle, "w", encoding="utf-8") as file:
      file.write(tokenizer.content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    os.unlink(temporary)
    raise


def load(path: str) -> Tokenizer:
  """What `save` wrote, with the same ids and the same fingerprint.

  Raises:
    Refused: no such file, or not a file of `save`.
  """
  data = _json(path)
  if data.get("format") != _FORMAT:
    raise Refused(
      f"{path} was not written by jaxpref's save. For a tokenizer.json of another library use "
      "tokenize.from_file."
    )
  return _build(data)


def check_same(tokenizer: Tokenizer, fingerprint: str, where: str) -> None:
  """Refuses a tokenizer that is not the one stored at `where`.

  Raises:
    Refused: says both fingerprints and what would go wrong.
  """
  if tokenizer.fingerprint != fingerprint:
    raise Refused(
      f"this run's tokenizer ({tokenizer.kind}, {tokenizer.vocab} ids, {tokenizer.fingerprint[:12]}"
      f") is not the one of {where} ({fingerprint[:12]}): the same id would mean another text. "
      "Load the tokenizer that lies there, or start a new workdir."
    )


def _json(path):
  try:
    with open(path, encoding="utf-8") as file:
      data = json.load(file)
  except FileNotFoundError as error:
    raise Refused(f"there is no tokenizer file {path}.") from error
  except (UnicodeDecodeError, json.JSONDecodeError) as error:
    raise Refused(f"{path} is not a JSON file: {error}.") from error
  if not isinstance(data, dict):
    raise Refused(f"{path} holds a JSON {type(data).__name__}; a tokenizer is an object.")
  return data


def _checked(text):
  try:
    text.encode("utf-8")
  except UnicodeEncodeError as error:
    raise Refused(
      f"a text holds the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, "
      "which is no Unicode character; write it as a pair or leave it out."
    ) from error
  return text


def _build(data):
  """The tokenizer of a content dict; the one place where the three kinds come together."""
  content = json.dumps(data | {"format": _FORMAT}, sort_keys=True, ensure_ascii=False)
  names = data["specials"]
  if data["library"] is None:
    ids = {name: 256 + i for i, name in enumerate(names)}
    vocab = 256 + len(ids)
    encode, encode_batch, decode = _byte_functions()
  else:
    ids, vocab, encode, encode_batch, decode = _library_functions(data["library"], names)
  special = frozenset(ids.values())

  def decode_text(row):
    kept = [int(i) for i in row if int(i) not in special]
    wrong = next((i for i in kept if not 0 <= i < vocab), None)
    if wrong is not None:
      raise Refused(f"id {wrong} is outside of this tokenizer's 0..{vocab - 1}.")
    return decode(kept)

  return Tokenizer(
    kind=data["kind"],
    vocab=vocab,
    bos=ids[data["bos"]],
    eos=ids[data["eos"]],
    pad=ids[data["pad"]],
    specials=ids,
    encode=encode,
    encode_batch=encode_batch,
    decode=decode_text,
    fingerprint=hashlib.sha256(content.encode("utf-8")).hexdigest(),
    content=content,
  )


def _byte_functions():
  def encode(text):
    return list(_checked(text).encode("utf-8"))

  def decode(row):
    return bytes(row).decode("utf-8", errors="replace")

  return encode, lambda texts: [encode(t) for t in texts], decode


def _library_functions(library_json, names):
  """Ids of the special tokens, vocabulary size, and the three functions, of a library tokenizer."""
  import tokenizers

  try:
    library = tokenizers.Tokenizer.from_str(json.dumps(library_json))
  except Exception as error:  # the library raises plain Exception
    raise Refused(f"the library tokenizers cannot read this tokenizer: {error}.") from error
  library.add_special_tokens(names)  # marks added tokens that were not marked as special
  library.encode_special_tokens = True  # text is ordinary text
  ids = {name: library.token_to_id(name) for name in names}
  special = frozenset(ids.values())
  vocab = max(library.get_vocab(with_added_tokens=True).values()) + 1

  def ordinary(text, found):
    """Where the model's own vocabulary spells a special token, splits the text inside of it."""
    if special.isdisjoint(found):
      return found
    middle = next((text.find(name) + 1 for name in names if name in text), 0) or len(text) // 2
    if len(text) < 2:
      raise Refused(f"this tokenizer has no ordinary ids for the text {text!r}.")
    return encode(text[:middle]) + encode(text[middle:])

  def encode(text):
    return ordinary(text, library.encode(_checked(text), add_special_tokens=False).ids)

  def encode_batch(texts):
    texts = [_checked(t) for t in texts]
    found = library.encode_batch_fast(texts, add_special_tokens=False)
    return [ordinary(text, one.ids) for text, one in zip(texts, found, strict=True)]

  return ids, vocab, encode, encode_batch, lambda row: library.decode(row, False)
