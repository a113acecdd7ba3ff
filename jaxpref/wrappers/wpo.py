"""Pairs weighted by how likely the policy itself would have written them."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import masked_mean


def wpo(base):
  r"""Weighted preference optimisation: the loss of a pair times the likelihood of its responses.

  With `c_t = log sum_v pi(v)^2`, the log-probability that a token sampled from the policy gets on
  average, and means over the tokens that count

  .. math:: \ell' = w_0 w_1 \ell, \qquad w_k = \exp\Big(\mathrm{mean}_t [\log \pi(y_t) - c_t]\Big)

  without gradient in `w`. Likely pairs resemble samples of the policy, so their weight is near 1
  (it may pass 1 where tokens are likelier than average). An empty response has weight 1. Around
  `dpo` it is WPO; weights are not clamped, as in TRL.

  Args:
    base: a pair objective with one loss per pair.

  Returns:
    The objective; it reads `token_logp`, `collision` f32[B, 2, T] and `mask` besides what the base
    reads. `wpo/weight` f32[B] is `w_0 w_1`.

  Raises:
    Refused: not two candidates.

  Example:
    >>> from jaxpref.objectives import dpo
    >>> weighted = wpo(dpo)
    >>> logp, token_logp = jnp.full((1, 2), -2.0), jnp.full((1, 2, 2), -1.0)
    >>> loss, metrics = weighted(
    ...   logp, logp, token_logp, jnp.full((1, 2, 2), -0.5), jnp.ones((1, 2, 2)))
    >>> print(f"{metrics['wpo/weight'][0]:.6f} {loss[0]:.6f}")   # exp(-1), exp(-1) log 2
    0.367879 0.254995

  Reference: Zhou et al., "WPO: Enhancing RLHF with Weighted Preference Optimization" (2024), eq. 2
  and section 3.2 (sampled alignment). Catalogue 1, section 2, `wpo`.
  """
  names = list(dict.fromkeys([*call.needs(base), "token_logp", "collision", "mask"]))

  def objective(inner, arrays):
    token_logp, mask = arrays["token_logp"], arrays["mask"]
    call.candidates("wpo", 2, token_logp=token_logp, mask=mask)
    loss, metrics = call.feed(inner, arrays)
    chex.assert_rank(loss, 1)
    alignment = masked_mean(token_logp - arrays["collision"], mask, axis=-1).sum(1)
    weight = jax.lax.stop_gradient(jnp.exp(alignment))
    return weight * loss, metrics | {"wpo/weight": weight}

  return call.wrapped(base, objective, names)
