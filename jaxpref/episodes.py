"""Episodes: the policy and an environment take turns, and all they said is one batch.

K episodes of each of B records, `[B, K, T]`. A row holds the whole episode as the policy reads it;
`mask` is 1 on what the policy said, the end token of each turn included, and what the environment
said is context. A turn is a segment: it has a reward, a key of the state in which it was taken, and
its number on its tokens.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from jaxpref import config as cfg
from jaxpref import envs, sample, samples, sharding, update
from jaxpref.advantages import anchors
from jaxpref.data import chat, encode
from jaxpref.types import Refused

MADE = ("segment", "segment_reward", "segment_key", "segment_mask")  # beside those of rollouts


@dataclasses.dataclass
class Episode:
  """One episode so far.

  Attributes:
    state: of the environment.
    ids: all tokens.
    counted: 1 on those of the policy.
    logp: what the sampler gave them, nats; 0 on others.
    segment: turn of each token, -1 on those of the environment.
    rewards: of each turn.
    states: anchor text of each turn, of the state in which it was taken.
    over: nothing more is said.
    ended: the environment said so.
  """

  state: object
  ids: list[int]
  counted: list[int]
  logp: list[float]
  segment: list[int]
  rewards: list[float]
  states: list[str]
  over: bool = False
  ended: bool = False


def environment(section) -> envs.env.Env:
  """The environment of a section `{fn, knobs}`.

  Raises:
    Refused: an unknown environment or knob.
  """
  return cfg.resolve(envs, section)()


def check(options, judged: bool) -> None:
  """Refuses options that an environment does not go with.

  Raises:
    Refused: says which and why.
  """
  environment(options.env)
  if judged:
    raise Refused(
      "config.rollout.env is set: the environment rewards, so leave config.rewards and "
      "config.judge empty."
    )
  if options.turns < 1:
    raise Refused(f"config.rollout.turns={options.turns} must be at least 1.")
  for name, plain in (("opponent", "policy"), ("missing_eos_penalty", 0), ("overlong_buffer", 0)):
    if options[name] != plain:
      raise Refused(
        f"config.rollout.{name}={options[name]!r} does not go with config.rollout.env; leave it at "
        f"{plain!r}."
      )


def play(parts, params, records, options, key) -> list[Episode]:
  """One episode of each record, all turns of the same number together.

  An episode ends when the environment says so, after `options.turns` turns, or where another turn
  would not fit into the largest of `config.data.buckets`.

  Args:
    parts: of the run (`jaxpref.assemble`).
    params: the policy.
    records: what the environment is reset to.
    options: section of rollouts.
    key: random key.

  Raises:
    Refused: a record that the environment does not take, or that leaves no room for a turn.
  """
  env = environment(options.env)
  room = max(parts.config.data.buckets)
  made = [_begun(parts, env, record, room - options.max_new) for record in records]
  for turn in range(options.turns):
    live = [e for e in made if not e.over]
    if not live:
      break
    drawn = _said(parts, params, live, len(made), options, update.fold(key, "turn", turn))
    for row, episode in enumerate(live):
      kept = drawn["mask"][row] > 0
      ids, logp = drawn["tokens"][row][kept].tolist(), drawn["sampler_logp"][row][kept].tolist()
      heard = _advance(parts, env, episode, ids, logp, turn)
      fits = len(episode.ids) + len(heard) + options.max_new <= room
      episode.over = episode.ended or not fits or turn == options.turns - 1
      if not episode.over:
        _add(episode, heard, 0, [0.0] * len(heard), -1)
  return made


def _begun(parts, env, record, room):
  state, text = env.reset(record)
  ids = chat.prompt_ids(text, parts.corpus.tokenizer, parts.corpus.template)
  if len(ids) > room:
    raise Refused(
      f"{record.source or 'a record'}: the environment begins with {len(ids)} tokens, which leaves "
      "no room for a turn of rollout.max_new; raise data.max_length and the largest of "
      "data.buckets."
    )
  none = len(ids)
  return Episode(state, ids, [0] * none, [0.0] * none, [-1] * none, [], [])


def _advance(parts, env, episode, ids, logp, turn):
  """One turn: adds what the policy said, and gives the ids of what it hears before the next."""
  tokenizer, template = parts.corpus.tokenizer, parts.corpus.template
  stop = chat.stop_id(tokenizer, template)
  stopped = ids[-1] == stop
  episode.states.append(env.anchor(episode.state))
  action = tokenizer.decode(ids[:-1] if stopped else ids)
  episode.state, text, reward, episode.ended = env.step(episode.state, action)
  episode.rewards.append(float(reward))
  _add(episode, ids, 1, logp, turn)
  heard = chat.piece_ids(chat.between(text, template), tokenizer, template)
  return heard if stopped else [stop, *heard]


def _add(episode, ids, counted, logp, segment):
  episode.ids += ids
  episode.counted += [counted] * len(ids)
  episode.logp += logp
  episode.segment += [segment] * len(ids)


def _said(parts, params, live, most, options, key):
  """Samples of the next turn of live episodes, on the host; two sizes of batches at most."""
  tokenizer, whole = parts.corpus.tokenizer, sharding.batch_parts(parts.mesh)
  sizes = [-(-n // whole) * whole for n in (-(-most // 4), most)]
  size = next(n for n in sizes if n >= len(live))
  ids = [e.ids for e in live]
  longest = max(map(len, ids))
  width = next(b for b in parts.config.data.buckets if b >= longest)
  tokens, mask = samples.pad_left(ids + ids[:1] * (size - len(ids)), tokenizer.pad, width)
  given = sharding.put({"tokens": tokens, "mask": mask}, parts.mesh)
  found = sample.sample(
    params,
    parts.model,
    given["tokens"],
    given["mask"],
    key,
    max_new=options.max_new,
    temperature=options.temperature,
    top_k=options.top_k,
    top_p=options.top_p,
    stop=(chat.stop_id(tokenizer, parts.corpus.template),),
    pad=tokenizer.pad,
  )
  return jax.device_get(found)


def make(parts, params, chosen, key) -> tuple[dict, dict]:
  """A batch of episodes, on the host, and metrics of its making.

  Args:
    parts: of the run (`jaxpref.assemble`).
    params: the policy.
    chosen: row numbers of the records.
    key: random key of this batch.

  Returns:
    arrays under the names of the vocabulary, and `reward/solved` (share of episodes that ended with
    a reward above 0) and `length/turns`, host floats.
  """
  options = parts.config.rollout
  rows = [parts.stream.rows[i] for i in chosen]
  records = [row.record for row in rows for _ in range(options.count)]
  made = play(parts, params, records, options, key)
  batch = arrays(parts, made, rows, chosen)
  return batch, _told(made)


def arrays(parts, made, rows, chosen) -> dict[str, np.ndarray]:
  """Episodes as a batch `[B, K, T]`, S = `config.rollout.turns`; those of a row come together.

  Args:
    parts: of the run.
    made: B * K episodes.
    rows: B encoded rows, whose weight and source are taken over.
    chosen: their numbers.
  """
  options, count = parts.config.rollout, len(made) // len(rows)
  groups = [made[i : i + count] for i in range(0, len(made), count)]
  said = [
    dataclasses.replace(
      row,
      ids=tuple(np.asarray(e.ids, np.int32) for e in group),
      counted=tuple(np.asarray(e.counted, np.uint8) for e in group),
    )
    for row, group in zip(rows, groups, strict=True)
  ]
  longest = max(len(e.ids) for e in made)
  length = next(b for b in parts.config.data.buckets if b >= longest)
  batch = encode.collate(
    said,
    length=length,
    scored=min(length, options.turns * options.max_new),
    pad=parts.corpus.tokenizer.pad,
    candidates=count,
    index=chosen,
    names=(),
    aspects=(),
  )
  flat = {
    "segment": _padded([e.segment for e in made], length, -1, np.int32),
    "sampler_token_logp": _padded([e.logp for e in made], length, 0, np.float32),
    "segment_reward": _padded([e.rewards for e in made], options.turns, 0, np.float32),
    "segment_mask": _padded([[1] * len(e.rewards) for e in made], options.turns, 0, np.float32),
    "segment_key": _padded([_keys(e, parts) for e in made], options.turns, 0, np.uint32),
  }
  batch |= {k: v.reshape(len(rows), count, -1) for k, v in flat.items()}
  batch["reward"] = batch["segment_reward"].sum(-1)
  batch["reward_parts"] = batch["reward"][..., None]
  batch["part_weight"] = np.ones((len(rows), 1), np.float32)
  ended = np.asarray([e.ended for e in made], np.float32)
  return batch | {"terminated": ended.reshape(len(rows), count)}


def _keys(episode, parts):
  """u32 of prompt and state, by turn; the prompt is all before the first turn."""
  begin = episode.counted.index(1)
  prompt = parts.corpus.tokenizer.decode(episode.ids[:begin])
  return anchors.exact([f"{prompt}\n{state}" for state in episode.states])


def _padded(rows, width, fill, kind):
  out = np.full((len(rows), width), fill, kind)
  for i, row in enumerate(rows):
    out[i, : len(row)] = row
  return out


def _told(made):
  solved = [e.ended and e.rewards[-1] > 0 for e in made]
  turns = [len(e.rewards) for e in made]
  return {"reward/solved": float(np.mean(solved)), "length/turns": float(np.mean(turns))}


def trial(parts, params, rows, options, key) -> dict[str, float]:
  """One episode of each of some held-out records.

  Args:
    parts: of the run.
    params: the policy.
    rows: encoded rows.
    options: section of rollouts, with the temperature of the trial.
    key: random key.

  Returns:
    `reward/mean` (return), `reward/solved`, `length/mean` (tokens of the policy), `length/turns`
    and `length/truncated` (share that the environment did not end), host floats.
  """
  made = play(parts, params, [row.record for row in rows], options, key)
  out = _told(made) | {
    "reward/mean": np.mean([sum(e.rewards) for e in made]),
    "length/mean": np.mean([sum(e.counted) for e in made]),
    "length/truncated": 1 - np.mean([e.ended for e in made]),
  }
  return {k: float(np.float32(v)) for k, v in out.items()}
