r"""Reduction is data: weights over a whole optimizer step, made from masks alone.

`loss = sum(w * l)` with `sum(w) = 1`, so micro-batches, devices and processes only split a sum and
cannot change it. The modes:

| mode | weight of a token (candidate, example) | known as |
|---|---|---|
| `example` | 1 / number of examples (of candidates, for `[B, K]` losses) | mean over pairs |
| `token` | 1 / number of tokens in the batch | token-mean; DAPO |
| `sequence` | 1 / (tokens of its sequence * sequences) | seq-mean-token-mean; GRPO |
| `prompt` | 1 / (tokens of its prompt's candidates * prompts) | prompt-mean |
| `constant` | 1 / `constant`, whatever the masks (the sum is not 1) | Dr. GRPO |

An example's `weight` multiplies its share, and the shares are normalised with it.
"""

from __future__ import annotations

import chex
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import safe_divide
from jaxpref.types import Refused

MODES = ("example", "token", "sequence", "prompt", "constant")


def default_mode(rank: int) -> str:
  """`token` for losses with a token axis, else `example`."""
  return "token" if rank == 3 else "example"


def weights(mode, rank, *, mask=None, present=None, weight=None, constant=None):
  """Weights of a loss array such that the loss of the step is `sum(weights * loss)`.

  Args:
    mode: one of `MODES`.
    rank: 1 for losses `[B]`, 2 for `[B, K]`, 3 for `[B, K, T]`.
    mask: f32[B, K, T], 1 on tokens that count; needed for rank 3.
    present: f32[B, K], 0 for padded candidates; needed for rank 2, all present if absent in rank 3.
    weight: f32[B], example weights, 0 leaves an example out; needed for rank 1, else 1 if absent.
    constant: for mode `constant`, what to divide by (tokens, candidates or examples).

  Returns:
    f32 of the loss's shape: `[B]`, `[B, K]` or `[B, K, T]`. All 0 if nothing counts.

  Raises:
    Refused: an unknown mode, or one that the rank has no axis for.
  """
  if mode not in MODES:
    raise Refused(f"reduce has no mode {mode!r}. {call.nearest(mode, MODES)}It has: {MODES}.")
  if rank < 3 and mode in ("token", "sequence", "prompt"):
    raise Refused(
      f"reduce={mode!r} averages over tokens, but this loss has one number per "
      f"{'example' if rank == 1 else 'candidate'}; use 'example' or 'constant'."
    )
  if mode == "constant" and not constant:
    raise Refused("reduce='constant' needs reduce_constant > 0: the number to divide by.")
  count = counted(rank, mask, present, weight)
  if mode == "constant":
    return count / constant
  if mode in ("example", "token"):
    return safe_divide(count, count.sum())
  axes = (2,) if mode == "sequence" else (1, 2)
  within = safe_divide(count, count.sum(axes, keepdims=True))
  whole = jnp.ones_like(count[:, :1, :1]) if weight is None else weight[:, None, None]
  alive = (count.sum(axes, keepdims=True) > 0).astype(jnp.float32) * whole
  return within * safe_divide(alive, alive.sum())


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
