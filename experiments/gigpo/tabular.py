"""The key-door grid with a table of logits: what the two levels of GiGPO do, in seconds.

Each of 8 layouts has a table of logits, one row per state and one column per action. It starts as a
warm-started model would, near the shortest way but noisy; then 8 episodes of each layout are
sampled, and one step of length 1 goes along the gradient of the advantage-weighted log-likelihood.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxpref import advantages, call
from jaxpref.types import Refused

MOVES = np.asarray([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0], [0, 0]])  # up down left right
PICK, OPEN = 4, 5
ESTIMATORS = ("grpo", "dr_grpo", "gigpo", "step")


def layouts(rng, *, tasks, size):
  """Start, key and door of each task, i64[tasks, 3, 2]: three different cells."""
  cells = [rng.choice(size * size, 3, replace=False) for _ in range(tasks)]
  return np.stack(np.divmod(np.asarray(cells), size), -1)


def state_id(at, holds, size):
  """Number of a state: cell and whether the key is held."""
  return (at[..., 0] * size + at[..., 1]) * 2 + holds


def shortest(at, holds, key, door):
  """Actions of a shortest way, rows first: i64[...]."""
  goal = np.where(holds[..., None] > 0, door, key)
  off, act = goal - at, np.where(holds > 0, OPEN, PICK)
  sideways = np.where(off[..., 1] > 0, 3, np.where(off[..., 1] < 0, 2, act))
  return np.where(off[..., 0] > 0, 1, np.where(off[..., 0] < 0, 0, sideways))


def warm(rng, cells, *, size, sharpness):
  """Logits f64[tasks, states, 6]: `sharpness` on the shortest way, and standard normal noise."""
  rows, columns, holds = np.meshgrid(range(size), range(size), range(2), indexing="ij")
  at, holds = np.stack([rows, columns], -1).reshape(1, -1, 2), holds.reshape(1, -1)
  best = shortest(at, holds, cells[:, None, 1], cells[:, None, 2])
  return sharpness * np.eye(6)[best] + rng.normal(size=(len(cells), at.shape[1], 6))


def _probabilities(logits):
  p = np.exp(logits - logits.max(-1, keepdims=True))
  return p / p.sum(-1, keepdims=True)


def play(rng, logits, cells, *, episodes, size, horizon, prize):
  """`episodes` of each layout: states, actions, mask and rewards, [tasks, episodes, horizon]."""
  shape = (len(cells), episodes)
  at = np.repeat(cells[:, None, 0], episodes, 1)
  holds, over = np.zeros(shape, int), np.zeros(shape, bool)
  key, door = cells[:, None, 1], cells[:, None, 2]
  p, task = _probabilities(logits), np.arange(len(cells))[:, None]
  out = {k: np.zeros((*shape, horizon), t) for k, t in (("state", int), ("action", int))}
  out |= {k: np.zeros((*shape, horizon)) for k in ("mask", "reward")}
  for t in range(horizon):
    state = state_id(at, holds, size)
    action = (p[task, state].cumsum(-1) < rng.random(shape)[..., None]).sum(-1).clip(0, 5)
    at_door = (action == OPEN) & (at == door).all(-1) & (holds > 0)
    for name, value in (("state", state), ("action", action)):
      out[name][..., t] = value
    out["mask"][..., t], out["reward"][..., t] = ~over, prize * (at_door & ~over)
    holds = np.where((action == PICK) & (at == key).all(-1), 1, holds)
    at = np.clip(at + MOVES[action], 0, size - 1)
    over = over | at_door
  return out, over


def estimator(name, *, normalise, gamma):
  """`f(reward, key, mask) -> advantage f32[B, K, S]`; `step` is GiGPO without its episode level.

  Raises:
    Refused: another name.
  """
  if name not in ESTIMATORS:
    raise Refused(f"estimator has no {name!r}. {call.nearest(name, ESTIMATORS)}{ESTIMATORS}")
  both = call.bind(advantages.gigpo, normalise=normalise, gamma=gamma)
  episode = call.bind(both, step_weight=0.0)
  if name == "gigpo":
    return jax.jit(both)
  if name == "step":
    return jax.jit(lambda *arrays: both(*arrays) - episode(*arrays))
  whole = call.find(advantages, name)
  return jax.jit(lambda reward, key, mask: whole(reward.sum(-1), mask[..., 0])[..., None] * mask)


def gradient(logits, said, advantage):
  """Gradient of the mean of `A log p(a | s)` over steps, scaled to length 1."""
  p, task = _probabilities(logits), np.arange(len(logits))[:, None, None]
  weight = (advantage * said["mask"])[..., None]
  off = np.eye(6)[said["action"]] - p[task, said["state"]]
  out = np.zeros_like(logits)
  np.add.at(out, (np.broadcast_to(task, said["state"].shape), said["state"]), weight * off)
  return out / max(np.linalg.norm(out), 1e-12)


def run(config) -> dict[str, float]:
  """Success and steps per episode along training.

  Returns:
    `success/start` (first iteration), `success/middle` (iterations 15 to 24, or the last ones of a
    shorter run), `success/end` and `turns/end` (last 20), `advantage/step` (largest step-level
    advantage that was seen, 0 if no state repeats).
  """
  rng, size = np.random.default_rng(config.seed), config.size
  cells = layouts(rng, tasks=config.tasks, size=size)
  logits = warm(rng, cells, size=size, sharpness=config.sharpness)
  level = estimator(config.estimator, normalise=config.normalise, gamma=config.gamma)
  step_level = estimator("step", normalise="mean", gamma=config.gamma)
  games = dict(episodes=config.episodes, size=size, horizon=config.horizon, prize=config.prize)
  noise = np.random.default_rng((config.seed, 1))  # of its own, so that play is the same without
  success, turns, largest = [], [], 0.0
  for _ in range(config.steps):
    said, won = play(rng, logits, cells, **games)
    arrays = _arrays(said, noise, config.noise)
    largest = max(largest, float(jnp.abs(step_level(*arrays)).max()))
    logits = logits + config.lr * gradient(logits, said, np.asarray(level(*arrays), np.float64))
    success.append(won.mean())
    turns.append(said["mask"].sum(-1).mean())
  middle = success[15:25] or success
  return {
    "success/start": float(success[0]),
    "success/middle": float(np.mean(middle)),
    "success/end": float(np.mean(success[-20:])),
    "turns/end": float(np.mean(turns[-20:])),
    "advantage/step": largest,
  }


def _arrays(said, rng, noise):
  """Reward, key and mask as the estimators read them; with chance `noise` a key is unique."""
  key = said["state"].astype(np.uint32)
  unique = 1000 + np.arange(key.size, dtype=np.uint32).reshape(key.shape)
  key = np.where(rng.random(key.shape) < noise, unique, key)
  return jnp.float32(said["reward"]), jnp.asarray(key), jnp.float32(said["mask"])
