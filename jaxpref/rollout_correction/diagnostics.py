"""How far trainer and sampler are apart, as numbers to log."""

from __future__ import annotations

import jax.numpy as jnp

from jaxpref.numerics import k3, masked_mean, safe_divide
from jaxpref.rollout_correction import ratio

LARGEST = 80.0  # nats per token; above 88 float32 overflows


def diagnostics(old_token_logp, sampler_token_logp, mask):
  r"""Distances and perplexities of trainer and sampler over a batch.

  .. math::
    k_1 = -\mathrm{mean}\,r,\ k_3 = \mathrm{mean}(e^r - 1 - r),\
    \chi^2 = \mathrm{mean}\,e^{2r} - 1,\ ESS = \frac{(\sum w)^2}{n \sum w^2}

  over counted tokens, and for `chi2_sequence` over sequences with their summed log-ratio.
  Perplexities and their ratios are means over sequences. An empty batch gives 0 (-1 for chi^2).
  Log-ratios are clamped to plus and minus 20 nats before exponentiation.

  Args:
    old_token_logp: f32[B, K, T], under the trainer's policy, nats.
    sampler_token_logp: f32[B, K, T], as the engine gave it, nats; nan is left out as ratio 1.
    mask: f32[B, K, T], 1 on tokens that count.

  Returns:
    metrics: dict of f32[]: `kl`, `k3_kl`, `training_ppl`, `training_log_ppl`, `rollout_ppl`,
      `rollout_log_ppl`, `log_ppl_diff`, `log_ppl_abs_diff`, `log_ppl_diff_max`,
      `log_ppl_diff_min`, `ppl_ratio`, `chi2_token`, `chi2_seq`, `ess`, `max_weight`.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(diagnostics(-one, -one, one)["ppl_ratio"])
    1.0

  Reference: verl, `rollout_corr_helper` (2025). Catalogue 2, section 6.
  """
  counted = (mask > 0).astype(jnp.float32)
  alive = counted.any(-1).astype(jnp.float32)
  log_ratio = ratio.log_ratio(old_token_logp, sampler_token_logp, mask)
  trainer = -masked_mean(old_token_logp, counted, axis=-1)  # log-perplexity of each sequence
  difference = masked_mean(log_ratio, counted, axis=-1)
  sampler = trainer + difference
  return (
    _token_numbers(log_ratio, counted)
    | _perplexities(trainer, sampler, -difference, alive)
    | {"chi2_seq": masked_mean(ratio.exp(log_ratio.sum(-1)) ** 2, alive) - 1.0}
  )


def _token_numbers(log_ratio, counted):
  weight = ratio.exp(log_ratio) * counted
  clamped = jnp.clip(log_ratio, -ratio.INPUT, ratio.INPUT)
  squares = (weight**2).sum()
  return {
    "kl": masked_mean(-log_ratio, counted),
    "k3_kl": masked_mean(k3(clamped), counted),
    "chi2_token": masked_mean(weight**2, counted) - 1.0,
    "ess": safe_divide(weight.sum() ** 2, counted.sum() * squares),
    "max_weight": weight.max(),
  }


def _perplexities(trainer, sampler, excess, alive):
  """`excess` is the trainer's log-perplexity minus the sampler's."""
  some = alive.any()
  return {
    "training_ppl": masked_mean(jnp.exp(jnp.minimum(trainer, LARGEST)), alive),
    "training_log_ppl": masked_mean(trainer, alive),
    "rollout_ppl": masked_mean(jnp.exp(jnp.minimum(sampler, LARGEST)), alive),
    "rollout_log_ppl": masked_mean(sampler, alive),
    "log_ppl_diff": masked_mean(excess, alive),
    "log_ppl_abs_diff": masked_mean(jnp.abs(excess), alive),
    "log_ppl_diff_max": jnp.where(some, jnp.where(alive > 0, excess, -jnp.inf).max(), 0.0),
    "log_ppl_diff_min": jnp.where(some, jnp.where(alive > 0, excess, jnp.inf).min(), 0.0),
    "ppl_ratio": masked_mean(ratio.exp(excess), alive),
  }
