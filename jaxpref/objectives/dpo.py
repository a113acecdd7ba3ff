"""Direct preference optimisation and its label-smoothed form."""

from __future__ import annotations

import chex
import jax

from jaxpref import call
from jaxpref.numerics import pair_logps, pair_rewards
from jaxpref.types import Refused


def dpo(logp, ref_logp, *, beta: float = 0.1, gamma: float = 1.0):
  r"""Direct preference optimisation: logistic loss on the implicit-reward margin.

  With log-ratios `a = logp_0 - gamma * ref_logp_0` (preferred) and
  `b = logp_1 - gamma * ref_logp_1`

  .. math:: \ell = -\log \sigma(\beta (a - b))

  It is log 2 where the policy equals the reference. Log-probabilities are sums over response
  tokens. It never stops pushing: the gradient in `a - b` has one sign. `gamma = 1` is DPO;
  `gamma = 0` drops the reference. On two samples of the policy, the one that a judge or a reward
  prefers first, it is online DPO.

  Step-DPO is this function on other data: the prompt holds the correct steps that both responses
  share, and only the first step in which they differ counts, by the mask (`beta` 0.4 to 0.5).

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    gamma: how much of the reference's margin counts.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - gamma * ref_logp)`, and `logps/*`
      of f32[B], nats.

  Raises:
    Refused: not two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = dpo(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]))
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Rafailov et al., "Direct Preference Optimization: Your Language Model is Secretly a
  Reward Model" (2023), eq. 7. Catalogue 1, section 2, `dpo`; section 6, `online_dpo`: Guo et al.,
  "Direct Language Model Alignment from Online AI Feedback" (2024). For `gamma`: Chen et al.,
  "Preference Learning Algorithms Do Not Learn Preference Rankings" (2024); card pref_ranking,
  equation 5 (its code calls gamma `alpha_scaling`). For steps: Lai et al., "Step-DPO: Step-wise
  Preference Optimization for Long-chain Reasoning of LLMs" (2024); catalogue 1, section 2,
  `step_dpo`.
  """
  call.positive("dpo", beta=beta)
  reward = _reward("dpo", logp, ref_logp, beta, gamma)
  margin = reward[:, 0] - reward[:, 1]
  return jax.nn.softplus(-margin), pair_rewards(reward) | pair_logps(logp)


def cdpo(logp, ref_logp, *, beta: float = 0.1, label_smoothing: float = 0.2):
  r"""Conservative DPO: cross-entropy against labels that are wrong with a known probability.

  With log-ratios `a = logp_0 - ref_logp_0` (preferred), `b = logp_1 - ref_logp_1` and
  `e = label_smoothing`

  .. math:: \ell = -(1-e) \log \sigma(\beta (a - b)) - e \log \sigma(-\beta (a - b))

  It is smallest where `sigma(beta (a - b)) = 1 - e`, so the margin stops growing. `e = 0` is DPO;
  at `e = 0.5` the order of the pair no longer matters.

  Args:
    logp: f32[B, 2], summed log-probability of each response under the policy, nats.
    ref_logp: f32[B, 2], the same under the reference; no gradient flows.
    beta: reward units per nat of log-ratio, > 0; larger stays nearer to the reference.
    label_smoothing: probability that a label is wrong, 0 to 0.5. The default is that of the
      HALOs repository; the note gives none.

  Returns:
    loss: f32[B], one value per pair, not reduced.
    metrics: `rewards/*` of f32[B], with reward `beta * (logp - ref_logp)`, and `logps/*` of f32[B],
      nats.

  Raises:
    Refused: not two candidates, `beta` not above 0, or `label_smoothing` outside 0 to 0.5.

  Example:
    >>> logp, ref_logp = jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]])
    >>> loss, _ = cdpo(logp, ref_logp, label_smoothing=0.1)
    >>> print(f"{loss[0]:.6f}")
    0.635957

  Reference: Mitchell, "A note on DPO with noisy preferences and relationship to IPO" (2023).
  Catalogue 1, section 2, `cdpo`.
  """
  call.positive("cdpo", beta=beta)
  if not 0 <= label_smoothing <= 0.5:
    raise Refused(f"cdpo needs label_smoothing from 0 to 0.5; it is {label_smoothing}.")
  reward = _reward("cdpo", logp, ref_logp, beta, 1.0)
  margin = reward[:, 0] - reward[:, 1]
  right, wrong = jax.nn.softplus(-margin), jax.nn.softplus(margin)
  loss = (1 - label_smoothing) * right + label_smoothing * wrong
  return loss, pair_rewards(reward) | pair_logps(logp)


def _reward(name, logp, ref_logp, beta, gamma):
  """f32[B, 2], the implicit reward; refuses what is not a pair."""
  call.candidates(name, 2, logp=logp, ref_logp=ref_logp)
  chex.assert_equal_shape([logp, ref_logp])
  return beta * (logp - gamma * jax.lax.stop_gradient(ref_logp))
