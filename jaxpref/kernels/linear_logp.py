"""From hidden states to log-probabilities of given tokens: the largest product of a language model.

This is the reference form, plain jnp with all logits in memory; every other form must equal it.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.types import Refused

NEVER = -1e30  # finite, so that differences of two masked logits are no NaN
LAYOUTS = {"dv": "nd,dv->nv", "vd": "nd,vd->nv"}


def linear_logits(hidden, head, *, vocab: int, layout: str = "dv"):
  """Logits in float32; columns at and beyond `vocab` (padding of the table) are -1e30.

  Args:
    hidden: f32|bf16[N, D].
    head: `[D, V]` for layout `dv`, `[V, D]` (a tied embedding) for layout `vd`.
    vocab: true vocabulary size, at most V.
    layout: `dv` or `vd`.

  Returns:
    f32[N, V].

  Raises:
    Refused: an unknown layout, or fewer columns than `vocab`.

  Example:
    >>> print(linear_logits(jnp.ones((1, 2)), jnp.ones((2, 3)), vocab=2)[0, :2])
    [2. 2.]
  """
  chex.assert_rank([hidden, head], 2)
  if layout not in LAYOUTS:
    raise Refused(
      f"linear_logits has no layout {layout!r}. {call.nearest(layout, LAYOUTS)}It has: dv, vd."
    )
  columns = head.shape[layout.index("v")]
  if vocab > columns:
    raise Refused(f"a head of {columns} columns cannot hold a vocabulary of {vocab}.")
  logits = jnp.einsum(LAYOUTS[layout], hidden, head, preferred_element_type=jnp.float32)
  if vocab == columns:
    return logits
  return jnp.where(jnp.arange(columns) < vocab, logits, NEVER)


def linear_logp(hidden, head, targets, *, vocab: int, entropy: bool = False, layout: str = "dv"):
  r"""Log-probability of one target per row, and the entropy of the row's prediction.

  With logits `z = h W` over the true vocabulary

  .. math:: \log p_y = z_y - \log \sum_j e^{z_j}, \qquad
            H = -\sum_j p_j \log p_j

  Rows with a negative target are ignored: both outputs are 0 and no gradient flows. All sums are
  float32 whatever the inputs are.

  Args:
    hidden: f32|bf16[N, D].
    head: `[D, V]` for layout `dv`, `[V, D]` for layout `vd`.
    targets: i32[N], token ids below `vocab`; negative: ignored.
    vocab: true vocabulary size; further columns have probability 0.
    entropy: whether the entropy is wanted.
    layout: `dv` or `vd`.

  Returns:
    logp: f32[N], nats.
    entropy: f32[N], nats, or None if not wanted.

  Raises:
    Refused: an unknown layout, or fewer columns than `vocab`.

  Example:
    >>> logp, h = linear_logp(
    ...   jnp.zeros((2, 3)), jnp.ones((3, 4)), jnp.asarray([1, -1]), vocab=4, entropy=True)
    >>> print(logp, h)   # log 4 = 1.386: a uniform prediction; the second row is ignored
    [-1.3862944  0.       ] [1.3862944 0.       ]
  """
  chex.assert_rank([hidden, head, targets], [2, 2, 1])
  logits = linear_logits(hidden, head, vocab=vocab, layout=layout)
  counted = targets >= 0
  lse = jax.nn.logsumexp(logits, axis=-1)
  # An iota compare instead of a gather: its gradient is no scatter and it shards over V.
  hit = jnp.arange(logits.shape[1]) == targets[:, None]
  logp = jnp.where(counted, jnp.where(hit, logits, 0.0).sum(-1) - lse, 0.0)
  if not entropy:
    return logp, None
  # Not lse - sum(p z): that difference of two large numbers loses digits where H is small.
  each = logits - lse[:, None]
  return logp, jnp.where(counted, -(jnp.exp(each) * each).sum(-1), 0.0)
