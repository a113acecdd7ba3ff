"""Decoder-only language model: log-probabilities of responses, and decoding with a cache.

Params: `embed`, `layers/attention/{q,k,v,o}`, `layers/mlp/{gate,up,down}`, `layers/norm/...`,
`final_norm`, unless tied `head`, and with a critic `value` [D]; see `transformer`. The table has
`padded_vocab` rows; what lies beyond the true vocabulary has probability 0 and is never sampled.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.kernels import linear_logits, linear_logp
from jaxpref.models import transformer
from jaxpref.models.transformer import Config
from jaxpref.numerics import steady_sum
from jaxpref.types import Refused

MEASURES = (
  "logp",
  "token_logp",
  "length",
  "entropy",
  "hidden",
  "prompt_logp",
  "collision",
  "logits",
  "value",
)
PER_TOKEN = ("token_logp", "entropy", "collision", "logits", "value")
READ = ("tokens", "mask", "prompt_mask", "position", "scored")
HEAD_SPEC = ("fsdp", "tensor")


def init(key, config: Config):
  """Random parameters in float32; see `transformer.init`. The head has deviation 0.02.

  The head of a critic is 0: every return is predicted as 0 at first.
  """
  params = transformer.init(key, config)
  if not config.tied:
    shape = (config.width, config.padded_vocab)
    params["head"] = 0.02 * jax.random.normal(jax.random.fold_in(key, 10_000), shape)
  if config.critic:
    params["value"] = jnp.zeros(config.width)
  return params


def rules(config: Config) -> tuple:
  """Sharding rules for `jaxpref.sharding.specs`; exactly the parameters that exist."""
  found = transformer.rules(config) + (() if config.tied else (("head", HEAD_SPEC),))
  return found + ((("value", (None,)),) if config.critic else ())


def hidden_states(params, config: Config, tokens, valid, position):
  """Hidden states after the final norm, [N, T, D] in the compute dtype; see `transformer.trunk`."""
  return transformer.trunk(params, config, tokens, valid, position)[0]


def _head(params, config):
  """The head in the compute dtype and its layout."""
  if config.tied:
    return transformer.gathered(params["embed"], ("tensor", "fsdp"), config), "vd"
  return transformer.gathered(params["head"], HEAD_SPEC, config), "dv"


def measure(params, batch, config: Config, want, key=None):
  """What the losses read, in float32.

  `token_logp[b, k, t]` is the log-probability of `tokens[t]` after the real tokens before it, which
  the model predicts at the last of them. So padding may stand anywhere and changes nothing. It is
  0 where `mask` is 0 and on a first token, which nothing predicts; a row of padding gives 0.
  Where the batch has `scored`, only these places reach the head: same numbers, less work.

  Args:
    params: from `init`.
    batch: `tokens`, `mask`, `prompt_mask`, `position` [B, K, T] and optionally `scored` [B, K, R].
    config: the model.
    want: names among `MEASURES`.
    key: models without noise do not read it.

  Returns:
    Exactly the wanted arrays: `logp`, `prompt_logp` f32[B, K] (nats), `length` f32[B, K] (tokens),
    `token_logp`, `entropy`, `collision` f32[B, K, T] (nats), `hidden` f32[B, K, T, D], `logits`
    f32[B, K, T, V] over the true vocabulary: place t holds what token t was predicted from.
    `collision` and `logits` keep all logits in memory. `value` f32[B, K, T] is the return that a
    critic predicts before token t, reward units.

  Raises:
    Refused: a name that the model cannot measure.
  """
  del key
  check_want("language", MEASURES, want)
  if "value" in want and not config.critic:
    raise Refused("this model predicts no value: set config.model.critic=True.")
  out = {}
  if "length" in want:
    out["length"] = batch["mask"].astype(jnp.float32).sum(-1)
  if not set(want) - {"length"}:
    return out
  b, k, t = batch["tokens"].shape
  flat = {name: x.reshape(b * k, -1) for name, x in batch.items() if name in READ}
  real = (flat["mask"] > 0) | (flat["prompt_mask"] > 0)
  hidden = hidden_states(params, config, flat["tokens"], real, flat["position"])
  if "hidden" in want:
    out["hidden"] = hidden.astype(jnp.float32).reshape(b, k, t, -1)
  if set(want) & {"logp", "prompt_logp", *PER_TOKEN}:
    some = "scored" in flat and "prompt_logp" not in want
    read = _read_some if some else _read_all
    found = read(params, config, hidden, flat, real, want)
    out |= {name: x.reshape(b, k, *x.shape[1:]) for name, x in found.items()}
  return out


def check_want(model: str, measures, want) -> None:
  """Refuses names that a model cannot measure, with the nearest and the list."""
  for name in sorted(want):
    if name not in measures:
      raise Refused(
        f"the {model} model cannot measure {name!r}. {call.nearest(name, measures)}"
        f"It measures: {', '.join(measures)}."
      )


def _score(params, config, hidden, targets, want):
  """What `hidden[N, R, D]` predict: `token_logp` of `targets[N, R]`, and what else is wanted."""
  head, layout = _head(params, config)
  rows = hidden.reshape(-1, hidden.shape[-1])
  logp, entropy = linear_logp(
    rows,
    head,
    targets.reshape(-1),
    vocab=config.vocab,
    entropy="entropy" in want,
    layout=layout,
  )
  found = {"token_logp": logp}
  if "value" in want:
    found["value"] = rows.astype(jnp.float32) @ params["value"].astype(jnp.float32)
  if "entropy" in want:
    found["entropy"] = entropy
  if set(want) & {"collision", "logits"}:
    scores = linear_logits(rows, head, vocab=config.vocab, layout=layout)[:, : config.vocab]
    each = jax.nn.log_softmax(scores)
    found |= {"logits": scores, "collision": jax.nn.logsumexp(2 * each, axis=-1)}
  return {name: x.reshape(*targets.shape, *x.shape[1:]) for name, x in found.items()}


def _before(real):
  """Index of the last real token before each place of `real[N, T]`, -1 where there is none."""
  index = jnp.where(real, jnp.arange(real.shape[1]), -1)
  return jnp.pad(jax.lax.cummax(index, axis=1)[:, :-1], ((0, 0), (1, 0)), constant_values=-1)


def _after(real):
  """Index of the first real token after each place of `real[N, T]`, T where there is none."""
  t = real.shape[1]
  return t - 1 - jnp.flip(_before(jnp.flip(real, 1)), 1)


def _take(x, index):
  """`x[n, index[n, r]]`, with indices outside clipped; `x` may have further axes."""
  index = jnp.clip(index, 0, x.shape[1] - 1)
  return jnp.take_along_axis(x, _beside(index, x), axis=1)


def _beside(index, x):
  """`index[N, R]` with as many axes as `x`."""
  return index.reshape(*index.shape, *(1,) * (x.ndim - index.ndim))


def _read_all(params, config, hidden, flat, real, want):
  """All places reach the head; each predicts the next real token."""
  mask = flat["mask"] > 0
  counted = real if "prompt_logp" in want else mask
  before, after = _before(real), _after(real)
  ok = real & (after < real.shape[1]) & _take(counted, after)
  targets = jnp.where(ok, _take(flat["tokens"], after), -1)
  scored = _score(params, config, hidden, targets, want)

  def own(x, where):
    return jnp.where(_beside(where & (before >= 0), x), _take(x, before), 0.0)

  found = {name: own(scored[name], mask) for name in PER_TOKEN if name in want}
  if "logp" in want:
    found["logp"] = steady_sum(own(scored["token_logp"], mask))
  if "prompt_logp" in want:
    found["prompt_logp"] = steady_sum(own(scored["token_logp"], real & ~mask))
  return found


def _read_some(params, config, hidden, flat, real, want):
  """Only the places that predict a token of `scored` reach the head."""
  scored = flat["scored"]
  source = jnp.where(scored >= 0, _take(_before(real), scored), -1)
  ok = (source >= 0) & _take(flat["mask"] > 0, scored)
  targets = jnp.where(ok, _take(flat["tokens"], scored), -1)
  taken = jnp.take_along_axis(hidden, jnp.maximum(source, 0)[..., None], axis=1)
  there = _score(params, config, taken, targets, want)
  n, t = real.shape
  row, place = jnp.arange(n)[:, None], jnp.where(ok, scored, t)

  def spread(x):
    return jnp.zeros((n, t, *x.shape[2:]), x.dtype).at[row, place].add(x, mode="drop")

  found = {name: spread(there[name]) for name in PER_TOKEN if name in want}
  if "logp" in want:
    found["logp"] = steady_sum(there["token_logp"])
  return found


def logits(params, config: Config, hidden):
  """Logits f32[N, padded_vocab] of `hidden[N, D]`; -1e30 beyond the vocabulary."""
  head, layout = _head(params, config)
  return linear_logits(hidden, head, vocab=config.vocab, layout=layout)


def prefill(params, config: Config, tokens, valid, position, total: int):
  """Reads prompts into a fresh cache.

  Row n's prompt is where `valid[n]` is true, left-, right- or otherwise padded. Slot s of the cache
  holds the prompt's place s; generated tokens take the slots from P on, in all rows the same.

  Args:
    params: from `init`.
    config: the model.
    tokens: i32[N, P].
    valid: bool[N, P]; at least one per row.
    position: i32[N, P], index of a real token in its prompt.
    total: slots of the cache, P plus the tokens to come.

  Returns:
    logits: f32[N, padded_vocab], prediction of the next token.
    cache: `k`, `v` [L, N, total, J, d], `valid` bool[N, total], `position` i32[N] of the next
      token, `slot` i32[].

  Raises:
    Refused: a cache that cannot hold the prompts.
  """
  n, p = tokens.shape
  if total < p:
    raise Refused(f"a cache of {total} slots cannot hold prompts of {p}; give at least {p}.")
  hidden, kept = transformer.trunk(params, config, tokens, valid, position, keep=True)
  room = ((0, 0), (0, 0), (0, total - p), (0, 0), (0, 0))
  cache = {
    "k": jnp.pad(kept[0], room),
    "v": jnp.pad(kept[1], room),
    "valid": jnp.pad(valid, ((0, 0), (0, total - p))),
    "position": jnp.where(valid, position + 1, 0).max(-1),
    "slot": jnp.int32(p),
  }
  last = jnp.maximum(transformer.last_true(valid), 0)
  return logits(params, config, hidden[jnp.arange(n), last]), cache


def step(params, config: Config, cache, token):
  """Appends one token per row and predicts the next.

  Args:
    params: from `init`.
    config: the model.
    cache: from `prefill` or `step`, with a free slot.
    token: i32[N].

  Returns:
    logits f32[N, padded_vocab] and the cache.
  """
  slot = cache["slot"]
  valid = cache["valid"].at[:, slot].set(True)
  angles = transformer.rotary(cache["position"][:, None], config)

  def body(carry, xs):
    x, keys, values = carry
    weights, index = xs

    def attend(q, k, v):
      at = (index, 0, slot, 0, 0)
      new_keys = jax.lax.dynamic_update_slice(keys, k[None], at)
      new_values = jax.lax.dynamic_update_slice(values, v[None], at)
      out = transformer.attention(q, new_keys[index], new_values[index], mask=valid[:, None, :])
      return out, (new_keys, new_values)

    x, (keys, values) = transformer.layer(x, weights, config, angles, attend)
    return (x, keys, values), None

  start = (transformer.embed(params, config, token[:, None]), cache["k"], cache["v"])
  xs = (params["layers"], jnp.arange(config.depth))
  (x, keys, values), _ = transformer.scan_layers(config, body, start, xs)
  hidden = transformer.rms_norm(x, params["final_norm"], config.norm_eps)
  new = {"k": keys, "v": values, "valid": valid}
  new |= {"position": cache["position"] + 1, "slot": slot + 1}
  return logits(params, config, hidden[:, 0]), new
