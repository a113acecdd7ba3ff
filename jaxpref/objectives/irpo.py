"""In-context ranking preference optimisation and S-DPO: an item against all others at once."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import average_logp, masked_logsumexp, safe_divide
from jaxpref.objectives import _lists

GAINS, DISCOUNTS, RIVALS = ("exponential", "none"), ("log", "inverse"), ("mean", "sum")


def irpo(
  logp,
  ref_logp,
  length,
  relevance,
  rank,
  present,
  *,
  beta: float = 1.0,
  gain: str = "exponential",
  discount: str = "log",
  rivals: str = "mean",
):
  r"""In-context ranking preference optimisation: NDCG-weighted comparisons of an item with all.

  With log-ratios per token `r = (logp - ref_logp) / length` of N items and weights
  `w = (2^relevance - 1) / log_2(1 + rank)`

  .. math::
    \ell = \frac{1}{N} \sum_i w_i \log\Big(1 + \frac{1}{N-1} \sum_{j \ne i}
      e^{\beta (r_j - r_i)}\Big)

  Items of relevance 0 only appear as rivals; a list without relevant items, or with one item, has
  loss 0. With two items of which the first is relevant and ranked first it is half of DPO.
  `rank` is the place in the feedback, not in a shuffled context. The authors' code leaks
  `e^{-100 beta}` of the item itself into its rivals; we do not.

  Args:
    logp: f32[B, K], summed log-probability of each item under the policy, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    length: f32[B, K], tokens of the item.
    relevance: f32[B, K], grades from 0.
    rank: f32[B, K], place in the list of feedback, 1 is the top; below 1 counts as 1.
    present: f32[B, K], 0 for padded items, which are ignored.
    beta: reward units per nat per token, > 0.
    gain: `"exponential"`, or `"none"` for a gain of 1 (the paper's first ablation).
    discount: `"log"`, or `"inverse"` for `1 / rank` (the paper's second ablation).
    rivals: `"mean"` as in the authors' code, or `"sum"`, without the factor `1 / (N-1)`.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B], with reward `beta * r`.

  Raises:
    Refused: fewer than two candidates, `beta` not above 0, or an unknown word.

  Example:
    >>> one = jnp.ones((1, 2))
    >>> loss, _ = irpo(jnp.asarray([[1.0, 0.0]]), 0 * one, one, jnp.asarray([[1.0, 0.0]]),
    ...   jnp.asarray([[1.0, 2.0]]), one)
    >>> print(f"{loss[0]:.6f}")
    0.156631

  Reference: Wu et al., "In-context Ranking Preference Optimization" (2025); card irpo, section 3.
  """
  call.positive("irpo", beta=beta)
  for knob, value, words in (("gain", gain, GAINS), ("discount", discount, DISCOUNTS)):
    _lists.choice("irpo", knob, value, words)
  _lists.choice("irpo", "rivals", rivals, RIVALS)
  arrays = {"logp": logp, "ref_logp": ref_logp, "length": length}
  _lists.check("irpo", **arrays, relevance=relevance, rank=rank, present=present)
  length = _lists.known(present, length)
  mean, ref_mean = (average_logp(_lists.known(present, x), length) for x in (logp, ref_logp))
  s = _lists.rewards(mean, ref_mean, present, beta)
  count = (present > 0).sum(1)
  against = _lists.others(present)
  z = masked_logsumexp(_lists.ahead(s), against)
  if rivals == "mean":
    z = z - jnp.log(jnp.maximum(count - 1.0, 1.0))[:, None]
  lost = jnp.where(against.any(2), jax.nn.softplus(z), 0.0)
  loss = safe_divide((_weight(relevance, rank, present, gain, discount) * lost).sum(1), count)
  return loss, _lists.report(s, relevance, present)


def s_dpo(logp, ref_logp, present, *, beta: float = 1.0):
  r"""S-DPO: DPO of one preferred response against several others at once.

  With implicit rewards `r = beta (logp - ref_logp)`, the preferred response at index 0

  .. math:: \ell = -\log \sigma\Big(-\log \sum_{j > 0} e^{r_j - r_0}\Big)

  With one other response it is DPO. It is log K where the policy equals the reference.

  Args:
    logp: f32[B, K], summed log-probability of each response, preferred first, nats.
    ref_logp: f32[B, K], the same under the reference; no gradient flows.
    present: f32[B, K], 0 for padded candidates, which are ignored.
    beta: reward units per nat of log-ratio, > 0.

  Returns:
    loss: f32[B], one value per list, not reduced.
    metrics: `rewards/mean`, `rewards/margins`, `rewards/accuracies`, pairs `(value, count)` of
      f32[B], over the pairs with the preferred response.

  Raises:
    Refused: fewer than two candidates, or `beta` not above 0.

  Example:
    >>> loss, _ = s_dpo(jnp.asarray([[-10.0, -12.0]]), jnp.asarray([[-11.0, -11.5]]),
    ...   jnp.ones((1, 2)), beta=0.1)
    >>> print(f"{loss[0]:.6f}")
    0.620957

  Reference: Chen et al., "On Softmax Direct Preference Optimization for Recommendation" (2024);
  card irpo, section 3.
  """
  call.positive("s_dpo", beta=beta)
  _lists.check("s_dpo", logp=logp, ref_logp=ref_logp, present=present)
  s = _lists.rewards(logp, ref_logp, present, beta)
  first = jnp.zeros_like(s).at[:, 0].set(1.0)
  lost = _lists.losing(_lists.ahead(s), _lists.others(present))
  return lost[:, 0], _lists.report(s, first, present)


def _weight(relevance, rank, present, gain, discount):
  """f32[B, K], NDCG's weight of each item; no gradient."""
  rank = jnp.maximum(_lists.known(present, rank), 1.0)
  below = jnp.log2(1.0 + rank) if discount == "log" else rank
  top = _lists.gains(relevance, present) if gain == "exponential" else _lists.known(present, 1.0)
  return jax.lax.stop_gradient(top / below)
