"""Labels that may be wrong: expectation-maximisation weights around any pair objective."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from jaxpref import call, vocabulary
from jaxpref.types import Refused

SURROGATES = ("gibbs", "weighted")
FLOOR = 1e-6  # the reliability stays this far from 0 and 1
PRESENT = 1e-6  # least reported posterior: 0 means that an annotator is not in the batch


def lcpo(
  base,
  *,
  start: float = 0.9,
  rate: float = 0.1,
  annotators: int = 1,
  surrogate: str = "gibbs",
):
  r"""Latent collective preference optimisation: learns how reliable each annotator's labels are.

  With `A` the base's loss of the pair as labelled, `B` that of the pair with its responses
  exchanged, `D = B - A`, and `eta` the reliability of the pair's annotator (a memory)

  .. math:: q = \sigma(D), \quad w = \sigma(D + \mathrm{logit}\,\eta), \quad
     \ell = -w \log q - (1 - w) \log(1 - q)

  without gradient in `w`, the probability that the label is right. After each update
  `eta <- (1 - rate) eta + rate mean(w)` for every annotator in the batch. Around `dpo`, `eta = 1`
  is DPO and `eta = 0.5` gives no gradient. For bases that are no log-likelihood (`ipo`, `cpo`,
  `simpo` with a margin) the loss at `w = 1` is `-log sigma(D)`, not the base's: that is the
  paper's; `surrogate="weighted"` takes `w A + (1 - w) B` instead, which keeps the base. Where a
  model memorises its pairs, `eta` locks at 1: watch `lcpo/reliability`.

  Args:
    base: a pair objective with one loss per pair and no memory.
    start: reliability before the first step, 0 to 1.
    rate: share of a batch in the running mean, 0 to 1; 1 takes the batch alone.
    annotators: how many there are. Above 1 the objective reads `who`, numbered from 0; larger
      numbers count as the last.
    surrogate: gibbs (the paper's) or weighted.

  Returns:
    The objective; it reads what the base reads, `carry` f32[annotators] and perhaps `who` i32[B].
    It adds the metrics `lcpo/reliability` and `lcpo/posterior` (w) of f32[B], and for several
    annotators `lcpo/posterior_<k>`, the mean over the pairs of annotator k (0: none).

  Raises:
    Refused: a knob out of range, a base with a memory of its own, or not two candidates.

  Example:
    >>> from jaxpref.objectives import dpo
    >>> robust = lcpo(dpo)
    >>> call.needs(robust)
    ('logp', 'ref_logp', 'carry')
    >>> same = jnp.zeros((1, 2))
    >>> loss, metrics = robust(same, same, robust.init_carry())
    >>> print(f"{loss[0]:.6f} {metrics['lcpo/posterior'][0]:.1f}")
    0.693147 0.9

  Reference: Cao et al., "Latent Collective Preference Optimization: A General Framework for Robust
  LLM Alignment" (2025), eqs. 2 to 7 (card: papers/lcpo.md).
  """
  _check(base, start, rate, annotators, surrogate)
  several = annotators > 1
  names = list(dict.fromkeys([*call.needs(base), *(["who"] if several else []), "carry"]))

  def objective(inner, arrays):
    shown = {n: x for n, x in arrays.items() if _follows(n)}
    call.candidates("lcpo", 2, **shown)
    loss, metrics = call.feed(inner, arrays)
    exchanged = {n: x[:, ::-1] for n, x in shown.items()}
    if "label" in arrays:
      exchanged["label"] = 1 - arrays["label"]
    other, _ = call.feed(inner, arrays | exchanged)
    chex.assert_rank([loss, other], 1)
    who = jnp.clip(arrays["who"], 0, annotators - 1) if several else jnp.zeros(loss.shape, int)
    reliability = jax.lax.stop_gradient(jnp.clip(arrays["carry"], FLOOR, 1 - FLOOR))[who]
    delta = other - loss
    logit = jnp.log(reliability) - jnp.log1p(-reliability)
    w = jax.lax.stop_gradient(jax.nn.sigmoid(delta + logit))
    if surrogate == "weighted":
      total = w * loss + (1 - w) * other
    else:
      total = w * jax.nn.softplus(-delta) + (1 - w) * jax.nn.softplus(delta)
    metrics |= {"lcpo/reliability": reliability, "lcpo/posterior": jnp.maximum(w, PRESENT)}
    for k in range(annotators if several else 0):
      own = (who == k).astype(jnp.float32)
      metrics[f"lcpo/posterior_{k}"] = (jnp.maximum(w, PRESENT), own)
    return total, metrics

  def init_carry():
    return jnp.full(annotators, start, jnp.float32)

  def next_carry(carry, metrics):
    found = [f"lcpo/posterior_{k}" for k in range(annotators)] if several else ["lcpo/posterior"]
    mean = jnp.stack([metrics[name] for name in found])
    return jnp.where(mean > 0, (1 - rate) * carry + rate * mean, carry)

  return call.wrapped(base, objective, names, init_carry=init_carry, next_carry=next_carry)


def _check(base, start, rate, annotators, surrogate):
  for name, value in (("start", start), ("rate", rate)):
    if not 0 <= value <= 1:
      raise Refused(f"lcpo needs {name} from 0 to 1; it is {value}.")
  call.positive("lcpo", annotators=annotators)
  if surrogate not in SURROGATES:
    raise Refused(
      f"lcpo has no surrogate {surrogate!r}. {call.nearest(surrogate, SURROGATES)}"
      f"It has: {', '.join(SURROGATES)}."
    )
  if "carry" in call.needs(base):
    raise Refused(f"lcpo keeps a memory and so does {base.__name__}; give it a base without one.")


def _follows(name):
  """Whether an array belongs to the responses, and is exchanged with them."""
  outcome = vocabulary.plain(name) in ("relevance", "reward")
  return vocabulary.axes(name)[:2] == ("B", "K") and not outcome
