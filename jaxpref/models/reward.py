"""Reward model: the language model's trunk with one number per response instead of a head."""

from __future__ import annotations

import jax.numpy as jnp

from jaxpref.models import language, transformer
from jaxpref.models.transformer import Config

MEASURES = ("score", "length")


def init(key, config: Config):
  """Random trunk (`transformer.init`) and a `score` head [D] of zeros: all scores start at 0."""
  return transformer.init(key, config) | {"score": jnp.zeros(config.width)}


def rules(config: Config) -> tuple:
  """Sharding rules for `jaxpref.sharding.specs`; exactly the parameters that exist."""
  return (*transformer.rules(config), ("score", (None,)))


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
    Exactly the wanted arrays: `score` f32[B, K] (reward units), `length` f32[B, K] (tokens).

  Raises:
    Refused: a name that the model cannot measure.
  """
  del key
  language.check_want("reward", MEASURES, want)
  out = {}
  if "length" in want:
    out["length"] = batch["mask"].astype(jnp.float32).sum(-1)
  if "score" in want:
    b, k, t = batch["tokens"].shape
    flat = {n: batch[n].reshape(b * k, t) for n in ("tokens", "mask", "prompt_mask", "position")}
    real = (flat["mask"] > 0) | (flat["prompt_mask"] > 0)
    hidden, _ = transformer.trunk(params, config, flat["tokens"], real, flat["position"])
    last = transformer.last_true(flat["mask"] > 0)
    read = hidden[jnp.arange(b * k), jnp.maximum(last, 0)].astype(jnp.float32)
    score = (read * params["score"].astype(jnp.float32)).sum(-1)
    out["score"] = jnp.where(last >= 0, score, 0.0).reshape(b, k)
  return out
