"""What the policy says: samples of held-out prompts, and how far they are from the reference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxpref import sample, update
from jaxpref.data import chat


def prompts(rows, most: int) -> list[np.ndarray]:
  """Token ids of the first distinct prompts of encoded rows, in order."""
  found: dict[bytes, np.ndarray] = {}
  for row in rows:
    ids = row.ids[0][: row.prompt]
    found.setdefault(ids.tobytes(), ids)
    if len(found) == most:
      break
  return list(found.values())


def pad_left(rows, pad: int, width: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """i32[N, P] ids and f32[N, P] mask of prompts, padded on the left to `width` or the longest."""
  width = width or max(len(r) for r in rows)
  tokens = np.full((len(rows), width), pad, np.int32)
  mask = np.zeros((len(rows), width), np.float32)
  for i, ids in enumerate(rows):
    tokens[i, width - len(ids) :] = ids
    mask[i, width - len(ids) :] = 1.0
  return tokens, mask


def draw(parts, params, ids, options, key) -> dict[str, np.ndarray]:
  """Samples `options.count` responses to each prompt.

  Args:
    parts: of the run (`jaxpref.assemble`).
    params: the policy.
    ids: token ids of the prompts.
    options: config section with `count`, `max_new`, `temperature`, `top_k`, `top_p`.
    key: random key.

  Returns:
    what `sample.sample` returns, and the prompts' `prompt_tokens`, `prompt_mask`, as host arrays
    with N = prompts * count rows, the samples of a prompt together.
  """
  tokenizer = parts.corpus.tokenizer
  tokens, mask = pad_left([r for r in ids for _ in range(options.count)], tokenizer.pad)
  found = sample.sample(
    params,
    parts.model,
    jnp.asarray(tokens),
    jnp.asarray(mask),
    key,
    max_new=options.max_new,
    temperature=options.temperature,
    top_k=options.top_k,
    top_p=options.top_p,
    stop=(chat.stop_id(tokenizer, parts.corpus.template),),
    pad=tokenizer.pad,
  )
  return jax.device_get(found) | {"prompt_tokens": tokens, "prompt_mask": mask}


def as_batch(drawn) -> dict[str, np.ndarray]:
  """Prompts with their samples as a batch of K = 1, under the names of the vocabulary."""
  tokens = np.concatenate([drawn["prompt_tokens"], drawn["tokens"]], 1)
  prompt = np.concatenate([drawn["prompt_mask"], np.zeros_like(drawn["mask"])], 1)
  mask = np.concatenate([np.zeros_like(drawn["prompt_mask"]), drawn["mask"]], 1)
  real = prompt + mask > 0
  position = np.where(real, np.cumsum(real, 1) - 1, 0)
  names = dict(tokens=tokens, mask=mask, prompt_mask=prompt, position=position.astype(np.int32))
  batch = {k: v[:, None] for k, v in names.items()}
  return batch | {"weight": np.ones(len(tokens), np.float32)}


def texts(parts, drawn) -> list[dict]:
  """One JSON-able object per sample: prompt, response, logp (nats), length (tokens)."""
  decode = parts.corpus.tokenizer.decode
  out = []
  for i in range(len(drawn["tokens"])):
    kept = drawn["mask"][i] > 0
    prompt = drawn["prompt_tokens"][i][drawn["prompt_mask"][i] > 0]
    out.append(
      {
        "prompt": decode(prompt.tolist()),
        "response": decode(drawn["tokens"][i][kept].tolist()),
        "logp": float(np.float32(drawn["token_logp"][i][kept].sum())),
        "length": int(kept.sum()),
      }
    )
  return out


def pair_texts(parts, row) -> dict[str, str]:
  """Prompt, chosen and rejected of an encoded pair, as text."""
  decode = lambda ids: parts.corpus.tokenizer.decode(ids.tolist())
  return {
    "prompt": decode(row.ids[0][: row.prompt]),
    "chosen": decode(row.ids[0][row.prompt :]),
    "rejected": decode(row.ids[1][row.prompt :]),
  }


def wrong_pairs(parts, each, most: int = 30) -> list[dict]:
  """Held-out pairs whose reward margin is not positive, worst first, as text.

  Args:
    parts: of the run (`jaxpref.assemble`).
    each: `{evaluation: {metric: value of each record}}`.
    most: pairs at most.

  Returns:
    Objects for `wrong.jsonl`.
  """
  out = []
  for name, values in each.items():
    margin = values.get("rewards/margins")
    rows = parts.corpus.evals[name]
    for i in [] if margin is None else np.argsort(margin, kind="stable"):
      if margin[i] > 0 or len(out) == most:
        break
      extra = {
        k: float(np.float32(values[k][i]))
        for k in ("rewards/margins", "logps/margins")
        if k in values
      }
      out.append(pair_texts(parts, rows[i]) | extra | {"source": rows[i].source})
  return out


def report(parts, params, frozen, options, key, step: int) -> tuple[list[dict], dict]:
  """Samples as text, and what they tell.

  Prompts are the first distinct ones of the first evaluation's data, or of the training data where
  there is no evaluation.

  Returns:
    (objects for `samples.jsonl`, metrics): `length/mean` tokens, `length/truncated` the share that
    did not end, and where there is a reference `kl/ref`, the mean of `logp - ref_logp` over
    responses of the policy: an unbiased estimate of KL(policy || reference) in nats per response
    (at temperature 1 without truncation; at other settings it is that of the sampler's responses).
  """
  sets = parts.corpus.evals
  rows = sets[min(sets)] if sets else parts.stream.rows
  ids = prompts(rows, options.prompts)
  drawn = draw(parts, params, ids, options, update.fold(key, "samples", step))
  metrics = {
    "length/mean": float(np.float32(drawn["mask"].sum(1).mean())),
    "length/truncated": float(np.float32(1.0 - drawn["finished"].mean())),
  }
  if "ref" in frozen:
    gap = _logp(parts, params, drawn, key) - _logp(parts, frozen["ref"], drawn, key)
    metrics["kl/ref"] = float(np.float32(gap.mean()))
  return [{"step": step} | t for t in texts(parts, drawn)], metrics


def _logp(parts, params, drawn, key):
  """f32[N]: log-probability of the samples under some parameters, nats."""
  want = frozenset({"logp"})
  score = jax.jit(lambda p, b: parts.measure(p, b, want, key)["logp"])
  return np.asarray(score(params, as_batch(drawn)))[:, 0]
