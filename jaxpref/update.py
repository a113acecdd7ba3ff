"""One optimizer step: the gradient of all terms over the whole batch, and the update rules.

`grad_fn(params, carry, batch, key) -> (grads, metrics)` is already summed over micro-batches: the
weights of the reduction are made first, from the masks of the whole batch, so splitting the batch
only splits a sum. An update rule composes it: `f(grad_fn, tx, state, batch, *, knobs)`.
"""

from __future__ import annotations

import functools
import sys
import zlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpref import call, optim, reduce
from jaxpref.numerics import safe_divide
from jaxpref.sharding import BATCH, shard
from jaxpref.types import Refused, TrainState

_OWN = "own/"  # prefix of the metrics that memories are made from; not reported


class Term(NamedTuple):
  """One weighted term of the loss: a bound objective and how it is reduced."""

  name: str
  fn: Callable
  weight: float
  mode: str
  constant: float


def fold(key, purpose: str, step=0):
  """The key of one purpose at one step; the same in every process."""
  return jax.random.fold_in(jax.random.fold_in(key, zlib.crc32(purpose.encode())), step)


def coupled(fn) -> bool:
  """Whether an objective couples situations under the gradient (`COUPLED = True` in its file)."""
  return bool(getattr(sys.modules[fn.__module__], "COUPLED", False))


def init_carry(terms) -> dict:
  """`{term: carry}` for the terms that read `carry`, from `init_carry(*, knobs)` of their file.

  A wrapper with memory brings the two functions along, as attributes of the objective.
  """
  return {t.name: _memory(t, "init_carry")() for t in terms if "carry" in call.needs(t.fn)}


def _memory(term, name):
  if hasattr(term.fn, name):
    return getattr(term.fn, name)
  fn = getattr(sys.modules[term.fn.__module__], name, None)
  if fn is None:
    raise Refused(f"{term.fn.__name__} reads carry, but {term.fn.__module__} has no {name}.")
  values = call.knobs(term.fn)
  return functools.partial(fn, **{k: values[k] for k in call.knobs(fn)})


def make_grad_fn(terms, measure, want, microbatches: int = 1):
  """The gradient of the weighted sum of all terms, over a whole batch.

  Args:
    terms: tuple of `Term`.
    measure: `f(params, batch, want, key) -> arrays`, the model.
    want: names that the terms read from the model.
    microbatches: parts that the batch is split into, one after another; changes memory only.

  Returns:
    `grad_fn(params, carry, batch, key) -> (grads, metrics)`. metrics holds f32[] means over the
    whole batch, `loss`, `loss/<term>` where there are several terms, and `nonfinite` bool[B],
    which rows made a loss that is not finite.

  Raises:
    Refused: an objective that couples situations, with `microbatches` > 1.
  """
  for term in terms:
    if microbatches > 1 and coupled(term.fn):
      raise Refused(f"{term.fn.__name__} couples the examples of a batch: set microbatches=1.")

  def grad_fn(params, carry, batch, key):
    weights = _weights(terms, batch, measure, params, carry, want)
    loss = functools.partial(_loss, terms, measure, want, carry, key)
    grad = jax.value_and_grad(loss, has_aux=True)
    if microbatches == 1:
      (total, (sums, bad)), grads = grad(params, batch, weights)
      return grads, _means(total, sums, bad, terms)
    parts = jax.tree.map(functools.partial(_split, parts=microbatches), (batch, weights))

    def body(so_far, part):
      (total, (sums, bad)), grads = grad(params, *part)
      return jax.tree.map(jnp.add, so_far, (total, sums, grads)), bad

    first = jax.tree.map(lambda x: x[0], parts)
    (total, (sums, _)), grads = jax.eval_shape(grad, params, *first)
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (total, sums, grads))
    (total, sums, grads), bad = jax.lax.scan(body, zero, parts)
    return grads, _means(total, sums, bad.T.reshape(-1), terms)

  return grad_fn


def _split(x, parts):
  """[B, ...] -> [parts, B/parts, ...]; part j takes rows j, j+parts, ...: all devices stay busy."""
  x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
  return shard(x, None, BATCH)


def _memory_of(term, carry):
  return {"carry": carry[term.name]} if term.name in carry else {}


def _weights(terms, batch, measure, params, carry, want):
  """Weights of every term over the whole batch; a loss's shape tells its rank and candidates."""
  measured = jax.eval_shape(lambda p, b: measure(p, b, want, None), params, batch) if want else {}
  out = {}
  for term in terms:
    arrays = batch | measured | _memory_of(term, carry)
    shape = jax.eval_shape(lambda a, t=term: call.feed(t.fn, a)[0], arrays).shape
    counts = _counts(shape, batch) | _of_tokens(term, shape, batch)
    out[term.name] = reduce.weights(
      term.mode or reduce.default_mode(len(shape)), len(shape), constant=term.constant, **counts
    )
  return out


def _of_tokens(term, shape, batch):
  """`segment`, and for policy losses, terms that read `advantage`, `keep`: not for KL or value."""
  if len(shape) < 3:
    return {}
  names = ("segment", "keep") if "advantage" in call.needs(term.fn) else ("segment",)
  return {name: batch[name][:, : shape[1]] for name in names if name in batch}


def _counts(shape, batch):
  """What `reduce.weights` needs for an array of this shape: its first k candidates."""
  counts = {"weight": batch["weight"]}
  if len(shape) > 1:
    present = batch.get("present")
    counts["present"] = jnp.ones(shape[:2]) if present is None else present[:, : shape[1]]
  if len(shape) == 3:
    counts["mask"] = batch["mask"][:, : shape[1]]
  return counts


def _loss(terms, measure, want, carry, key, params, batch, weights):
  """The step's loss on one part of the batch, and the sums from which metrics are made."""
  arrays = batch | (measure(params, batch, want, key) if want else {})
  total, sums = 0.0, about_logps(arrays)
  bad = jnp.zeros(batch["weight"].shape, bool)
  for term in terms:
    value, metrics = call.feed(term.fn, arrays | _memory_of(term, carry))
    w = weights[term.name]
    share = jnp.where(w > 0, value, 0.0) * w
    total += term.weight * share.sum()
    bad |= ~jnp.isfinite(share).reshape(share.shape[0], -1).all(1)
    sums |= metrics | {f"loss/{term.name}": share.sum()}
    if term.name in carry:  # another term may report the same names
      sums |= {f"{_OWN}{term.name}/{k}": v for k, v in metrics.items()}
  sums = {k: v if k.startswith("loss/") else counted(v, batch) for k, v in sums.items()}
  return total, (jax.lax.stop_gradient(sums), bad)


def _own(metrics, name):
  """What a term with a memory reported itself."""
  start = f"{_OWN}{name}/"
  return {k.removeprefix(start): v for k, v in metrics.items() if k.startswith(start)}


def about_logps(arrays) -> dict:
  """Metrics of any run that measures `logp`: chosen and rejected apart, so that a fall is seen."""
  if "logp" not in arrays:
    return {}
  logp = arrays["logp"]
  if logp.shape[1] != 2:
    return {"logps/mean": logp}
  return {"logps/chosen": logp[:, 0], "logps/rejected": logp[:, 1]}


def counted(metric, batch):
  """Sum and count of an unreduced metric: `[B]`, `[B, k]` or `[B, k, T]`, or `(value, count)`.

  What does not count (fillers, absent candidates, masked tokens) may hold anything, NaN included.
  """
  value, own = metric if isinstance(metric, tuple) else (metric, 1.0)
  counts = _counts(value.shape, batch)
  count = reduce.counted(value.ndim, **counts) * own
  return (jnp.where(count > 0, value, 0.0) * count).sum(), count.sum()


def _means(total, sums, bad, terms):
  metrics = {k: v if k.startswith("loss/") else safe_divide(*v) for k, v in sums.items()}
  if len(terms) == 1:
    del metrics[f"loss/{terms[0].name}"]
  return metrics | {"loss": total, "nonfinite": bad}


# Update rules: f(grad_fn, ..., *, knobs) -> (state, metrics). What they read is fed by name, as for
# objectives: `grad_fn`, `inner_grad_fn` (of `config.inner_objectives`), `tx`, `state`, `batch`.


def gradient(grad_fn, tx, state: TrainState, batch):
  """The ordinary step: one gradient, one optimizer update."""
  grads, metrics = grad_fn(state.params, state.carry, batch, fold(state.key, "update", state.step))
  return _apply(tx, state, grads, metrics)


def extragradient(grad_fn, tx, state: TrainState, batch):
  r"""Extragradient: the gradient is taken where a first, provisional step would lead.

  .. math:: \theta' = \theta - \eta g(\theta), \quad \theta \leftarrow \theta - \eta g(\theta')

  Both steps use the same batch and the optimizer's rate; its state advances once, with
  `g(theta')`. It converges on games where the plain step spirals outwards.

  Reference: Korpelevich, "The extragradient method for finding saddle points" (1976); Zhou et
  al., "Extragradient Preference Optimization" (2025) (card: papers/egpo.md).
  """
  key = fold(state.key, "update", state.step)
  grads, _ = grad_fn(state.params, state.carry, batch, key)
  step, _ = tx.update(grads, state.opt_state, state.params)
  grads, metrics = grad_fn(optax.apply_updates(state.params, step), state.carry, batch, key)
  return _apply(tx, state, grads, metrics)


def look_ahead(grad_fn, inner_grad_fn, tx, state: TrainState, batch, *, inner_lr: float = 1e-3):
  r"""Look-ahead (MetaRM): the gradient is taken after an inner step on the inner objectives.

  .. math:: \theta' = \theta - \eta \nabla L_{inner}(\theta), \quad
     \theta \leftarrow \theta - \alpha \nabla L(\theta')

  First order: the gradient is with respect to theta', as in the source. A term that is to rise in
  the inner step has a negative `term_weight`. With `inner_lr=0` it is `gradient`.

  Args:
    grad_fn: gradient of the outer terms, `config.objectives`.
    inner_grad_fn: gradient of the inner terms, `config.inner_objectives`.
    tx: optax transformation of the outer step.
    state: the run's state.
    batch: the batch of both steps.
    inner_lr: eta of the inner step (plain gradient descent).

  Reference: Wang et al., "Secrets of RLHF in Large Language Models Part II: Reward Modeling"
  (2024), section 4, MetaRM (card: papers/secrets_rm.md, equation 9).
  """
  key = fold(state.key, "update", state.step)
  inner, _ = inner_grad_fn(state.params, state.carry, batch, key)
  ahead = jax.tree.map(lambda p, g: p - inner_lr * g, state.params, inner)
  grads, metrics = grad_fn(ahead, state.carry, batch, key)
  return _apply(tx, state, grads, metrics)


def _apply(tx, state, grads, metrics):
  updates, opt_state = tx.update(grads, state.opt_state, state.params)
  metrics["grad_norm"] = optim.global_norm(grads)
  params = optax.apply_updates(state.params, updates)
  return state.replace(step=state.step + 1, params=params, opt_state=opt_state), metrics


def moved_reference(state, *, every: int, rate: float) -> dict:
  r"""The reference after a step: every so many steps it moves towards the policy (TR-DPO).

  .. math:: \theta_{ref} \leftarrow \alpha \theta + (1 - \alpha) \theta_{ref}

  with `alpha = rate`; 1 copies the policy.

  Args:
    state: after the step; an empty `reference` stays so.
    every: steps between two moves.
    rate: alpha, above 0, at most 1.

  Reference: Gorbatovski et al., "Learn Your Reference Model for Real Good Alignment" (2024),
  eqs. 5 and 6. Catalogue 1, section 2, `tr_dpo`.
  """
  if not state.reference:
    return state.reference
  due = state.step % every == 0
  mix = lambda p, r: jnp.where(due, rate * p + (1 - rate) * r, r)
  return {"ref": jax.tree.map(mix, state.params, state.reference["ref"])}


def make(rule, parts: dict, terms, sync=None):
  """The jittable step `(state, batch) -> (state, metrics)`: a bound rule, then the memories.

  Args:
    rule: an update rule with its knobs bound.
    parts: what rules read besides `state` and `batch`: `grad_fn`, `tx`, perhaps `inner_grad_fn`.
    terms: tuple of `Term`, for their memories.
    sync: knobs of `moved_reference`; read where the state holds a reference.
  """

  def update(state, batch):
    new, metrics = call.feed(rule, parts | {"state": state, "batch": batch})
    carry = {
      t.name: _memory(t, "next_carry")(state.carry[t.name], _own(metrics, t.name))
      for t in terms
      if t.name in state.carry
    }
    new = new.replace(carry=carry)
    new = new.replace(reference=moved_reference(new, **sync or {"every": 1, "rate": 0.0}))
    return new, {k: v for k, v in metrics.items() if not k.startswith(_OWN)}

  return update
