"""Dynamic dual-level down-sampling: rollouts of most variance, tokens of most weight."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.selectors.extremes import extremes, largest

HALF = 1e-4  # a share of a count this far below a whole number still is that number


def _share(progress, start, end):
  return start + (end - start) * jnp.clip(progress, 0.0, 1.0)


def d3s_rollouts(
  advantage,
  present,
  progress,
  *,
  keep_from: float = 0.25,
  keep_to: float = 1.0,
  across: str = "batch",
):
  r"""The rollouts whose advantages have the largest variance together.

  .. math:: \hat S = \arg\max_{|S| = N} \mathrm{Var}(A_S), \quad
    N = \mathrm{round}((1-p)\,N_{from} + p\,N_{to})

  Shares are of the rollouts that are present. The choice is over the whole batch, or within each
  prompt with `across='prompt'`. Advantages are chosen from, never normalised again. Groups without
  variance (A = 0) are taken only when nothing else is left. Absent rollouts and advantages that
  are not finite are not kept.

  Args:
    advantage: f32[B, K], one advantage per rollout (before spreading).
    present: f32[B, K], 0 for rollouts that are not there.
    progress: f32[], share of the run that is done.
    keep_from: share kept at the start of the run, above 0 to 1.
    keep_to: share kept at its end.
    across: `batch` or `prompt`.

  Returns:
    keep: f32[B, K], zeros and ones.

  Raises:
    Refused: a share not above 0, or `across` another word.

  Example:
    >>> a = jnp.asarray([[1.5, 0.5, -0.5, -0.5, -1.0]])
    >>> print(d3s_rollouts(a, jnp.ones((1, 5)), 0.0, keep_from=0.4))
    [[1. 0. 0. 0. 1.]]

  Reference: Wang et al., "Learning More with Less: A Dynamic Dual-Level Down-Sampling Framework"
  (2025). Paper card d3s.
  """
  call.positive("d3s_rollouts", keep_from=keep_from, keep_to=keep_to)
  call.one_of("d3s_rollouts", ("batch", "prompt"), across=across)
  chex.assert_rank(advantage, 2)
  valid = ((present > 0) & jnp.isfinite(advantage)).astype(jnp.float32)
  clean = jnp.where(valid > 0, advantage, 0.0)
  share = _share(progress, keep_from, keep_to)
  if across == "prompt":
    counts = jnp.round(share * valid.sum(-1)).astype(jnp.int32)
    return jax.vmap(extremes)(clean, valid, counts)
  count = jnp.round(share * valid.sum()).astype(jnp.int32)
  return extremes(clean.ravel(), valid.ravel(), count).reshape(advantage.shape)


def d3s_tokens(
  advantage,
  old_entropy,
  mask,
  progress,
  *,
  keep_from: float = 0.2,
  keep_to: float = 1.0,
  across: str = "batch",
):
  r"""The tokens with the largest product of advantage and entropy.

  .. math:: \text{key}_{it} = |A_{it}|\,H_{it}, \quad
    N = \lceil ((1-p)\,K_{from} + p\,K_{to}) \cdot \#tokens \rceil

  Over all counted tokens of the batch, or of each response with `across='response'`. Multiply the
  mask with the kept rollouts first. Ties go to the earlier token.

  Args:
    advantage: f32[B, K, T], after spreading.
    old_entropy: f32[B, K, T], of the policy that sampled, nats.
    mask: f32[B, K, T], 1 on counted tokens of the kept rollouts.
    progress: f32[], share of the run that is done.
    keep_from: share kept at the start of the run, above 0 to 1.
    keep_to: share kept at its end.
    across: `batch` or `response`.

  Returns:
    keep: f32[B, K, T], zeros and ones, 0 outside the mask.

  Raises:
    Refused: a share not above 0, or `across` another word.

  Example:
    >>> entropy = jnp.asarray([[[0.1, 2.0, 0.5, 1.0]]])
    >>> print(d3s_tokens(jnp.ones((1, 1, 4)), entropy, jnp.ones((1, 1, 4)), 0.0, keep_from=0.5))
    [[[0. 1. 0. 1.]]]

  Reference: Wang et al., "Learning More with Less: A Dynamic Dual-Level Down-Sampling Framework"
  (2025). Paper card d3s; rounding up is ours.
  """
  call.positive("d3s_tokens", keep_from=keep_from, keep_to=keep_to)
  call.one_of("d3s_tokens", ("batch", "response"), across=across)
  chex.assert_equal_shape([advantage, old_entropy, mask])
  valid = (mask > 0).astype(jnp.float32)
  key = jnp.where(valid > 0, jnp.abs(advantage) * old_entropy, -1.0)
  share = _share(progress, keep_from, keep_to)
  count = lambda v: jnp.ceil(share * v.sum(-1) - HALF).astype(jnp.int32)
  rows = 1 if across == "batch" else mask.shape[0] * mask.shape[1]
  key, valid = key.reshape(rows, -1), valid.reshape(rows, -1)
  kept = jax.vmap(largest)(key, valid, count(valid))
  return jax.lax.stop_gradient(kept.reshape(mask.shape))
