"""Rollouts: the policy answers prompts, the answers are rewarded, and all is one batch.

K responses to each of B prompts, `[B, K, T]`, under the names of the vocabulary: a batch of
rollouts is a batch like any other. Prompts are padded on the left and responses begin at the same
place in every row, so T is known before anything is sampled.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxpref import call, episodes, sample, samples, scoring, sharding, update
from jaxpref.data import chat
from jaxpref.types import Refused

OPPONENTS = ("policy", "reference", "mixture")
ORDERS = ("", "best_worst", "first")
PER_PROMPT = ("weight", "index", "part_weight", "greedy_reward")  # names without candidates
MADE = ("tokens", "mask", "prompt_mask", "position", "scored", "present", "weight", "index")
MADE += ("sampler_token_logp", "reward", "reward_parts", "part_weight", "terminated")
MADE += ("label", "relevance", "greedy_reward")


def section() -> dict:
  """The config section of rollouts; `count=0` trains on the responses of the data."""
  return dict(
    count=0,  # K, responses to each prompt
    max_new=32,  # tokens of a response at most; with an environment, of a turn
    env={},  # an environment that answers and rewards: recipe.environment("keydoor"); empty: none
    turns=8,  # of an episode at most, where there is an environment
    temperature=1.0,
    top_k=0,
    top_p=1.0,
    opponent="policy",  # who samples the last response: policy, reference, or mixture of both
    mixture=0.5,  # share of the reference in the mixture
    # best_worst keeps the responses of highest and lowest reward, in this order; first keeps the
    # first alone, with the probability that it beats the second as label
    order="",
    epochs=1,  # passes over a batch of rollouts
    minibatches=1,  # optimizer steps in a pass; config.batch prompts each
    missing_eos_penalty=0.0,  # taken off the reward of a response that did not end
    overlong_buffer=0,  # tokens before max_new over which a penalty grows to -1; 0: none
    on_error="stop",  # a reward that fails stops the run, or mask: leaves the response out
    seconds=10.0,  # time limit of one call of a reward function
    kl_in_reward=0.0,  # reward units per nat of the KL to the reference, off the reward
    kl_estimate="k1",  # its estimate, see jaxpref.kl
  )


def check(options, judged: bool) -> None:
  """Refuses options that cannot be.

  Raises:
    Refused: says which and why.
  """
  for name, value, choices in (
    ("opponent", options.opponent, OPPONENTS),
    ("order", options.order, ORDERS),
    ("on_error", options.on_error, scoring.ON_ERROR),
  ):
    if value not in choices:
      raise Refused(
        f"config.rollout.{name} has no {value!r}. {call.nearest(value, choices)}"
        f"It has: {', '.join(map(repr, choices))}."
      )
  for name in ("max_new", "epochs", "minibatches"):
    if options[name] < 1:
      raise Refused(f"config.rollout.{name}={options[name]} must be at least 1.")
  if options.count < 2 and (options.opponent != "policy" or options.order):
    raise Refused("config.rollout: an opponent or an order needs count of at least 2 responses.")
  if options.env:
    episodes.check(options, judged)
  elif not judged:
    raise Refused(
      "config.rollout.count is set: name config.rewards or a config.judge as well, or an "
      "environment, config.rollout.env."
    )


def made(options) -> tuple[str, ...]:
  """Names that a batch of rollouts has, or makes where they are read."""
  if not options.env:
    return MADE
  return tuple(n for n in MADE if n != "greedy_reward") + episodes.MADE


def per_batch(options) -> int:
  """Optimizer steps that one batch of rollouts feeds."""
  return options.epochs * options.minibatches


def make(parts, params, frozen, chosen, key) -> tuple[dict, dict]:
  """A batch of rollouts, on the host, and its metrics.

  Args:
    parts: of the run (`jaxpref.assemble`).
    params: the policy.
    frozen: `ref` and `judge` parameters, where they are read.
    chosen: row numbers of the prompts.
    key: random key of this batch of rollouts.

  Raises:
    Refused: a reward that failed, with `on_error="stop"`.
  """
  options = parts.config.rollout
  if options.env:
    batch, metrics = episodes.make(parts, params, chosen, key)
    ended = batch["terminated"] > 0
    metrics |= _metrics(batch, {}, ended, batch["mask"].sum(-1), options)
  else:
    batch, metrics = _answers(parts, params, frozen, chosen, key)
  if options.order == "best_worst":
    batch = best_worst(batch)
  batch |= _outcome(batch)
  if options.order == "first":
    alone = PER_PROMPT + ("label",)
    batch = {k: v if k in alone else v[:, :1] for k, v in batch.items()}
  return batch, metrics


def _answers(parts, params, frozen, chosen, key):
  """One response each, rewarded by functions or a judge: the batch and its metrics."""
  options = parts.config.rollout
  rows = [parts.stream.rows[i] for i in chosen]
  ids = [row.ids[0][: row.prompt] for row in rows]
  drawn = _responses(parts, params, frozen, ids, options, key)
  batch = arrays(drawn, len(rows), options.count)
  batch["weight"] = np.asarray([row.weight for row in rows], np.float32)
  batch["index"] = np.asarray(chosen, np.int32)
  reward, named = _rewards(parts, frozen, rows, drawn, batch, key)
  ended = drawn["finished"].reshape(reward.shape)
  length = batch["mask"].sum(-1)
  reward = reward - options.missing_eos_penalty * ~ended
  reward = reward + overlong(length, options.max_new, options.overlong_buffer)
  batch["present"] = np.isfinite(reward).astype(np.float32)
  batch["reward"] = np.where(np.isfinite(reward), reward, 0.0).astype(np.float32)
  batch["reward_parts"] = np.stack(list(named.values()), -1).astype(np.float32)
  weights = [r.weight for r in parts.rewards] + [1.0] * (parts.judge is not None)
  batch["part_weight"] = np.tile(np.asarray(weights, np.float32), (len(rows), 1))
  batch["terminated"] = ended.astype(np.float32)
  if "greedy_reward" in parts.names:
    batch["greedy_reward"] = _greedy(parts, params, frozen, rows, ids, key)
  return batch, _metrics(batch, named, ended, length, options)


def trial(parts, params, section, rows, key) -> dict[str, float]:
  """Rewards of one response to each of some held-out prompts, by the rewards of the run.

  Returns:
    `reward/mean`, `reward/<name>`, `reward/solved` (share of responses whose rewards add up to at
    least 1), `length/mean` (tokens) and `length/truncated`, host floats; with an environment what
    `episodes.trial` tells.
  """
  options = parts.config.rollout.copy_and_resolve_references()
  options.update(count=1, opponent="policy", temperature=section["temperature"], top_k=0, top_p=1.0)
  if options.env:
    return episodes.trial(parts, params, rows, options, key)
  parts_of = sharding.batch_parts(parts.mesh)
  size = -(-len(rows) // parts_of) * parts_of
  ids = [row.ids[0][: row.prompt] for row in rows]
  filled = [ids[i % len(ids)] for i in range(size)]
  drawn = {
    k: v[: len(rows)] for k, v in _responses(parts, params, {}, filled, options, key).items()
  }
  said = [text["response"] for text in samples.texts(parts, drawn)]
  records = [row.record for row in rows]
  found = scoring.score(
    parts.rewards, records, said, seconds=options.seconds, on_error=options.on_error
  )
  total = found @ np.asarray([r.weight for r in parts.rewards], np.float32)
  out = {f"reward/{r.name}": np.nanmean(found[:, i]) for i, r in enumerate(parts.rewards)}
  out |= {"reward/mean": np.nanmean(total), "reward/solved": np.mean(total >= 1 - 1e-6)}
  out |= {"length/mean": drawn["mask"].sum(1).mean()}
  out |= {"length/truncated": 1 - drawn["finished"].mean()}
  return {k: float(np.float32(v)) for k, v in out.items()}


def overlong(length, limit: int, buffer: int):
  """DAPO's soft penalty: 0 up to `limit - buffer` tokens, then falling to -1 at `limit`.

  >>> overlong(np.asarray([80, 90, 100]), 100, 20)
  array([ 0. , -0.5, -1. ])

  Reference: Yu et al., "DAPO" (2025), eq. 13.
  """
  if not buffer:
    return np.zeros(np.shape(length))
  return 0.0 - np.clip((length - (limit - buffer)) / buffer, 0.0, 1.0)


def _responses(parts, params, frozen, ids, options, key):
  """What `sample.sample` gives, with the prompts, rows prompt-major."""
  tokenizer = parts.corpus.tokenizer
  longest = max(map(len, ids))
  width = next((b for b in parts.config.data.buckets if b >= longest), longest)
  tokens, mask = samples.pad_left(ids, tokenizer.pad, width)
  own = dict(
    max_new=options.max_new,
    temperature=options.temperature,
    top_k=options.top_k,
    top_p=options.top_p,
    stop=(chat.stop_id(tokenizer, parts.corpus.template),),
    pad=tokenizer.pad,
  )
  prompts = sharding.put({"tokens": tokens, "mask": mask}, parts.mesh)
  draw = lambda model, count, purpose, **more: jax.device_get(
    sample.sample(
      model,
      parts.model,
      prompts["tokens"],
      prompts["mask"],
      update.fold(key, purpose),
      count=count,
      **own,
      **more,
    )
  )
  if options.opponent == "policy":
    found = draw(params, options.count, "rollout")
  else:
    found = draw(params, options.count - 1, "rollout")
    if options.opponent == "reference":
      last = draw(frozen["ref"], 1, "opponent")
    else:
      last = draw(params, 1, "opponent", other=frozen["ref"], mixture=options.mixture)
    found = {k: _beside(found[k], last[k], len(ids)) for k in found}
  again = lambda x: np.repeat(x, options.count, 0)
  return found | {"prompt_tokens": again(tokens), "prompt_mask": again(mask)}


def _greedy(parts, params, frozen, rows, ids, key):
  """f32[B]: the reward of the greedy response to each prompt; NaN counts as 0."""
  options = parts.config.rollout.copy_and_resolve_references()
  options.update(count=1, opponent="policy", temperature=0.0, top_k=0, top_p=1.0)
  drawn = _responses(parts, params, frozen, ids, options, key)
  reward, _ = _rewards(parts, frozen, rows, drawn, arrays(drawn, len(rows), 1), key)
  return np.nan_to_num(reward[:, 0]).astype(np.float32)


def _beside(one, other, prompts):
  """Rows of two draws, those of a prompt together."""
  split = lambda x: x.reshape(prompts, -1, *x.shape[1:])
  both = np.concatenate([split(one), split(other)], 1)
  return both.reshape(-1, *one.shape[1:])


def arrays(drawn, prompts: int, count: int) -> dict[str, np.ndarray]:
  """Samples as a batch `[B, K, T]`; the responses stand at the last places of T."""
  flat = {k: v for k, v in samples.as_batch(drawn).items() if k != "weight"}
  width, new = drawn["prompt_tokens"].shape[1], drawn["tokens"].shape[1]
  place = np.where(drawn["mask"] > 0, width + np.arange(new), -1).astype(np.int32)
  before = np.zeros_like(drawn["prompt_mask"])
  flat["scored"] = place[:, None]
  flat["sampler_token_logp"] = np.concatenate([before, drawn["sampler_logp"]], 1)[:, None]
  return {k: v.reshape(prompts, count, -1) for k, v in flat.items()}


def _rewards(parts, frozen, rows, drawn, batch, key):
  """Weighted sum of all rewards f32[B, K], NaN where one failed, and each by name."""
  b, k = batch["tokens"].shape[:2]
  said = [text["response"] for text in samples.texts(parts, drawn)]
  records = [row.record for row in rows for _ in range(k)]
  options = parts.config.rollout
  found = scoring.score(
    parts.rewards, records, said, seconds=options.seconds, on_error=options.on_error
  )
  named = {r.name: found[:, i].reshape(b, k) for i, r in enumerate(parts.rewards)}
  total = sum((r.weight * named[r.name] for r in parts.rewards), np.zeros((b, k), np.float32))
  if parts.judge is not None:
    named["judge"] = np.asarray(_judged(parts, frozen["judge"], batch, key))
    total = total + named["judge"]
  return total, named


def _judged(parts, params, batch, key):
  read = {n: batch[n] for n in ("tokens", "mask", "prompt_mask", "position")}
  return parts.judge(params, sharding.put(read, parts.mesh), key)


def best_worst(batch):
  """The responses of highest and lowest reward of each prompt, as candidates 0 and 1.

  Responses that are not present come last in both; a prompt with fewer than two of them, or whose
  rewards are all equal, gets weight 0.
  """
  reward, present = batch["reward"], batch["present"] > 0
  best = np.where(present, reward, -np.inf).argmax(1)
  worst = np.where(present, reward, np.inf).argmin(1)
  rows = np.arange(len(reward))
  picked = {
    k: np.stack([v[rows, best], v[rows, worst]], 1) for k, v in batch.items() if k not in PER_PROMPT
  }
  differ = picked["reward"][:, 0] > picked["reward"][:, 1]
  kept = {k: batch[k] for k in PER_PROMPT if k in batch}
  return picked | kept | {"weight": (batch["weight"] * differ).astype(np.float32)}


def _outcome(batch):
  """`relevance` (1 for the highest reward) and, for pairs, the judge's probability of the first."""
  reward = np.where(batch["present"] > 0, batch["reward"], -np.inf)
  out = {"relevance": (np.arange(reward.shape[1]) == reward.argmax(1)[:, None]).astype(np.float32)}
  if reward.shape[1] == 2:
    gap = batch["reward"][:, 0] - batch["reward"][:, 1]
    out["label"] = (1 / (1 + np.exp(-gap.astype(np.float64)))).astype(np.float32)
  return out


def _metrics(batch, named, ended, length, options):
  """What is logged of a batch of rollouts; host floats."""
  present = batch["present"] > 0
  reward = np.where(present, batch["reward"], np.nan)
  some = present.any(1)
  spread = np.nanstd(reward[some], 1) if some.any() else np.zeros(1)
  means = {f"reward/{k}": float(np.nanmean(v)) for k, v in named.items() if np.isfinite(v).any()}
  out = means | {
    "reward/mean": float(np.nanmean(reward)) if some.any() else 0.0,
    "reward/std": float(spread.mean()),
    "reward/frac_zero_std": float((spread < 1e-6).mean()),
    "reward/failed": float(1 - present.mean()),
    "length/mean": float(length.mean()),
    "length/max": float(length.max()),
    "length/truncated": float(1 - ended.mean()),
  }
  if options.opponent != "policy":
    out["reward/win_rate"] = float(np.mean(reward[:, 0] > reward[:, -1]))
  return {k: float(np.float32(v)) for k, v in out.items()}


def mismatch(batch) -> dict:
  """How far the trainer's log-probabilities are from the sampler's, f32[] each; 0 where equal.

  Read where a batch has `old_token_logp`. `kl/rollout` is the mean over tokens of k3 of
  `old - sampler` (nats), `ratio/rollout_max` the largest ratio of a token's probabilities.
  """
  if "old_token_logp" not in batch or "sampler_token_logp" not in batch:
    return {}
  gap = jnp.where(batch["mask"] > 0, batch["old_token_logp"] - batch["sampler_token_logp"], 0.0)
  count = jnp.maximum(batch["mask"].sum(), 1.0)
  return {
    "kl/rollout": (jnp.expm1(gap) - gap).sum() / count,
    "ratio/rollout_max": jnp.exp(jnp.abs(gap).max()),
  }
