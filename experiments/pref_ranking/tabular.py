"""Part A: DPO on a table of logits, where every statement of the paper can be checked exactly.

Each of P prompts has V outputs, a reference policy and a reward, both drawn at random, and one pair
of outputs with the share of raters `alpha = sigmoid(r_0 - r_1)`; the majority's output comes first.
Full-batch gradient descent on the logits, all in float64.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxpref import call, metrics, objectives
from jaxpref.metrics.correlation import spearman
from jaxpref.types import Refused


def problem(seed, *, prompts, outputs, ref_scale, reward_scale):
  """Reference logits f64[P, V], pairs i32[P, 2] (majority's output first) and its share f64[P]."""
  rng = np.random.default_rng(seed)
  ref = rng.normal(0.0, ref_scale, (prompts, outputs))
  reward = rng.normal(0.0, reward_scale, (prompts, outputs))
  pair = np.stack([rng.choice(outputs, 2, replace=False) for _ in range(prompts)])
  gap = np.diff(np.take_along_axis(reward, pair, 1), axis=1)[:, 0]  # r_1 - r_0
  pair = np.where(gap[:, None] > 0, pair[:, ::-1], pair)
  return ref, pair, 1.0 / (1.0 + np.exp(-np.abs(gap)))


def _logp(logits, pair):
  """f64[P, 2], log-probability of the pair's outputs."""
  return jnp.take_along_axis(jax.nn.log_softmax(logits), pair, 1)


def _loss(logits, ref_logp, pair, label, dpo):
  """f64[P]: DPO's loss under the share of raters `label`; hard labels where it is 1."""
  logp = _logp(logits, pair)
  first, second = dpo(logp, ref_logp)[0], dpo(logp[:, ::-1], ref_logp[:, ::-1])[0]
  return label * first + (1.0 - label) * second


def _state(logits, ref_logp, pair, beta, gamma, dpo):
  """What is recorded at a step: means over pairs, and how many pairs break Theorem 4.1."""
  logp = _logp(logits, pair)
  loss, length = dpo(logp, ref_logp)[0], jnp.ones_like(logp)
  ranked = metrics.ranking_accuracy(logp, length)["ranking_accuracy"]
  hard = metrics.difficulty(ref_logp, beta=beta, gamma=gamma)
  flips = metrics.flip_groups(logp, ref_logp)
  wrong = flips["flips/wrong_right"] + flips["flips/wrong_wrong"]
  easy = (hard["difficulty/gap"] <= 0) & (loss <= 0.6)
  return {
    "loss": loss.mean(),
    "ranking_accuracy": ranked.mean(),
    "reward_accuracy": metrics.reward_accuracy(logp, ref_logp)["reward_accuracy"].mean(),
    "flipped": flips["flips/wrong_right"].sum() / wrong.sum(),
    "theorem_41_broken": ((loss <= hard["difficulty/threshold"]) != (ranked == 1)).sum(),
    "proposition_broken": (easy & (ranked == 0)).sum(),
  }


@functools.partial(jax.jit, static_argnames=("beta", "gamma", "steps"))
def _descend(ref, pair, *, lr, beta, gamma, steps):
  """Log-probabilities after gradient descent on hard labels, and the record of steps 0..steps."""
  ref_logp = _logp(ref, pair)
  dpo = call.bind(objectives.dpo, beta=beta, gamma=gamma)
  total = lambda logits: _loss(logits, ref_logp, pair, 1.0, dpo).sum()

  def step(logits, _):
    record = _state(logits, ref_logp, pair, beta, gamma, dpo)
    return logits - lr * jax.grad(total)(logits), record

  logits, records = jax.lax.scan(step, ref, length=steps)
  last = _state(logits, ref_logp, pair, beta, gamma, dpo)
  return _logp(logits, pair), jax.tree.map(lambda x, y: jnp.append(x, y), records, last)


@functools.partial(jax.jit, static_argnames=("beta", "steps"))
def _converge(ref, pair, alpha, *, lr, beta, steps):
  """Log-probabilities after gradient descent on shares of raters.

  It stops when no log-ratio moves by more than 1e-13 reward units in a step, or after `steps`.
  """
  ref_logp = _logp(ref, pair)
  dpo = call.bind(objectives.dpo, beta=beta)
  slope = jax.grad(lambda logits: _loss(logits, ref_logp, pair, alpha, dpo).sum())

  def step(carry):
    count, logits, _ = carry
    move = lr * slope(logits)
    return count + 1, logits - move, beta * jnp.abs(move).max()

  going = lambda carry: (carry[0] < steps) & (carry[2] > 1e-13)
  return _logp(jax.lax.while_loop(going, step, (0, ref, jnp.inf))[1], pair)


def hard(config) -> dict[str, float]:
  """DPO on majority labels: what happens to rankings while the loss falls."""
  ref, pair, alpha = problem(config.seed, **config.problem)
  beta, gamma = config.beta, config.gamma
  with jax.enable_x64(True):
    logp, records = _descend(ref, pair, lr=config.lr, beta=beta, gamma=gamma, steps=config.steps)
    ref_logp = _logp(ref, pair)
    ideal = metrics.ideal_accuracy(ref_logp, alpha, beta=beta)["ideal_accuracy"]
    flipped = metrics.flip_groups(logp, ref_logp)["flips/wrong_right"]
    gap = metrics.difficulty(ref_logp)["difficulty/gap"]
  records = {k: np.asarray(v, np.float64) for k, v in records.items()}
  flipped, gap = np.asarray(flipped), np.asarray(gap)
  out = {k: float(records[k][-1]) for k in ("loss", "ranking_accuracy", "reward_accuracy")}
  out |= {
    "reference_accuracy": float(records["ranking_accuracy"][0]),
    "ideal_accuracy": float(np.asarray(ideal, np.float64).mean()),
    "flipped": float(records["flipped"][-1]),
    "flip_correlation": spearman(flipped[gap > 0], -gap[gap > 0]),
    "theorem_41_broken": float(records["theorem_41_broken"].sum()),
    "proposition_broken": float(records["proposition_broken"].sum()),
  }
  return out | _along(records, config.at)


def _along(records, losses):
  """Ranking and reward accuracy and the flipped share when the loss first falls to each value."""
  out = {}
  for loss in losses:
    reached = np.flatnonzero(records["loss"] <= loss)
    if not reached.size:
      raise Refused(f"the loss never falls to {loss} (config.at); give more steps.")
    for name in ("ranking_accuracy", "reward_accuracy", "flipped"):
      out[f"at loss {loss}/{name}"] = float(records[name][reached[0]])
  return out


def soft(config) -> dict[str, float]:
  """DPO on shares of raters, to its optimum: does it reach equation 7, and rank as R* says?

  The shares are known exactly and none is 0 or 1, so R* is taken without a floor to speak of.
  """
  ref, pair, alpha = problem(config.seed, **config.problem)
  with jax.enable_x64(True):
    logp = _converge(ref, pair, alpha, lr=config.lr, beta=config.beta, steps=config.steps)
    ref_logp = _logp(ref, pair)
    ideal = metrics.ideal_accuracy(ref_logp, alpha, beta=config.beta, floor=1e-9)["ideal_accuracy"]
  logp, ref_logp, ideal = (np.asarray(x, np.float64) for x in (logp, ref_logp, ideal))
  d, start = logp[:, 0] - logp[:, 1], ref_logp[:, 0] - ref_logp[:, 1]
  optimum = start + np.log(alpha / (1.0 - alpha)) / config.beta
  return {
    "largest_error": float(config.beta * np.abs(d - optimum).max()),
    "reference_accuracy": float((start >= 0).mean()),
    "ranking_accuracy": float((d >= 0).mean()),
    "ideal_accuracy": float(ideal.mean()),
    "pairs_unlike_ideal": float(((d >= 0) != (ideal == 1)).sum()),
  }
