"""Robust DPO: the loss that is right on average where labels are flipped at random."""

from __future__ import annotations

import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.objectives.ratios import log_ratios
from jaxpref.types import Refused


def rdpo_robust(logp, ref_logp, *, beta: float = 0.1, label_smoothing: float = 0.1):
  r"""Robust DPO: DPO's loss, corrected so that flipped labels change it only by noise.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1`, `h = a - b` and
  `e = label_smoothing`

  .. math::
    \ell = \frac{-(1-e) \log \sigma(\beta h) + e \log \sigma(-\beta h)}{1 - 2e}

  Its mean over labels that are flipped with probability `e` is DPO's loss on the right labels. It
  can be negative and has no lower bound; `e = 0` is DPO, and it has no value at `e = 0.5`. It is
  log 2 where the policy equals the reference.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    label_smoothing: probability that a label is wrong, at least 0 and below 0.5.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `label_smoothing` outside its range.

  Example:
    >>> loss, _ = rdpo_robust(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    0.602207

  Reference: Ray Chowdhury et al., "Provably Robust DPO: Aligning Language Models with Noisy
  Feedback" (2024). Catalogue 1, section 2, `rdpo_robust`.
  """
  call.positive("rdpo_robust", beta=beta)
  if not 0 <= label_smoothing < 0.5:
    raise Refused(
      f"rdpo_robust needs label_smoothing of at least 0 and below 0.5; it is {label_smoothing}."
    )
  reward = beta * log_ratios("rdpo_robust", logp, ref_logp)
  margin = reward[:, 0] - reward[:, 1]
  right, wrong = jax.nn.softplus(-margin), jax.nn.softplus(margin)
  loss = ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)
  return loss, pair_rewards(reward) | pair_logps(logp)
