"""Losses of lists of candidates, on scores: what the public listwise objectives share.

`s` f32[B, K] are scores or rewards (0 on absent candidates), `relevance` f32[B, K] grades, larger
is better, `present` f32[B, K] is 0 for padded candidates. In matrices [B, K, K] the second axis is
a candidate, the third its rival. Nothing is sorted: an order is a matrix of who stands before whom,
so absent candidates drop out of value and gradient.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref.numerics import before, masked_logsumexp, masked_mean, places, safe_divide
from jaxpref.types import Refused

PAIRS = ("sum", "mean")


def check(name: str, **arrays) -> None:
  """Refuses arrays that are not lists of at least two candidates.

  Raises:
    Refused: says which array has which shape.
  """
  for array_name, array in arrays.items():
    if len(array.shape) != 2 or array.shape[1] < 2:
      raise Refused(
        f"{name} reads at least 2 candidates per situation; {array_name} has shape "
        f"{tuple(array.shape)} where [B, K] is expected."
      )
  chex.assert_equal_shape(list(arrays.values()))


def choice(name: str, knob: str, value: str, options) -> None:
  """Refuses a knob that is none of its words.

  Raises:
    Refused: lists the words.
  """
  if value not in options:
    raise Refused(f"{name} has no {knob}={value!r}; it has: {', '.join(options)}.")


def at_least_zero(name: str, **values) -> None:
  """Refuses knobs below 0.

  Raises:
    Refused: says which one.
  """
  for knob, value in values.items():
    if not value >= 0:
      raise Refused(f"{name} needs {knob} >= 0; it is {value}.")


def known(present, x):
  """`x`, and 0 for absent candidates, whatever stands there."""
  return jnp.where(present > 0, x, 0.0)


def rewards(logp, ref_logp, present, beta):
  """f32[B, K], implicit rewards; 0 for absent candidates."""
  return known(present, beta * (logp - jax.lax.stop_gradient(ref_logp)))


def others(present):
  """bool[B, K, K]: all other present candidates are rivals."""
  there = present > 0
  return there[:, :, None] & there[:, None, :] & ~jnp.eye(present.shape[1], dtype=bool)


def better(relevance, present):
  """bool[B, K, K]: the candidate's grade is above the rival's; equal grades are no pair."""
  return others(present) & (relevance[:, :, None] > relevance[:, None, :])


def ahead(s):
  """f32[B, K, K]: by how much the rival's score is above the candidate's."""
  return s[:, None, :] - s[:, :, None]


def losing(lead, rivals):
  r"""f32[B, K]: `-log` of the probability to be chosen before one's rivals, 0 without rivals.

  .. math:: \log\left(1 + \sum_{j \in \text{rivals}} e^{\text{lead}_{ij}}\right)
  """
  return jnp.where(rivals.any(-1), jax.nn.softplus(masked_logsumexp(lead, rivals)), 0.0)


def plackett_luce(s, relevance, present, top=0):
  """f32[B]: -log-probability of the order by relevance, or of its first `top` places."""
  loss = losing(ahead(s), before(relevance, present))
  return loss.sum(1) if top == 0 else (loss * (places(relevance, present) <= top)).sum(1)


def log_shares(x, present):
  """f32[B, K]: log-softmax over the present candidates; 0 for absent ones."""
  return known(present, known(present, x) - masked_logsumexp(x, present)[:, None])


def shares(x, present):
  """f32[B, K]: softmax over the present candidates; 0 for absent ones."""
  return known(present, jnp.exp(log_shares(x, present)))


def cross_entropy(s, weight, present):
  """f32[B]: minus the weighted sum of the log-softmax of the scores."""
  return (known(present, weight) * losing(ahead(s), others(present))).sum(1)


def over(value, pairs, how):
  """f32[B]: sum or mean over pairs of a matrix of losses; 0 where there is no pair."""
  total = jnp.where(pairs, value, 0.0).sum((1, 2))
  return total if how == "sum" else safe_divide(total, pairs.sum((1, 2)))


def logistic(s, relevance, present, weight=1.0, how="sum"):
  """f32[B]: logistic loss of the score differences over all pairs of different grades."""
  return over(weight * jax.nn.softplus(ahead(s)), better(relevance, present), how)


def gains(relevance, present):
  """f32[B, K]: `2^relevance - 1`, the gain of discounted cumulative gain."""
  return known(present, jnp.exp2(known(present, relevance)) - 1.0)


def gain_gaps(relevance, present):
  """f32[B, K, K]: how much the gains of two candidates differ."""
  return jnp.abs(ahead(gains(relevance, present)))


def discount_gaps(s, present):
  """f32[B, K, K]: how much `1 / log(1 + place)` differs, places by score; no gradient."""
  return jnp.abs(ahead(1.0 / jnp.log1p(places(jax.lax.stop_gradient(s), present))))


def report(s, relevance, present):
  """What listwise objectives report; with two candidates the numbers of `pair_rewards`.

  Returns:
    dict of pairs `(value, count)` of f32[B]: `rewards/mean` over the present candidates;
    `rewards/margins` and `rewards/accuracies` (strict) over all pairs of different grades. The
    count is 0 where there is nothing to average.
  """
  s, relevance, present = jax.lax.stop_gradient((s, relevance, present))
  pairs = better(relevance, present).astype(jnp.float32)
  margin = -ahead(s)
  some = (pairs.sum((1, 2)) > 0).astype(jnp.float32)
  right = (margin > 0).astype(jnp.float32)
  return {
    "rewards/mean": (masked_mean(s, present, 1), (present.sum(1) > 0).astype(jnp.float32)),
    "rewards/margins": (masked_mean(margin, pairs, (1, 2)), some),
    "rewards/accuracies": (masked_mean(right, pairs, (1, 2)), some),
  }
