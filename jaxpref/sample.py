"""Sampling responses from a language model: batched, with a static key/value cache."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpref import sharding
from jaxpref.kernels.linear_logp import NEVER
from jaxpref.models import language
from jaxpref.types import Refused


def sample(
  params,
  config,
  tokens,
  prompt_mask,
  key,
  *,
  max_new: int,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
  stop: tuple[int, ...] = (),
  pad: int = 0,
  count: int = 1,
  other=None,
  mixture: float = 0.0,
):
  r"""Samples `count` responses per prompt; each prompt is read once.

  With `other` the tokens come from the geometric mixture of two models, at every token
  :math:`\propto \pi(y)^{1-c}\,\pi_{other}(y)^{c}` with `c = mixture`. The sampler divides logits by
  the temperature, keeps the `top_k` largest, then of these the smallest set of the likeliest tokens
  whose renormalised probability reaches `top_p`. A row's randomness depends on `key`, its index and
  the step, so not on the size of the batch. The loop ends when all rows have stopped.

  Args:
    params: of `models.language`.
    config: the model's `Config`.
    tokens: i32[N, P], prompts, padded on the left or on the right.
    prompt_mask: [N, P], not 0 on real tokens; at least one per row.
    key: random key.
    max_new: tokens to sample at most, >= 1.
    temperature: 0 is greedy.
    top_k: 0 keeps all.
    top_p: in (0, 1]; 1 keeps all.
    stop: ids that end a response; they are part of it.
    pad: id behind the end.
    count: responses per prompt; those of a prompt come together, M = N * count rows.
    other: parameters of a second model of the same config, or None.
    mixture: share of the second model, 0 to 1.

  Returns:
    tokens: i32[M, max_new].
    mask: f32[M, max_new], 1 up to and including the stop token.
    token_logp: f32[M, max_new], log-probability under the model `params` (temperature 1, nothing
      cut off), what `language.measure` gives; nats, 0 behind the end.
    sampler_logp: f32[M, max_new], the same under the distribution that was sampled from.
    finished: bool[M], whether a stop token came.

  Raises:
    Refused: an empty prompt, or a value out of its range.

  Reference: top-p: Holtzman et al., "The Curious Case of Neural Text Degeneration" (2020);
  mixture: Munos et al., "Nash Learning from Human Feedback" (2023), section 7.
  """
  if count < 1 or not 0 <= mixture <= 1:
    raise Refused(f"sample needs count >= 1 and mixture in 0..1; got {count} and {mixture}.")
  _check(config, tokens, prompt_mask, max_new, temperature, top_k, top_p, stop, pad)
  models = (params,) if other is None else (params, other)
  return _decode(
    models,
    jnp.asarray(tokens, jnp.int32),
    jnp.asarray(prompt_mask) > 0,
    key,
    float(temperature) or 1.0,
    float(top_p),
    float(mixture),
    config=config,
    max_new=max_new,
    count=count,
    how=How(temperature == 0, top_k, top_p < 1, tuple(int(s) for s in stop), pad),
  )


def _check(config, tokens, prompt_mask, max_new, temperature, top_k, top_p, stop, pad):
  if tokens.ndim != 2 or tokens.shape != prompt_mask.shape:
    raise Refused(
      f"sample needs tokens and prompt_mask of one shape [N, P]; got {tokens.shape} and "
      f"{prompt_mask.shape}."
    )
  empty = int(((jnp.asarray(prompt_mask) > 0).sum(-1) == 0).sum())
  if empty:
    raise Refused(
      f"{empty} of {len(tokens)} prompts are empty: the model predicts the first token from the "
      "last token of the prompt. Begin every prompt with a start token."
    )
  if max_new < 1:
    raise Refused(f"sample needs max_new of at least 1; got {max_new}.")
  if not 0 <= temperature < float("inf"):
    raise Refused(f"temperature must be 0 (greedy) or above; got {temperature}.")
  if not 0 <= top_k <= config.vocab:
    raise Refused(f"top_k must lie in 0..{config.vocab} (0 keeps all tokens); got {top_k}.")
  if not 0 < top_p <= 1:
    raise Refused(f"top_p must lie above 0 and not above 1 (1 keeps all tokens); got {top_p}.")
  for name, token in (("pad", pad), *(("stop", s) for s in stop)):
    if not 0 <= token < config.vocab:
      raise Refused(f"{name} token {token} is not in the vocabulary of {config.vocab} tokens.")


def choose(logits, keys, temperature, top_p, *, greedy, top_k, nucleus):
  """One token per row and its log-probability under the sampler.

  Args:
    logits: f32[N, V].
    keys: N random keys.
    temperature: f32[], above 0.
    top_p: f32[]; read if `nucleus`.
    greedy: take the largest logit instead.
    top_k: tokens to keep; 0 keeps all.
    nucleus: whether `top_p` cuts.

  Returns:
    i32[N] tokens and f32[N] log-probabilities in nats (0 if greedy).
  """
  if greedy:
    return jnp.argmax(logits, -1).astype(jnp.int32), jnp.zeros(len(logits), jnp.float32)
  scaled, ids = logits / temperature, None
  if top_k or nucleus:
    scaled, ids = jax.lax.top_k(scaled, top_k or logits.shape[1])
  if nucleus:
    p = jax.nn.softmax(scaled, -1)
    ahead = jnp.cumsum(p, -1) - p  # probability of the likelier tokens
    ahead = ahead.at[:, 0].set(-1.0)  # the likeliest always stays
    scaled = jnp.where(ahead < top_p, scaled, NEVER)
  drawn = jax.vmap(jax.random.categorical)(keys, scaled)[:, None]
  logp = jnp.take_along_axis(jax.nn.log_softmax(scaled, -1), drawn, 1)[:, 0]
  token = drawn if ids is None else jnp.take_along_axis(ids, drawn, 1)
  return token[:, 0].astype(jnp.int32), logp


class How(NamedTuple):
  """What of the sampler is fixed at compile time."""

  greedy: bool
  top_k: int
  nucleus: bool
  stop: tuple[int, ...]
  pad: int


def _write(state, logits, i, draw, how: How):
  """Chooses token `i` of every row that still runs.

  `logits` holds those of each model; `draw` is `(row keys, temperature, top_p, mixture)`.
  """
  rows, temperature, top_p, mixture = draw
  keys = jax.vmap(jax.random.fold_in, (0, None))(rows, i)
  logps = [jax.nn.log_softmax(x, -1) for x in logits]
  blend = logits[0]
  if len(logps) > 1:
    blend = (1 - mixture) * logps[0] + mixture * logps[1]
  token, sampler_logp = choose(
    blend, keys, temperature, top_p, greedy=how.greedy, top_k=how.top_k, nucleus=how.nucleus
  )
  own = jnp.take_along_axis(logps[0], token[:, None], 1)[:, 0]
  runs = ~state["finished"]
  new = {
    "tokens": jnp.where(runs, token, how.pad),
    "mask": runs.astype(jnp.float32),
    "token_logp": jnp.where(runs, own, 0.0),
    "sampler_logp": jnp.where(runs, sampler_logp, 0.0),
  }
  ended = (token[:, None] == jnp.asarray(how.stop, jnp.int32)).any(-1)
  out = {name: state[name].at[:, i].set(x) for name, x in new.items()}
  return out | {"finished": state["finished"] | ended}


def _repeat(logits, cache, count):
  """What `prefill` gave for N prompts, for `count` rows of each."""
  again = lambda x, axis: jnp.repeat(x, count, axis)
  rows = {"k": again(cache["k"], 1), "v": again(cache["v"], 1)}
  rows |= {name: again(cache[name], 0) for name in ("valid", "position")}
  return again(logits, 0), cache | rows


@functools.partial(jax.jit, static_argnames=("config", "max_new", "how", "count"))
def _decode(
  models, tokens, valid, key, temperature, top_p, mixture, *, config, max_new, how, count
):
  p, m = tokens.shape[1], tokens.shape[0] * count
  tokens = sharding.shard(tokens, sharding.BATCH, None)
  position = jnp.where(valid, jnp.cumsum(valid, 1) - 1, 0)
  rows = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(m))
  draw = (rows, temperature, top_p, mixture)

  def more(carry):
    state, _, i = carry
    return (i < max_new) & ~state["finished"].all()

  def body(carry):
    state, caches, i = carry
    last = jax.lax.dynamic_index_in_dim(state["tokens"], i - 1, 1, keepdims=False)
    stepped = [language.step(x, config, c, last) for x, c in zip(models, caches, strict=True)]
    logits, caches = zip(*stepped, strict=True)
    return _write(state, logits, i, draw, how), caches, i + 1

  zeros = jnp.zeros((m, max_new), jnp.float32)
  state = {name: zeros for name in ("mask", "token_logp", "sampler_logp")}
  state |= {"tokens": jnp.full((m, max_new), how.pad, jnp.int32), "finished": jnp.zeros(m, bool)}
  # The last token is never read back, so the cache needs no slot for it.
  total = p + max_new - 1
  read = [language.prefill(x, config, tokens, valid, position, total) for x in models]
  logits, caches = zip(*[_repeat(*r, count) for r in read], strict=True)
  start = (_write(state, logits, 0, draw, how), caches, jnp.int32(1))
  return jax.lax.while_loop(more, body, start)[0]
