"""Masked attention with grouped key/value heads, in one place for every model."""

from __future__ import annotations

import chex
import jax


def attention(q, k, v, *, mask):
  r"""Scaled dot-product attention; several query heads share one key/value head.

  .. math:: o_{ti} = \sum_s \mathrm{softmax}_s(q_{ti} \cdot k_{sj} / \sqrt{d}) v_{sj},
            \quad j = \lfloor i / (H / J) \rfloor

  over the `s` where `mask` is true. The softmax runs in float32. A query that may look at nothing
  gets a finite vector of no meaning, never NaN, and no gradient flows if nobody reads it.

  Args:
    q: f32|bf16[N, T, H, d], queries.
    k: f32|bf16[N, S, J, d], keys; H is a multiple of J.
    v: f32|bf16[N, S, J, d], values.
    mask: bool[N, T, S], true where query t may look at key s.

  Returns:
    [N, T, H, d] of q's dtype.

  Example:
    >>> one = jnp.ones((1, 2, 1, 4))
    >>> out = attention(one, one, 3.0 * one, mask=jnp.ones((1, 2, 2), bool))
    >>> print(out[0, 0, 0])
    [3. 3. 3. 3.]

  Reference: Vaswani et al., "Attention Is All You Need" (2017), eq. 1; grouped heads: Ainslie et
  al., "GQA" (2023).
  """
  chex.assert_rank([q, k, v, mask], [4, 4, 4, 3])
  chex.assert_equal_shape([k, v])
  return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None], implementation="xla")
