"""A transformer written from the equations in float64 numpy, one token at a time; and batches."""

import dataclasses

import jax
import numpy as np

from jaxpref.models.transformer import Config


def config(**changes):
  shape = dict(vocab=50, width=16, depth=2, heads=4, kv_heads=2, head_width=8, hidden=24)
  return Config(**shape | changes)


def busy(params, seed=7):
  """Params with every bias and scale away from 0 and 1, so that none can be forgotten."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: x + 0.2 * rng.normal(size=x.shape).astype(np.float32), params)


def _norm(x, scale, eps):
  return x / np.sqrt(np.mean(x**2) + eps) * scale


def _rotated(x, position, theta):
  half = len(x) // 2
  out = np.empty_like(x)
  for i in range(half):
    angle = position * theta ** (-i / half)
    out[i] = x[i] * np.cos(angle) - x[i + half] * np.sin(angle)
    out[i + half] = x[i + half] * np.cos(angle) + x[i] * np.sin(angle)
  return out


def _layer(xs, w, c):
  """One layer over a list of vectors, positions 0, 1, ..."""
  a, width = w["attention"], c.head_width
  keys, values, out = [], [], []
  for t, x in enumerate(xs):
    y = _norm(x, w["norm"]["attention"], c.norm_eps)
    parts = {n: y @ a[n] + (a[f"{n}_bias"] if c.qkv_bias else 0.0) for n in "qkv"}
    parts = {n: x.reshape(-1, width) for n, x in parts.items()}
    for n in "qk":
      if c.qk_norm:
        parts[n] = np.stack([_norm(h, a[f"{n}_norm"], c.norm_eps) for h in parts[n]])
      parts[n] = np.stack([_rotated(h, t, c.rope_theta) for h in parts[n]])
    keys.append(parts["k"])
    values.append(parts["v"])
    heads = []
    for i in range(c.heads):
      j = i // (c.heads // c.kv_heads)
      e = np.exp([parts["q"][i] @ k[j] / np.sqrt(width) for k in keys])
      heads.append(sum(p * v[j] for p, v in zip(e / e.sum(), values, strict=True)))
    x = x + np.concatenate(heads) @ a["o"]
    y = _norm(x, w["norm"]["mlp"], c.norm_eps)
    gate = y @ w["mlp"]["gate"]
    out.append(x + (gate / (1 + np.exp(-gate)) * (y @ w["mlp"]["up"])) @ w["mlp"]["down"])
  return out


def hidden(params, c, tokens):
  """Hidden states [T, D] of one sequence without padding."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  xs = [params["embed"][t] for t in tokens]
  for i in range(c.depth):
    xs = _layer(xs, jax.tree.map(lambda x: x[i], params["layers"]), c)  # noqa: B023
  return np.stack([_norm(x, params["final_norm"], c.norm_eps) for x in xs])


def log_softmax(params, c, tokens):
  """Log-probabilities [T, V] of the token after each place."""
  head = params["embed"].T if c.tied else params["head"]
  z = hidden(params, c, tokens) @ np.asarray(head, np.float64)[:, : c.vocab]
  return z - np.log(np.exp(z).sum(-1, keepdims=True))


def rows(vocab=50, lengths=((3, 4), (5, 2), (1, 6), (2, 2)), seed=0):
  """`(prompt, response)` token lists, one pair per entry of `lengths`."""
  rng = np.random.default_rng(seed)
  return [(list(rng.integers(0, vocab, p)), list(rng.integers(0, vocab, r))) for p, r in lengths]


def batch(pairs, k=2, total=9, side="right", scored=False, junk=0):
  """A batch [B, K, total] of `(prompt, response)`; `side` says where padding stands."""
  n = len(pairs)
  out = {name: np.zeros((n, total), np.float32) for name in ("mask", "prompt_mask")}
  out |= {"tokens": np.full((n, total), junk, np.int32), "position": np.zeros((n, total), np.int32)}
  widest = max(len(r) for _, r in pairs)
  places = np.full((n, widest + 1), -1, np.int32)
  for i, (prompt, response) in enumerate(pairs):
    p, r = len(prompt), len(response)
    free = total - p - r
    before = {"right": 0, "left": free, "middle": 0, "around": free // 2}[side]
    gap = free if side == "middle" else 0
    at = np.r_[before : before + p, before + p + gap : before + p + gap + r].astype(int)
    out["tokens"][i, at] = prompt + response
    out["position"][i, at] = np.arange(p + r)
    out["prompt_mask"][i, at[:p]] = 1
    out["mask"][i, at[p:]] = 1
    places[i, :r] = at[p:]
  if scored:
    out["scored"] = places
  return {name: x.reshape(n // k, k, -1) for name, x in out.items()}


def variants():
  """Configs that together use every part of the architecture."""
  plain = config()
  return {
    "plain": plain,
    "qwen2": dataclasses.replace(plain, qkv_bias=True, rope_theta=1e6),
    "qwen3": dataclasses.replace(plain, qk_norm=True, kv_heads=1),
    "llama": dataclasses.replace(plain, tied=False, kv_heads=4, norm_eps=1e-5),
    "ragged": dataclasses.replace(plain, vocab=65, qkv_bias=True, qk_norm=True, tied=False),
  }
