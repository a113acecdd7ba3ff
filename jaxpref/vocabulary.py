"""The table of array names: what a name means, its shape and who makes it.

Functions in the rooms read arrays by these names; nothing else connects data, models and losses.
A new name is one line here. `ref_*` (frozen reference), `old_*` (policy when the batch arrived),
`teacher_*` (another frozen model), `sampler_*` (as the rollout engine gave it) and `mismatch_*`
need no line: they have the shape of the name behind the prefix.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxpref.types import Refused


class Name(NamedTuple):
  """One row of the table: axes, kind (`f32`, `i32`, `u32`), who makes it, what it means."""

  axes: str
  kind: str
  maker: str
  meaning: str


NAMES = {
  # what data and sources make
  "tokens": Name("B K T", "i32", "data", "prompt and response ids; padding anywhere"),
  "mask": Name("B K T", "f32", "data", "1 on response tokens that count"),
  "prompt_mask": Name("B K T", "f32", "data", "1 on real tokens that are only context"),
  "position": Name("B K T", "i32", "data", "index of a real token in its sequence; 0 on padding"),
  "scored": Name("B K R", "i32", "data", "places in T of the tokens that count, -1 beyond"),
  "segment": Name("B K T", "i32", "data", "segment of each token, -1 outside"),
  "features": Name("B K D", "f32", "data", "candidates that are not token sequences"),
  "items": Name("B K", "i32", "data", "candidates of a catalogue"),
  "present": Name("B K", "f32", "data", "0 for padded candidates"),
  "relevance": Name("B K", "f32", "data", "outcome given by people: (1, 0), grades, clicks"),
  "label": Name("B", "f32", "data", "probability that candidate 0 is the preferred one"),
  "rank": Name("B K", "f32", "data", "place in the list that people gave, 1 is the top"),
  "degree": Name("B", "i32", "data", "class of how much key content was removed, 0 for none"),
  "strength": Name("B", "f32", "data", "how strongly it is preferred"),
  "aspects": Name("B K M", "f32", "data", "grade of each attribute; NaN where there is none"),
  "step_label": Name("B K T", "f32", "data", "0 to 1 where a step ends: is it good; -1 elsewhere"),
  "who": Name("B", "i32", "data", "annotator or user"),
  "group": Name("B", "i32", "data", "sub-population"),
  "weight": Name("B", "f32", "data", "example weight; 0 on rows that only fill the batch"),
  "index": Name("B", "i32", "data", "which record of the run's data the row is"),
  "terminated": Name("B K", "f32", "data", "1 where the response ended by itself, 0 where cut"),
  "segment_reward": Name("B K S", "f32", "data", "reward of each step, turn or rank"),
  "segment_key": Name("B K S", "u32", "data", "hash of the state before a step; tree node"),
  "segment_mask": Name("B K S", "f32", "data", "1 on segments that exist"),
  "done": Name("B K T", "f32", "data", "1 on the last token of each sequence of a packed row"),
  # what prepare makes
  "reward": Name("B K", "f32", "prepare", "from reward functions or a reward model"),
  "baseline": Name("B", "f32", "prepare", "KTO's z0 in nats, one number; A*-PO's optimal value"),
  "density": Name("B", "f32", "prepare", "BCO's weight: odds that a prompt is a desirable one's"),
  "reward_parts": Name("B K M", "f32", "prepare", "several rewards; nan where there is none"),
  "part_weight": Name("B M", "f32", "prepare", "weight of each of several rewards"),
  "token_reward": Name("B K T", "f32", "prepare", "reward of each token"),
  "greedy_reward": Name("B", "f32", "prepare", "reward of the greedy response to the prompt"),
  "rollout_weight": Name("B K T", "f32", "prepare", "trainer over sampler probability, corrected"),
  "progress": Name("", "f32", "prepare", "share of the run that is done, 0 to 1"),
  "advantage": Name("B K T", "f32", "prepare", "after spreading over tokens"),
  "returns": Name("B K T", "f32", "prepare", "target of the value, reward units"),
  "keep": Name("B K T", "f32", "prepare", "product of selectors and masks"),
  # what models measure
  "logp": Name("B K", "f32", "model", "summed log-probability of the tokens that count, nats"),
  "length": Name("B K", "f32", "model", "number of tokens that count"),
  "token_logp": Name("B K T", "f32", "model", "log-probability of each token that counts, nats"),
  "entropy": Name("B K T", "f32", "model", "entropy of the prediction of each such token, nats"),
  "prompt_logp": Name("B K", "f32", "model", "summed log-probability of the prompt tokens, nats"),
  "collision": Name("B K T", "f32", "model", "log of the sum of squared probabilities, nats"),
  "logits": Name("B K T V", "f32", "model", "scores of the next token, before normalisation"),
  "hidden": Name("B K T D", "f32", "model", "last hidden states"),
  "value": Name("B K T", "f32", "model", "predicted return"),
  "score": Name("B K", "f32", "model", "reward-model score"),
  "score_parts": Name("B K M", "f32", "model", "reward-model score of each attribute"),
  "token_score": Name("B K T", "f32", "model", "reward-model score at each token that counts"),
  "embedding": Name("B K E", "f32", "model", "preference embedding of a response"),
  "gate": Name("B M", "f32", "model", "share of each part, from the prompt"),
  "prototypes": Name("M E", "f32", "model", "cluster centres of embeddings"),
  "degree_logits": Name("B D", "f32", "model", "scores of the classes of `degree`"),
  # memory
  "carry": Name("", "tree", "state", "memory of an objective"),
}
PREFIXES = ("ref_", "old_", "teacher_", "sampler_", "mismatch_")
MEASURED = tuple(k for k, v in NAMES.items() if v.maker == "model")


def plain(name: str) -> str:
  """The name without its prefixes.

  >>> plain("mismatch_ref_logp")
  'logp'
  """
  while True:
    for prefix in PREFIXES:
      if name.startswith(prefix):
        name = name[len(prefix) :]
        break
    else:
      return name


def known(name: str) -> bool:
  """Whether the table has this name, prefixes apart."""
  return plain(name) in NAMES


def axes(name: str) -> tuple[str, ...]:
  """Axis letters of a name.

  >>> axes("ref_logp")
  ('B', 'K')
  """
  return tuple(NAMES[plain(name)].axes.split())


def check(batch: dict) -> None:
  """Refuses a batch whose names, kinds, ranks or axis sizes do not fit the table (host side).

  Args:
    batch: arrays by name.

  Raises:
    Refused: says which array, what it is and what it should be.
  """
  kinds = {"f32": np.floating, "i32": np.integer, "u32": np.unsignedinteger}
  sizes: dict[str, tuple[int, str]] = {}
  for name, array in batch.items():
    if not known(name):
      raise Refused(f"the batch holds {name!r}, which jaxpref.vocabulary does not list.")
    row = NAMES[plain(name)]
    if not np.issubdtype(array.dtype, kinds[row.kind]):
      raise Refused(f"{name} is {array.dtype}; the vocabulary says {row.kind}[{row.axes}].")
    if len(array.shape) != len(axes(name)):
      raise Refused(f"{name} has shape {tuple(array.shape)}; the vocabulary says [{row.axes}].")
    prefixed = name.startswith("mismatch_")
    for letter, size in zip(axes(name), array.shape, strict=True):
      if letter in "TR" and prefixed:
        letter = "mismatch " + letter
      seen, first = sizes.setdefault(letter, (size, name))
      if seen != size:
        raise Refused(f"{name} has {size} along {letter} but {first} has {seen}.")
