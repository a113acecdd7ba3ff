"""Shapes of language models by name: three of our own, and public ones.

The public shapes are those of the models' `config.json`; their parameter counts are tested.
"""

from __future__ import annotations

import dataclasses

from jaxpref import call
from jaxpref.models.transformer import Config
from jaxpref.types import Refused

_QWEN = {"rope_theta": 1e6, "norm_eps": 1e-6, "qkv_bias": True}
# width, depth, heads, kv_heads, head_width, hidden, vocab (0: has none of its own), the rest
SHAPES = {
  "nano": (128, 4, 4, 2, 32, 256, 0, {}),
  "tiny": (256, 6, 8, 4, 32, 704, 0, {}),
  "small": (768, 12, 12, 4, 64, 2048, 0, {}),
  "qwen2.5-0.5b": (896, 24, 14, 2, 64, 4864, 151_936, _QWEN),
  "qwen2.5-1.5b": (1536, 28, 12, 2, 128, 8960, 151_936, _QWEN),
  "qwen2.5-7b": (3584, 28, 28, 4, 128, 18_944, 152_064, _QWEN | {"tied": False}),
  "llama3-8b": (
    *(4096, 32, 32, 8, 128, 14_336, 128_256),
    {"rope_theta": 5e5, "norm_eps": 1e-5, "tied": False},
  ),
}


def language(name: str, *, vocab: int = 0, **overrides) -> Config:
  """The shape of that name.

  Args:
    name: one of `SHAPES`.
    vocab: vocabulary size; 0 takes the public model's own.
    **overrides: fields of `Config` to set otherwise, such as `dtype` and `remat`.

  Raises:
    Refused: an unknown name or field, a missing vocabulary, a shape that cannot be.

  Example:
    >>> language("nano", vocab=2048, remat="full").width
    128
  """
  if name not in SHAPES:
    raise Refused(
      f"there is no language model {name!r}. {call.nearest(name, SHAPES)}"
      f"There are: {', '.join(SHAPES)}."
    )
  fields = [f.name for f in dataclasses.fields(Config)]
  for field in overrides:
    if field not in fields:
      raise Refused(
        f"a language model has no {field!r}. {call.nearest(field, fields)}"
        f"It has: {', '.join(fields)}."
      )
  *shape, own, rest = SHAPES[name]
  if not (vocab or own):
    raise Refused(f"{name} has no vocabulary of its own; give vocab= the tokenizer's size.")
  keys = ("width", "depth", "heads", "kv_heads", "head_width", "hidden")
  return Config(**dict(zip(keys, shape, strict=True)) | {"vocab": vocab or own} | rest | overrides)
