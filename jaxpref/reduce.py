r"""Reduction is data: weights over a whole optimizer step, made from masks alone.

`loss = sum(w * l)` with `sum(w) = 1`, so micro-batches, devices and processes only split a sum and
cannot change it. The modes:

| mode | weight of a token (candidate, example) | known as |
|---|---|---|
| `example` | 1 / number of examples (of candidates, for `[B, K]` losses) | mean over pairs |
| `token` | 1 / number of tokens in the batch | token-mean; DAPO |
| `sequence` | 1 / (tokens of its sequence * sequences) | seq-mean-token-mean; GRPO |
| `prompt` | 1 / (tokens of its prompt's candidates * prompts) | prompt-mean |
| `segment` | 1 / (tokens of its segment * segments in the batch) | Rank-GRPO |
| `constant` | 1 / `constant`, whatever the masks (the sum is not 1) | |
| `token_sum` | 1 (the sum is not 1) | token-sum |
| `sequence_sum` | 1 / sequences (the sum is not 1) | seq-mean-token-sum; LUSPO |
| `sequence_sum_constant` | 1 / (sequences * `constant`) (the sum is not 1) | Dr. GRPO |

A sequence, prompt or segment in which nothing counts is not one of those that are divided by.
`sequence_sum_constant` is Dr. GRPO's token sum over the longest allowed response: `constant` must
not be the padded length, which differs between batches.

An example's `weight` multiplies its share, and the shares are normalised with it.
`keep` (selections of tokens or responses, weights of a rollout correction) multiplies the weights
after normalisation: the denominators stay those of `mask`. What is to leave the denominators too
leaves `mask` (tokens), `present` (responses) or `weight` (examples).
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import safe_divide
from jaxpref.types import Refused

PER_TOKEN = ("token", "sequence", "prompt", "segment")  # modes that need a token axis
SUMS = ("token_sum", "sequence_sum", "sequence_sum_constant")  # so do these
MODES = ("example", *PER_TOKEN, "constant", *SUMS)


def default_mode(rank: int) -> str:
  """`token` for losses with a token axis, else `example`."""
  return "token" if rank == 3 else "example"


def weights(
  mode,
  rank,
  *,
  mask=None,
  present=None,
  weight=None,
  constant=None,
  segment=None,
  keep=None,
):
  """Weights of a loss array such that the loss of the step is `sum(weights * loss)`.

  Args:
    mode: one of `MODES`.
    rank: 1 for losses `[B]`, 2 for `[B, K]`, 3 for `[B, K, T]`.
    mask: f32[B, K, T], 1 on tokens that count; needed for rank 3.
    present: f32[B, K], 0 for padded candidates; needed for rank 2, all present if absent in rank 3.
    weight: f32[B], example weights, 0 leaves an example out; needed for rank 1, else 1 if absent.
    constant: for modes `constant` (tokens, candidates or examples) and `sequence_sum_constant`
      (tokens), what to divide by.
    segment: i32[B, K, T], -1 outside, at most T segments; for mode `segment`.
    keep: f32[B, K, T], multiplies the weights of a loss with tokens, without changing what they
      are divided by.

  Returns:
    f32 of the loss's shape: `[B]`, `[B, K]` or `[B, K, T]`. All 0 if nothing counts.

  Raises:
    Refused: an unknown mode, or one that the rank has no axis for.
  """
  _check(mode, rank, constant, segment, keep)
  count = counted(rank, mask, present, weight)
  out = _shares(mode, count, weight, constant, segment)
  return out if keep is None else out * keep


def _check(mode, rank, constant, segment, keep):
  if mode not in MODES:
    raise Refused(f"reduce has no mode {mode!r}. {call.nearest(mode, MODES)}It has: {MODES}.")
  if rank < 3 and mode in (*PER_TOKEN, *SUMS):
    raise Refused(
      f"reduce={mode!r} averages over tokens, but this loss has one number per "
      f"{'example' if rank == 1 else 'candidate'}; use 'example' or 'constant'."
    )
  if mode in ("constant", "sequence_sum_constant") and not constant:
    raise Refused(f"reduce={mode!r} needs reduce_constant > 0: the number to divide by.")
  if mode == "segment" and segment is None:
    raise Refused("reduce='segment' needs segment, which this batch does not hold.")
  if rank < 3 and keep is not None:
    raise Refused("keep has one number per token, but this loss has none; leave rows out instead.")


def _shares(mode, count, weight, constant, segment):
  """The weights of a mode from what counts, before `keep`."""
  if mode in ("constant", "token_sum"):
    return count / (constant if mode == "constant" else 1.0)
  if mode in ("example", "token"):
    return safe_divide(count, count.sum())
  whole = jnp.ones_like(count[:, :1, :1]) if weight is None else weight[:, None, None]
  if mode == "segment":
    return _segment_shares(count, whole, segment)
  axes = (1, 2) if mode == "prompt" else (2,)
  alive = (count.sum(axes, keepdims=True) > 0).astype(jnp.float32) * whole
  if mode in SUMS:
    return safe_divide(count, alive.sum() * (constant if mode == "sequence_sum_constant" else 1.0))
  within = safe_divide(count, count.sum(axes, keepdims=True))
  return within * safe_divide(alive, alive.sum())


def _segment_shares(count, whole, segment):
  """Each segment in which something counts has one share; tokens outside of all have none."""
  count = jnp.where(segment >= 0, count, 0.0)
  size = count.shape[-1]
  place = jnp.clip(segment, 0, size - 1)
  rows = lambda fn: jax.vmap(jax.vmap(fn))
  total = rows(lambda x, s: jax.ops.segment_sum(x, s, size))(count, place)
  segments = ((total > 0) * whole).sum()
  own = rows(lambda x, s: x[s])(total, place)
  return safe_divide(count, own) * safe_divide(whole, segments)


def counted(rank, mask=None, present=None, weight=None):
  """f32 of the loss's shape: how much each entry counts before normalisation.

  Arguments as in `weights`.
  """
  if rank == 1:
    chex.assert_rank(weight, 1)
    return weight.astype(jnp.float32)
  if rank == 2:
    count = present.astype(jnp.float32)
    return count if weight is None else count * weight[:, None]
  count = mask.astype(jnp.float32)
  if present is not None:
    count = count * present[..., None]
  return count if weight is None else count * weight[:, None, None]
