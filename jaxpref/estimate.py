"""Advantages and selections of a batch of rollouts, as a config names them.

`config.advantages` names estimators of the room `advantages`; their results are brought to tokens
and added up with their weights. `config.selectors` names functions of the rooms `selectors` and
`rollout_correction`; what they give is multiplied to `keep`. All of it happens once per batch of
rollouts, before it is cut into optimizer steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpref import advantages, call, kl, rewards, rollout_correction, selectors, vocabulary
from jaxpref import config as cfg
from jaxpref.advantages.spread import spread
from jaxpref.types import Refused

DERIVED = ("length", "token_reward", "segment")  # what `apply` makes of the rest


class Plan(NamedTuple):
  """What to make of a batch of rollouts.

  Attributes:
    advantages: (estimator, weight) pairs.
    selectors: functions whose results are multiplied.
    beta: reward units per nat of the KL that is taken off the reward, 0 for none.
    kind: its estimate, see `jaxpref.kl`.
  """

  advantages: tuple[tuple[Callable, float], ...]
  selectors: tuple[Callable, ...]
  beta: float
  kind: str


def plan(config) -> Plan:
  """The plan of a config.

  Raises:
    Refused: an unknown estimator, selector, knob or kind of KL.
  """
  estimators = []
  for name in sorted(config.advantages):
    section = {k: v for k, v in config.advantages[name].items() if k != "weight"}
    estimators.append((cfg.resolve(advantages, section), config.advantages[name]["weight"]))
  options = call.functions(selectors) | call.functions(rollout_correction)
  chosen = []
  for name in sorted(config.selectors):
    fn = config.selectors[name]["fn"]
    if ":" not in fn and fn not in options:
      raise Refused(
        f"config.selectors.{name} has no {fn!r}. {call.nearest(fn, options)}"
        f"It has: {', '.join(sorted(options))}."
      )
    room = rollout_correction if fn in call.functions(rollout_correction) else selectors
    chosen.append(cfg.resolve(room, config.selectors[name]))
    if {"token_logp", "old_token_logp"} <= set(call.needs(chosen[-1])):
      raise Refused(
        f"config.selectors.{name}: {fn} compares the policy with the one that sampled, but what "
        "counts is chosen once, when the rollouts arrive and both are the same."
      )
  beta, kind = config.rollout.kl_in_reward, config.rollout.kl_estimate
  call.one_of("config.rollout.kl_estimate", kl.KINDS, kl_estimate=kind)
  return Plan(tuple(estimators), tuple(chosen), beta, kind)


def made(given: Plan) -> frozenset[str]:
  """Names that `apply` adds to a batch."""
  names = (["advantage"] if given.advantages else []) + (["keep"] if given.selectors else [])
  return frozenset(names + (["returns"] if _critics(given) else []))


def _critics(given):
  """Estimators that read what a critic predicts."""
  return [fn for fn, _ in given.advantages if "value" in call.needs(fn)]


def reads(given: Plan) -> frozenset[str]:
  """Names that must be there before, apart from those that `apply` derives."""
  functions = [fn for fn, _ in given.advantages] + list(given.selectors)
  names = {n for fn in functions for n in call.needs(fn)} - set(DERIVED)
  names = {f"old_{n}" if n in vocabulary.MEASURED else n for n in names}  # as when they came
  if given.beta:
    names |= {"old_token_logp", "ref_token_logp"}
  return frozenset(names | {"reward", "mask"}) if functions else frozenset()


def apply(given: Plan, batch: dict) -> dict:
  """`advantage`, `keep` and, with a critic, its target `returns`: f32[B, K, T], no gradients.

  Args:
    given: from `plan`.
    batch: `reward`, `mask` and what else is read.

  Returns:
    the arrays of `made`.
  """
  if not given.advantages and not given.selectors:
    return {}
  arrays, out = batch | _derived(given, batch), {}
  if given.advantages:
    parts = [w * _on_tokens(call.feed(fn, arrays), arrays) for fn, w in given.advantages]
    out["advantage"] = sum(parts[1:], parts[0])
  for fn in _critics(given)[:1]:
    read = (arrays[n] for n in ("token_reward", "value", "mask"))
    knobs = {k: v for k, v in call.knobs(fn).items() if k in ("gamma", "lam")}
    out["returns"] = advantages.value_target(*read, **knobs)
  if given.selectors:
    keep = jnp.ones_like(batch["mask"])
    for fn in given.selectors:
      value = call.feed(fn, arrays | out)
      keep = keep * (value[..., None] if value.ndim == 2 else value)
    out["keep"] = keep
  return jax.lax.stop_gradient(out)


def _derived(given, batch):
  out = {"length": batch["mask"].sum(-1)}
  out["token_reward"] = rewards.at_end(batch["reward"], batch["mask"])
  if given.beta:
    old, ref = batch["old_token_logp"], batch["ref_token_logp"]
    cost = jnp.where(batch["mask"] > 0, kl.estimate(old, ref, kind=given.kind), 0.0)
    out["reward"] = batch["reward"] - given.beta * cost.sum(-1)
    out["token_reward"] = out["token_reward"] - given.beta * cost
  now = {n: batch[f"old_{n}"] for n in vocabulary.MEASURED if f"old_{n}" in batch}
  out = now | out
  if "segment" not in batch:  # a response of one turn is one segment
    out["segment"] = jnp.where(batch["mask"] > 0, 0, -1)
  return out


def _on_tokens(advantage, arrays):
  mask = arrays["mask"]
  segments = arrays["segment_mask"].shape if "segment_mask" in arrays else ()
  if advantage.shape == mask.shape and advantage.shape != segments:  # per token already
    return advantage
  return spread(advantage, mask, arrays["segment"])
