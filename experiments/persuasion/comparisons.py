"""Debates as comparisons: whose opponent moved more? Bradley-Terry scores of the four arms."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.persuasion import fits
from jaxpref import objectives
from jaxpref.data import debates


def wins(arm, shift, topic):
  """f64[4, 4]: pairs of one topic whose first participant has the larger shift; ties half."""
  out = np.zeros((4, 4))
  for t in np.unique(topic):
    a, s = arm[topic == t], shift[topic == t]
    won = (s[:, None] > s[None, :]) + 0.5 * (s[:, None] == s[None, :])
    one = np.eye(4)[a]
    out += one.T @ won @ one
  return out * (1.0 - np.eye(4))


def strengths(won):
  """Bradley-Terry scores f64[4] by Newton's method; the first is 0."""
  first, second = np.divmod(np.arange(16), 4)
  count = won[first, second]

  def loss(free):
    score = jnp.concatenate([jnp.zeros(1), free])
    pairs = jnp.stack([score[first], score[second]], 1)
    return (count * objectives.bradley_terry(pairs)[0]).sum()

  with jax.enable_x64(True):
    free = jnp.zeros(3)
    for _ in range(20):
      free = free - jnp.linalg.solve(jax.hessian(loss)(free), jax.grad(loss)(free))
    return np.concatenate([[0.0], np.asarray(free)])


def run(config) -> dict[str, float]:
  """Score of each arm; Human-Human is 0."""
  rows = fits.table()
  shift = rows["after"] - rows["before"]
  topic = rows["topic"] if config.within_topics else np.zeros_like(rows["topic"])
  score = strengths(wins(rows["arm"], shift, topic))
  return {f"score of {name}": float(s) for name, s in zip(debates.ARMS, score, strict=True)}
