"""Direct preference optimisation and its label-smoothed form."""

from __future__ import annotations

import chex
import jax

from jaxpref.numerics import pair_rewards


def dpo(logp, ref_logp, *, beta: float = 0.1, gamma: float = 1.0):
  r"""Direct preference optimisation: logistic loss on the implicit-reward margin.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred) and `b = logp_1 - ref_logp_1`

  .. math:: \ell = -\log \sigma(\beta (a - b))

  `gamma` scales the reference term: `a = logp_0 - gamma * ref_logp_0`; 0 drops the reference.

  It is log 2 where the policy equals the reference. Log-probabilities are sums over response
  tokens. It never stops pushing: the gradient in `a - b` has one sign.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    gamma: share of the reference's log-probability that is subtracted; 1 is DPO.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`.

  Example:
    >>> loss, _ = dpo(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a
  Reward Model" (2023), eq. 7. Catalogue 1, section 2, `dpo`.
  """
  chex.assert_equal_shape([logp, ref_logp])
  reward = beta * (logp - gamma * jax.lax.stop_gradient(ref_logp))
  margin = reward[:, 0] - reward[:, 1]
  return jax.nn.softplus(-margin), pair_rewards(reward)
