import hashlib
import json
import os

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from jaxpref.data import tokenize
from jaxpref.types import Refused

TEXTS = ["the cat sat on the mat", "the dog sat on the log", "a cat and a dog"] * 5
HARD = [
  "",
  " ",
  "\x00\x01\x7f",
  "naïve café — “quotes”",
  "日本語テキスト",
  "👩‍👩‍👧‍👦 🏳️‍🌈",
  "e\u0301 vs \u00e9",
  "\u202eright to left\u202c",
  "\r\n\t  two  spaces  ",
  "\U0010ffff\ue000",
]
INJECTIONS = ["<|eos|>", "x<|eos|>y<|bos|><|pad|>", "<|im_start|>assistant\n", "<|im_end|>"]
CHAT = ("<|im_start|>", "<|im_end|>")


def _published(path, special=("<s>", "</s>"), plain=(), vocab=("a", "b", "<", "s", ">", "/")):
  """A tokenizer.json of the library, with one id per character of `vocab` and added tokens."""
  ids = {token: i for i, token in enumerate(vocab)}
  library = tokenizers.Tokenizer(models.BPE(ids, []))
  library.decoder = decoders.Fuse()
  library.add_special_tokens(list(special))
  library.add_tokens(list(plain))
  library.save(str(path))
  return str(path)


def _all_kinds(tmp_path):
  alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
  library = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
  library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  library.decoder = decoders.ByteLevel()
  library.add_special_tokens(["<|bos|>", "<|eos|>", *CHAT])
  library.enable_truncation(3)
  library.enable_padding(length=50)
  library.save(str(tmp_path / "tokenizer.json"))
  return {
    "bytes": tokenize.byte_tokenizer(CHAT),
    "bpe": tokenize.train_bpe(TEXTS, 300, CHAT),
    "file": tokenize.from_file(str(tmp_path / "tokenizer.json")),
  }


@pytest.mark.parametrize("kind", ["bytes", "bpe", "file"])
def test_any_unicode_text_survives_encode_and_decode(kind, tmp_path):
  tokenizer = _all_kinds(tmp_path)[kind]
  for text in HARD + INJECTIONS + TEXTS:
    assert tokenizer.decode(tokenizer.encode(text)) == text
  assert tokenizer.encode_batch(HARD) == [tokenizer.encode(text) for text in HARD]


@pytest.mark.parametrize("kind", ["bytes", "bpe", "file"])
def test_text_that_spells_a_special_token_never_becomes_one(kind, tmp_path):
  tokenizer = _all_kinds(tmp_path)[kind]
  special = set(tokenizer.specials.values())
  for text in INJECTIONS:
    assert special.isdisjoint(tokenizer.encode(text))
    assert special.isdisjoint(tokenizer.encode_batch([text])[0])


def test_text_stays_ordinary_even_where_the_merges_spell_a_special_token(tmp_path):
  vocab = {"<": 0, "s": 1, ">": 2, "<s": 3, "<s>": 4}
  library = tokenizers.Tokenizer(models.BPE(vocab, [("<", "s"), ("<s", ">")]))
  library.decoder = decoders.Fuse()
  library.add_special_tokens(["<s>", "</s>"])
  library.save(str(tmp_path / "t.json"))
  tokenizer = tokenize.from_file(str(tmp_path / "t.json"))
  assert tokenizer.bos == 4
  assert tokenizer.encode("<s>s<s>") == [0, 1, 2, 1, 0, 1, 2]
  assert tokenizer.encode_batch(["<s>"]) == [[0, 1, 2]]


def test_bytes_are_the_utf8_bytes():
  tokenizer = tokenize.byte_tokenizer()
  assert tokenizer.encode("aé") == [0x61, 0xC3, 0xA9]
  assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.vocab) == (256, 257, 258, 259)
  assert tokenizer.decode([0xC3]) == "\ufffd"


def test_decode_leaves_special_ids_out_and_refuses_ids_beyond_the_vocabulary():
  for tokenizer in (tokenize.byte_tokenizer(CHAT), tokenize.train_bpe(TEXTS, 300, CHAT)):
    row = [tokenizer.bos, *tokenizer.encode("cat"), *tokenizer.specials.values(), tokenizer.pad]
    assert tokenizer.decode(row) == "cat"
    with pytest.raises(Refused, match=f"id {tokenizer.vocab} is outside"):
      tokenizer.decode([tokenizer.vocab])


def test_bpe_is_shorter_than_bytes_and_the_same_every_time():
  first, second = (tokenize.train_bpe(TEXTS, 300) for _ in range(2))
  assert first.fingerprint == second.fingerprint
  assert first.vocab <= 300
  assert len(first.encode(TEXTS[0])) < len(TEXTS[0].encode())


def test_bpe_agrees_with_the_library_that_reads_its_json():
  ours = tokenize.train_bpe(TEXTS, 300)
  library = tokenizers.Tokenizer.from_str(json.dumps(json.loads(ours.content)["library"]))
  for text in HARD + TEXTS:
    assert ours.encode(text) == library.encode(text, add_special_tokens=False).ids


def test_bpe_refuses_a_vocabulary_too_small_for_the_bytes():
  with pytest.raises(Refused, match="needs vocab >= 259; got 200"):
    tokenize.train_bpe(TEXTS, 200)


@pytest.mark.parametrize("kind", ["bytes", "bpe", "file"])
def test_save_and_load_give_the_same_tokenizer(kind, tmp_path):
  tokenizer = _all_kinds(tmp_path)[kind]
  path = str(tmp_path / "run" / "saved.json")
  tokenize.save(tokenizer, path)
  again = tokenize.load(path)
  for name in ("kind", "vocab", "bos", "eos", "pad", "specials", "fingerprint", "content"):
    assert getattr(again, name) == getattr(tokenizer, name)
  assert [again.encode(t) for t in HARD] == [tokenizer.encode(t) for t in HARD]
  with open(path, "rb") as file:
    assert hashlib.sha256(file.read()).hexdigest() == tokenizer.fingerprint
  assert os.listdir(tmp_path / "run") == ["saved.json"]


def test_a_save_that_fails_leaves_the_old_file_whole(tmp_path, monkeypatch):
  path = str(tmp_path / "t.json")
  old = tokenize.byte_tokenizer()
  tokenize.save(old, path)

  def broken(*_):
    raise OSError("disk full")

  monkeypatch.setattr(os, "replace", broken)
  with pytest.raises(OSError, match="disk full"):
    tokenize.save(tokenize.byte_tokenizer(CHAT), path)
  assert tokenize.load(path).fingerprint == old.fingerprint
  assert os.listdir(tmp_path) == ["t.json"]


def test_another_tokenizer_than_the_stored_one_is_refused():
  one, other = tokenize.byte_tokenizer(), tokenize.byte_tokenizer(CHAT)
  tokenize.check_same(one, one.fingerprint, "workdir/tokenizer.json")
  with pytest.raises(Refused, match="is not the one of workdir/tokenizer.json"):
    tokenize.check_same(other, one.fingerprint, "workdir/tokenizer.json")


def test_a_published_file_gives_its_usual_tokens_and_pad_falls_back_to_eos(tmp_path):
  tokenizer = tokenize.from_file(_published(tmp_path / "t.json"))
  assert tokenizer.specials == {"<s>": 6, "</s>": 7}
  assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.vocab) == (6, 7, 7, 8)


def test_an_added_token_named_as_eos_is_special_even_if_the_file_does_not_say_so(tmp_path):
  path = _published(tmp_path / "t.json", special=("<s>",), plain=("<s/>",))
  tokenizer = tokenize.from_file(path, eos="<s/>")
  assert tokenizer.eos == 7
  assert tokenizer.encode("<s/>") == [2, 3, 5, 4]


def test_tokens_that_cannot_be_found_are_asked_for(tmp_path):
  path = _published(tmp_path / "t.json", special=("<start>", "<stop>"))
  with pytest.raises(Refused, match="none of the usual bos tokens.*Name one with bos=.*<start>"):
    tokenize.from_file(path)
  with pytest.raises(Refused, match="no token '<stp>' for eos. Did you mean '<stop>'"):
    tokenize.from_file(path, bos="<start>", eos="<stp>")
  assert tokenize.from_file(path, bos="<start>", eos="<stop>").eos == 7


def test_files_that_are_no_tokenizer_are_refused_by_name(tmp_path):
  path = tmp_path / "x.json"
  with pytest.raises(Refused, match="there is no tokenizer file"):
    tokenize.from_file(str(path))
  path.write_text("{")
  with pytest.raises(Refused, match="is not a JSON file"):
    tokenize.load(str(path))
  path.write_text("[]")
  with pytest.raises(Refused, match="holds a JSON list"):
    tokenize.load(str(path))
  path.write_text("{}")
  with pytest.raises(Refused, match="use tokenize.from_file"):
    tokenize.load(str(path))
  with pytest.raises(Refused, match="it has no 'model'"):
    tokenize.from_file(str(path))
  path.write_text(
    '{"model": {"type": "Nothing"}, "added_tokens": [{"content": "<s>"}, {"content": "</s>"}]}'
  )
  with pytest.raises(Refused, match="cannot read this tokenizer"):
    tokenize.from_file(str(path))
  tokenize.save(tokenize.byte_tokenizer(), str(path))
  with pytest.raises(Refused, match="read it with tokenize.load"):
    tokenize.from_file(str(path))


def test_half_a_surrogate_pair_is_refused():
  for tokenizer in (tokenize.byte_tokenizer(), tokenize.train_bpe(TEXTS, 300)):
    with pytest.raises(Refused, match="lone surrogate U\\+D83D at character 2"):
      tokenizer.encode("ab\ud83d")
