"""The first form of KTO: pairs, each response against the other kind's mean of the batch."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import masked_mean, pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios

COUPLED = True  # the batch's mean log-ratios are the baselines


def kto_pair(logp, ref_logp, weight, *, beta: float = 0.1):
  r"""KTO on pairs: preferred responses against the mean of the others, and the reverse.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1` and
  `K_0 = max(0, mean of a)`, `K_1 = max(0, mean of b)` over the batch

  .. math:: \ell_0 = 1 - \sigma(\beta (a - K_1)), \quad \ell_1 = 1 - \sigma(\beta (K_0 - b))

  Both are 1/2 where the policy equals the reference. The means get gradient, as in the code that
  defined it; `kto` has a baseline without gradient and replaced this form.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    weight: f32[B], weight of each pair in the means; 0 leaves it out.
    beta: reward units per nat of log-ratio, > 0; larger saturates sooner.

  Returns:
    loss: f32[B, 2], one value per response, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, `logps/*` of f32[B],
      nats, and `kl/chosen` and `kl/rejected` of f32[B], the two means, nats, the same in every row.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = kto_pair(logp, ref_logp, jnp.ones(1))  # K_0 = 1, K_1 = 0
    >>> print(f"{loss[0, 0]:.6f} {loss[0, 1]:.6f}")
    0.475021 0.462570

  Reference: Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization" (2024),
  as its first libraries had it. Catalogue 1, section 2, `kto_pair`.
  """
  call.positive("kto_pair", beta=beta)
  ratio = log_ratios("kto_pair", logp, ref_logp)
  chex.assert_shape(weight, logp.shape[:1])
  kl = jax.nn.relu(masked_mean(ratio, weight[:, None] * jnp.ones(2), axis=0))
  loss = jax.nn.sigmoid(beta * jnp.stack([kl[1] - ratio[:, 0], ratio[:, 1] - kl[0]], 1))
  metrics = pair_rewards(beta * ratio) | pair_logps(logp)
  chosen, rejected = jnp.broadcast_to(jax.lax.stop_gradient(kl)[:, None], (2, len(logp)))
  return loss, metrics | {"kl/chosen": chosen, "kl/rejected": rejected}
