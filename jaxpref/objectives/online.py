"""Pair objectives of iterated training: SPIN, REBEL and INPO."""

from __future__ import annotations

import chex
import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios
from jaxpref.types import Refused

LINKS = ("logistic", "hinge")


def spin(logp, ref_logp, *, beta: float = 0.1, link: str = "logistic"):
  r"""Self-play fine-tuning: human text is preferred to what the previous iterate wrote.

  With log-ratios `a = logp_0 - ref_logp_0` (human) and `b = logp_1 - ref_logp_1` (generated)

  .. math:: \ell = f(\beta (a - b)), \quad f(t) = -\log \sigma(t) \text{ or } \max(0, 1 - t)

  The formula is DPO's (or `hinge`); what differs is the data: the reference is the previous
  iterate, and it also wrote the second response. Log 2 (hinge: 1) at the start of each iteration.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the previous iterate; no gradient flows.
    beta: the paper's lambda: reward units per nat of log-ratio, > 0.
    link: `f`, `"logistic"` or `"hinge"`.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, `beta` not above 0, or an unknown `link`.

  Example:
    >>> loss, _ = spin(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Chen et al., "Self-Play Fine-Tuning Converts Weak Language Models to Strong Language
  Models" (2024), eq. 4.7; the hinge is its repository's. Catalogue 1, section 2, `spin`.
  """
  call.positive("spin", beta=beta)
  if link not in LINKS:
    raise Refused(f"spin has no link {link!r}. {call.nearest(link, LINKS)}It has: {LINKS}.")
  reward = beta * log_ratios("spin", logp, ref_logp)
  margin = reward[:, 0] - reward[:, 1]
  loss = jax.nn.softplus(-margin) if link == "logistic" else jax.nn.relu(1 - margin)
  return loss, pair_rewards(reward) | pair_logps(logp)


def rebel(logp, ref_logp, reward, *, eta: float = 1.0):
  r"""REBEL: the margin of log-ratios is regressed on the difference of rewards.

  With log-ratios `a = logp_0 - ref_logp_0` and `b = logp_1 - ref_logp_1` to the previous policy

  .. math:: \ell = \left(\frac{a - b}{\eta} - (r_0 - r_1)\right)^2

  where `r = reward`. Which response comes first does not matter. It is the squared reward gap where
  the policy equals the reference.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the policy that wrote the responses; no gradient flows.
    reward: f32[B, 2], reward of each response; no gradient flows.
    eta: nats per unit of reward, > 0; smaller stays nearer to the previous policy.

  Returns:
    loss: f32[B], one value per pair, in squared reward units, not reduced.
    metrics: `rewards/*` of f32[B], with the implicit reward `(logp - ref_logp) / eta`, and
      `logps/*` of f32[B], nats.

  Raises:
    Refused: not two candidates, or `eta` not above 0.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = rebel(logp, ref_logp, jnp.asarray([[1.0, 0.2]]))
    >>> print(f"{loss[0]:.2f}")
    0.49

  Reference: Gao et al., "REBEL: Reinforcement Learning via Regressing Relative Rewards" (2024).
  Catalogue 1, section 2, `rebel`.
  """
  call.positive("rebel", eta=eta)
  own = log_ratios("rebel", logp, ref_logp) / eta
  call.candidates("rebel", 2, reward=reward)
  chex.assert_equal_shape([logp, reward])
  reward = jax.lax.stop_gradient(reward)
  loss = ((own[:, 0] - own[:, 1]) - (reward[:, 0] - reward[:, 1])) ** 2
  return loss, pair_rewards(own) | pair_logps(logp)


def inpo(logp, ref_logp, old_logp, *, eta: float = 0.0075, tau: float = 0.0025):
  r"""Iterative Nash policy optimisation: a fixed margin against reference and last iterate.

  With margins `m = logp_0 - logp_1` (preferred first), `n` the same of `ref_logp` and `q` the same
  of `old_logp`

  .. math::
    \ell = \left(m - \frac{\tau}{\eta} n - \frac{\eta - \tau}{\eta} q - \frac{1}{2\eta}\right)^2

  `tau = eta` drops the last iterate and is `ipo_sum` with `beta = eta`. It is `1 / (4 eta^2)` where
  the policy equals both.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    old_logp: f32[B, 2], the same under the previous iterate; no gradient flows.
    eta: step of the mirror descent, per nat, > 0; larger asks for a smaller margin.
    tau: pull towards the reference, from 0 to `eta`; a third of `eta` by default.

  Returns:
    loss: f32[B], one value per pair, in squared nats, not reduced.
    metrics: `rewards/*` of f32[B], with reward `eta * logp - tau * ref_logp - (eta - tau) *
      old_logp`, whose margin is drawn to 1/2, and `logps/*` of f32[B], nats.

  Raises:
    Refused: not two candidates, `eta` not above 0, or `tau` outside 0 to `eta`.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = inpo(logp, ref_logp, jnp.asarray([[-10.5, -12.0]]), eta=0.1, tau=0.05)
    >>> print(f"{loss[0]:.2f}")  # (2 - 0.5 * 0.5 - 0.5 * 1.5 - 5)^2
    16.00

  Reference: Zhang et al., "Iterative Nash Policy Optimization: Aligning LLMs with General
  Preferences via No-Regret Learning" (2024). Catalogue 1, section 2, `inpo`.
  """
  call.positive("inpo", eta=eta)
  if not 0 <= tau <= eta:
    raise Refused(f"inpo needs tau from 0 to eta={eta}; it is {tau}.")
  ratio = log_ratios("inpo", logp, ref_logp)
  old_ratio = log_ratios("inpo", logp, old_logp)
  reward = tau * ratio + (eta - tau) * old_ratio
  loss = ((reward[:, 0] - reward[:, 1]) / eta - 1 / (2 * eta)) ** 2
  return loss, pair_rewards(reward) | pair_logps(logp)
