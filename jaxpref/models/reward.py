"""Reward model: the language model's trunk with numbers per response instead of a head.

Params: those of the trunk (see `transformer`), `score` [D], and where the config has them `parts`
[D, M] (attributes), `embedding` [D, E] and `gate` [D, E/2] (general preference model).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref.models import language, transformer
from jaxpref.models.transformer import Config
from jaxpref.numerics import unit
from jaxpref.types import Refused

MEASURES = ("score", "length", "score_parts", "token_score", "embedding", "gate")
FIELDS = {"score_parts": "parts", "embedding": "embedding", "gate": "embedding"}


def init(key, config: Config):
  """Random trunk (`transformer.init`) and heads: of scores all 0, so all scores start at 0.

  The heads of embeddings and gate are random, with deviation 1 / (D + 1): at 0 an embedding would
  get no gradient.
  """
  params = transformer.init(key, config) | {"score": jnp.zeros(config.width)}
  if config.parts:
    params["parts"] = jnp.zeros((config.width, config.parts))
  if config.embedding:
    scale = 1.0 / (config.width + 1)
    for i, (name, size) in enumerate(_heads(config).items()):
      own = jax.random.fold_in(key, 20_000 + i)
      params[name] = scale * jax.random.normal(own, (config.width, size))
  return params


def _heads(config):
  return {"embedding": config.embedding, "gate": config.embedding // 2}


def rules(config: Config) -> tuple:
  """Sharding rules for `jaxpref.sharding.specs`; exactly the parameters that exist."""
  found = (*transformer.rules(config), ("score", (None,)))
  found += (("parts", (None, None)),) if config.parts else ()
  return found + (tuple((k, (None, None)) for k in _heads(config)) if config.embedding else ())


def measure(params, batch, config: Config, want, key=None):
  """Scores of responses, read at the last token that counts.

  That place is found from `mask`, so padding may stand anywhere and changes nothing. A candidate
  without counted tokens has score 0 and no gradient.

  Args:
    params: from `init`.
    batch: `tokens`, `mask`, `prompt_mask`, `position` [B, K, T].
    config: the model; `tied` makes no difference, there is no vocabulary head.
    want: names among `MEASURES`.
    key: models without noise do not read it.

  Returns:
    Exactly the wanted arrays: `score` f32[B, K] (reward units), `length` f32[B, K] (tokens),
    `score_parts` f32[B, K, M], `token_score` f32[B, K, T] (the score as it would be if the response
    ended there, 0 on tokens that do not count), `embedding` f32[B, K, E], and `gate` f32[B, E/2],
    a softmax read at the last prompt token before the response of candidate 0.

  Raises:
    Refused: a name that the model cannot measure.
  """
  del key
  language.check_want("reward", MEASURES, want)
  for name in sorted(set(want) & set(FIELDS)):
    if not getattr(config, FIELDS[name]):
      raise Refused(
        f"this reward model has no {name}: config.model.{FIELDS[name]} is 0. Set it to the number "
        f"of {'attributes of the data' if name == 'score_parts' else 'dimensions, such as 8'}."
      )
  out = {}
  if "length" in want:
    out["length"] = batch["mask"].astype(jnp.float32).sum(-1)
  if not set(want) - {"length"}:
    return out
  b, k, t = batch["tokens"].shape
  flat = {n: batch[n].reshape(b * k, t) for n in ("tokens", "mask", "prompt_mask", "position")}
  real = (flat["mask"] > 0) | (flat["prompt_mask"] > 0)
  hidden, _ = transformer.trunk(params, config, flat["tokens"], real, flat["position"])
  last = transformer.last_true(flat["mask"] > 0)
  read = _at(hidden, last).reshape(b, k, -1)
  if "score" in want:
    out["score"] = _score(params, read)
  if "token_score" in want:
    each = _score(params, hidden.astype(jnp.float32))
    out["token_score"] = jnp.where(flat["mask"] > 0, each, 0.0).reshape(b, k, t)
  if "score_parts" in want:
    out["score_parts"] = read @ params["parts"].astype(jnp.float32)
  if "embedding" in want:
    vectors = read @ params["embedding"].astype(jnp.float32)
    out["embedding"] = unit(vectors) if config.unit else vectors
  if "gate" in want:
    before = _at(hidden, _prompt_end(flat)).reshape(b, k, -1)[:, 0]
    out["gate"] = jax.nn.softmax(before @ params["gate"].astype(jnp.float32), -1)
  return out


def _score(params, hidden):
  return (hidden * params["score"].astype(jnp.float32)).sum(-1)


def _at(hidden, place):
  """`hidden[n, place[n]]` in float32; zeros where the place is -1."""
  found = hidden[jnp.arange(len(place)), jnp.maximum(place, 0)].astype(jnp.float32)
  return jnp.where(place[:, None] >= 0, found, 0.0)


def _prompt_end(flat):
  """Place of the last real token before the first one that counts, -1 where there is none.

  Positions are compared, not places: padding may stand anywhere.
  """
  counts = flat["mask"] > 0
  start = jnp.where(counts, flat["position"], flat["position"].max() + 1).min(-1)
  before = (flat["prompt_mask"] > 0) & (flat["position"] < start[:, None])
  return transformer.last_true(before)
