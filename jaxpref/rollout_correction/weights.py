"""Importance weights of trainer over sampler: truncated, masked, per token or per sequence."""

from __future__ import annotations

import jax.numpy as jnp

from jaxpref import call
from jaxpref.numerics import masked_mean, safe_divide
from jaxpref.rollout_correction import ratio


def _token(old_token_logp, sampler_token_logp, mask):
  return ratio.exp(ratio.log_ratio(old_token_logp, sampler_token_logp, mask))


def _sequence(old_token_logp, sampler_token_logp, mask):
  total = ratio.log_ratio(old_token_logp, sampler_token_logp, mask).sum(-1, keepdims=True)
  return jnp.broadcast_to(ratio.exp(total), mask.shape)


def _inside(weight, low, high):
  return jnp.where((weight >= low) & (weight <= high), weight, 0.0)


def _over_tokens(name, weight, mask, normalise):
  """On counted tokens, and with mean 1 over those of the batch where asked."""
  call.one_of(name, ("none", "batch"), normalise=normalise)
  weight = jnp.where(mask > 0, weight, 0.0)
  return safe_divide(weight, masked_mean(weight, mask)) if normalise == "batch" else weight


def _over_sequences(name, weight, mask, normalise):
  """As `_over_tokens`, with mean 1 over the sequences of the batch that have tokens."""
  call.one_of(name, ("none", "batch"), normalise=normalise)
  if normalise == "batch":
    alive = (mask > 0).any(-1).astype(jnp.float32)
    weight = safe_divide(weight, masked_mean(weight.max(-1), alive))
  return jnp.where(mask > 0, weight, 0.0)


def token_tis(
  old_token_logp, sampler_token_logp, mask, *, cap: float = 2.0, normalise: str = "none"
):
  r"""Truncated importance sampling per token.

  .. math:: w_t = \min(\pi_{old} / \pi_{sampler}, C)

  A token without a sampler's log-probability (nan) has weight 1.

  Args:
    old_token_logp: f32[B, K, T], under the trainer's policy, nats.
    sampler_token_logp: f32[B, K, T], as the engine gave it, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    cap: `C`, > 0.
    normalise: `batch` divides by the mean over the batch's tokens, `none` does not.

  Returns:
    weight: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `cap` not above 0, or `normalise` another word.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(token_tis(jnp.asarray([[[-1.0, -1.0]]]), jnp.asarray([[[-1.0, -9.0]]]), one))
    [[[1. 2.]]]

  Reference: Yao et al., "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"
  (2025). Catalogue 2, section 6.
  """
  call.positive("token_tis", cap=cap)
  weight = jnp.minimum(_token(old_token_logp, sampler_token_logp, mask), cap)
  return _over_tokens("token_tis", weight, mask, normalise)


def token_mis(
  old_token_logp,
  sampler_token_logp,
  mask,
  *,
  low: float = 0.5,
  high: float = 2.0,
  normalise: str = "none",
):
  r"""Masked importance sampling per token (IcePop): 0 outside of two bounds.

  .. math:: w_t = \rho_t\,[low \le \rho_t \le high], \quad \rho_t = \pi_{old} / \pi_{sampler}

  Arguments, nan and return as in `token_tis`.

  Args:
    old_token_logp: f32[B, K, T], under the trainer's policy, nats.
    sampler_token_logp: f32[B, K, T], as the engine gave it, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    low: smallest ratio that stays.
    high: largest ratio that stays.
    normalise: `batch` divides by the mean over the batch's tokens, `none` does not.

  Returns:
    weight: f32[B, K, T], no gradient, 0 outside the mask.

  Raises:
    Refused: `normalise` is another word.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(token_mis(jnp.asarray([[[-1.0, -1.0]]]), jnp.asarray([[[-1.0, -9.0]]]), one))
    [[[1. 0.]]]

  Reference: Ling Team, "Every Step Evolves" (2025), IcePop. Catalogue 2, section 6.
  """
  weight = _inside(_token(old_token_logp, sampler_token_logp, mask), low, high)
  return _over_tokens("token_mis", weight, mask, normalise)


def sequence_tis(
  old_token_logp, sampler_token_logp, mask, *, cap: float = 2.0, normalise: str = "none"
):
  r"""Truncated importance sampling per sequence.

  .. math:: w_{it} = \min\Big(\exp \sum_s (\log\pi_{old} - \log\pi_{sampler})_{is}, C\Big)

  The sum is clamped to plus and minus 20 nats. Nan as in `token_tis`.

  Args:
    old_token_logp: f32[B, K, T], under the trainer's policy, nats.
    sampler_token_logp: f32[B, K, T], as the engine gave it, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    cap: `C`, > 0.
    normalise: `batch` divides by the mean over the batch's sequences, `none` does not.

  Returns:
    weight: f32[B, K, T], equal on all tokens of a sequence, no gradient, 0 outside the mask.

  Raises:
    Refused: `cap` not above 0, or `normalise` another word.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(*(f"{w:.3f}" for w in sequence_tis(-one, -one - 0.25, one)[0, 0]))
    1.649 1.649

  Reference: Liu et al., "When Speed Kills Stability" (2025). Catalogue 2, section 6.
  """
  call.positive("sequence_tis", cap=cap)
  weight = jnp.minimum(_sequence(old_token_logp, sampler_token_logp, mask), cap)
  return _over_sequences("sequence_tis", weight, mask, normalise)


def sequence_mis(
  old_token_logp,
  sampler_token_logp,
  mask,
  *,
  low: float = 0.0,
  high: float = 3.0,
  normalise: str = "none",
):
  r"""Masked importance sampling per sequence: 0 outside of two bounds.

  .. math:: w_{it} = \rho_i\,[low \le \rho_i \le high], \quad
    \rho_i = \exp \sum_s (\log\pi_{old} - \log\pi_{sampler})_{is}

  Clamp and nan as in `sequence_tis`.

  Args:
    old_token_logp: f32[B, K, T], under the trainer's policy, nats.
    sampler_token_logp: f32[B, K, T], as the engine gave it, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    low: smallest ratio that stays.
    high: largest ratio that stays.
    normalise: `batch` divides by the mean over the batch's sequences, `none` does not.

  Returns:
    weight: f32[B, K, T], equal on all tokens of a sequence, no gradient, 0 outside the mask.

  Raises:
    Refused: `normalise` is another word.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(sequence_mis(-one, -one - 2.0, one))
    [[[0. 0.]]]

  Reference: Liu et al., "When Speed Kills Stability" (2025). Catalogue 2, section 6.
  """
  weight = _inside(_sequence(old_token_logp, sampler_token_logp, mask), low, high)
  return _over_sequences("sequence_mis", weight, mask, normalise)


def sequence_tis_filter(
  old_token_logp, sampler_token_logp, mask, *, low: float = 0.99, high: float = 1.001
):
  r"""Token ratios of sequences whose geometric mean ratio lies within two bounds, else 0.

  .. math:: w_{it} = \rho_{it}\,[low \le \exp \mathrm{mean}_s \log\rho_{is} \le high]

  The tokens' ratios are not truncated. Nan as in `token_tis`.

  Args:
    old_token_logp: f32[B, K, T], under the trainer's policy, nats.
    sampler_token_logp: f32[B, K, T], as the engine gave it, nats.
    mask: f32[B, K, T], 1 on tokens that count.
    low: smallest geometric mean that stays.
    high: largest geometric mean that stays.

  Returns:
    weight: f32[B, K, T], no gradient, 0 outside the mask.

  Example:
    >>> one = jnp.ones((1, 1, 2))
    >>> print(sequence_tis_filter(-one, -one - 2.0, one))
    [[[0. 0.]]]

  Reference: OpenRLHF, `seq-mask-tis` (2025). Catalogue 2, section 6.
  """
  log_ratio = ratio.log_ratio(old_token_logp, sampler_token_logp, mask)
  mean = ratio.exp(masked_mean(log_ratio, mask, axis=-1))[..., None]
  kept = (mask > 0) & (mean >= low) & (mean <= high)
  return jnp.where(kept, ratio.exp(log_ratio), 0.0)
