"""Self-play preference optimisation: log-ratios are regressed on win probabilities."""

from __future__ import annotations

import chex
import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios


def sppo_hard(logp, ref_logp, *, beta: float = 1e-3):
  r"""Self-play preference optimisation where the preferred response always wins.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred) and `b = logp_1 - ref_logp_1`

  .. math:: \ell = \left(a - \frac{1}{2\beta}\right)^2 + \left(b + \frac{1}{2\beta}\right)^2

  Both log-ratios have a target of their own, so the pair is more than its margin. It is
  `1 / (2 beta^2)` where the policy equals the reference. `sppo` takes win probabilities.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the previous iterate; no gradient flows.
    beta: `1 / eta` of the paper, per nat, > 0; larger asks for smaller log-ratios.

  Returns:
    loss: f32[B], one value per pair, in squared nats, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = sppo_hard(logp, ref_logp, beta=0.1)
    >>> print(f"{loss[0]:.2f}")
    36.25

  Reference: Wu et al., "Self-Play Preference Optimization for Language Model Alignment" (2024),
  eq. 4.7 with probabilities 1 and 0. Catalogue 1, section 2, `sppo_hard`.
  """
  call.positive("sppo_hard", beta=beta)
  ratio = log_ratios("sppo_hard", logp, ref_logp)
  target = 1 / (2 * beta)
  loss = (ratio[:, 0] - target) ** 2 + (ratio[:, 1] + target) ** 2
  return loss, pair_rewards(beta * ratio) | pair_logps(logp)


def sppo(logp, ref_logp, reward, *, beta: float = 1e-3):
  r"""Self-play preference optimisation: log-ratios grow with the chance to beat the policy.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1` and
  `P = reward`

  .. math::
    \ell = \frac{1}{2} \left[\left(a - \frac{P_0 - 1/2}{\beta}\right)^2
           + \left(b - \frac{P_1 - 1/2}{\beta}\right)^2\right]

  It is half of `sppo_hard` at `P = (1, 0)`. The two probabilities need not add to one: each is
  that of beating a response of the previous iterate.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the previous iterate; no gradient flows.
    reward: f32[B, 2], probability, 0 to 1, that the response beats one of the previous iterate, as
      a preference model gives it; no gradient flows.
    beta: `1 / eta` of the paper, per nat, > 0; larger asks for smaller log-ratios.

  Returns:
    loss: f32[B], one value per pair, in squared nats, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = sppo(logp, ref_logp, jnp.asarray([[0.9, 0.2]]), beta=0.1)
    >>> print(f"{loss[0]:.3f}")
    7.625

  Reference: Wu et al., "Self-Play Preference Optimization for Language Model Alignment" (2024),
  eq. 4.7, halved as in the authors' repository. Catalogue 1, section 2, `sppo`.
  """
  call.positive("sppo", beta=beta)
  ratio = log_ratios("sppo", logp, ref_logp)
  call.candidates("sppo", 2, reward=reward)
  chex.assert_equal_shape([logp, reward])
  target = (jax.lax.stop_gradient(reward) - 0.5) / beta
  loss = 0.5 * ((ratio - target) ** 2).sum(1)
  return loss, pair_rewards(beta * ratio) | pair_logps(logp)
