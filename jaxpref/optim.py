"""Optimizers from configs: optax chains, schedules, which parameters decay, which are frozen."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import optax

from jaxpref import call, sharding
from jaxpref.types import Refused

OPTIMIZERS = {
  "adamw": lambda o: optax.scale_by_adam(b1=o.b1, b2=o.b2, eps=o.eps, mu_dtype=o.mu_dtype),
  "lion": lambda o: optax.scale_by_lion(b1=o.b1, b2=o.b2, mu_dtype=o.mu_dtype),
  "rmsprop": lambda o: optax.scale_by_rms(decay=o.b2, eps=o.eps),
  "sgd": lambda o: optax.identity(),
}
SCHEDULES = ("constant", "linear", "cosine")


def section(**values) -> dict:
  """The config section `optim`; values override the defaults.

  `lr` peak learning rate; `warmup` and the decay's end as shares of the run; `final` the last rate
  as a share of the peak; `weight_decay` acts on matrices only, never on norms, biases and scales;
  `clip` the global gradient norm (0: none); `frozen` a regex of parameter paths that stay as they
  are.
  """
  default = dict(
    name="adamw",
    lr=3e-4,
    schedule="cosine",
    warmup=0.1,
    final=0.1,
    b1=0.9,
    b2=0.95,
    eps=1e-8,
    mu_dtype="float32",
    weight_decay=0.0,
    clip=1.0,
    frozen="",
  )
  for name in values:
    if name not in default:
      raise Refused(f"optim has no {name!r}. {call.nearest(name, default)}")
  return default | values


def schedule(options, steps: int) -> optax.Schedule:
  """Learning rate by step: linear warm-up to `lr`, then constant, linear or cosine to the end.

  Raises:
    Refused: an unknown schedule, or a warm-up that leaves no step.
  """
  if options.schedule not in SCHEDULES:
    raise Refused(
      f"optim.schedule has no {options.schedule!r}. {call.nearest(options.schedule, SCHEDULES)}"
      f"It has: {', '.join(SCHEDULES)}."
    )
  if not 0.0 <= options.warmup < 1.0:
    raise Refused(f"optim.warmup={options.warmup} must be a share of the run in [0, 1).")
  warm = int(round(options.warmup * steps))
  rest = max(steps - warm, 1)
  after = {
    "constant": optax.constant_schedule(options.lr),
    "linear": optax.linear_schedule(options.lr, options.final * options.lr, rest),
    "cosine": optax.cosine_decay_schedule(options.lr, rest, alpha=options.final),
  }[options.schedule]
  if not warm:
    return after
  # step 0 already moves: the ramp starts at 1/warm of the peak, not at 0
  ramp = optax.linear_schedule(options.lr / warm, options.lr, max(warm - 1, 1))
  return optax.join_schedules([ramp, after], [warm])


def decayed(params):
  """True for the parameters that weight decay acts on: those of a name other than norm or bias."""
  word = re.compile(r"norm|bias|scale")
  return jax.tree_util.tree_map_with_path(
    lambda path, _: not word.search(sharding.path_name(path)), params
  )


def make(options, steps: int, params) -> optax.GradientTransformation:
  """The optimizer of a run.

  Args:
    options: a config section with the keys of `section`.
    steps: optimizer steps of the whole run, for the schedule.
    params: pytree of arrays or ShapeDtypeStructs, for the masks.

  Raises:
    Refused: an unknown optimizer, or a `frozen` that matches no parameter or all.
  """
  if options.name not in OPTIMIZERS:
    raise Refused(
      f"optim.name has no {options.name!r}. {call.nearest(options.name, OPTIMIZERS)}"
      f"It has: {', '.join(OPTIMIZERS)}."
    )
  parts = [optax.clip_by_global_norm(options.clip)] if options.clip else []
  parts.append(OPTIMIZERS[options.name](options))
  if options.weight_decay:
    parts.append(optax.add_decayed_weights(options.weight_decay, mask=decayed))
  parts.append(optax.scale_by_learning_rate(schedule(options, steps)))
  chain = optax.chain(*parts)
  if not options.frozen:
    return chain
  return _freeze(chain, options.frozen, params)


def _freeze(chain, pattern, params):
  labels = jax.tree_util.tree_map_with_path(
    lambda path, _: "frozen" if re.search(pattern, sharding.path_name(path)) else "trained", params
  )
  if len(set(jax.tree.leaves(labels))) != 2:
    names = [sharding.path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(params)]
    raise Refused(
      f"optim.frozen={pattern!r} matches none or all of the parameters: {', '.join(names)}."
    )
  return optax.multi_transform({"trained": chain, "frozen": optax.set_to_zero()}, labels)


def global_norm(tree):
  """f32[]: Euclidean norm of all leaves together."""
  return optax.tree.norm(jax.tree.map(lambda x: x.astype(jnp.float32), tree))
