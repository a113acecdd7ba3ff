"""Resampled fits, a simulator of the 2x2 design and its power; all fits of a cell are one call."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.persuasion import fits
from jaxpref.analysis import ordinal

AI_PERSONALISED = fits.EFFECTS.index("AI personalised")
Z = 1.959963984540054  # two-sided 5%


@functools.partial(jax.jit, static_argnames=("per",))
def _fit_each(outcome, features, nominal, weight, per=25):
  """A fit per leading index, `per` at a time: estimates and errors of the treatments, and flags.

  Where pre-agreement separates (a level of it never meets some rating) its own effect has no finite
  estimate, but those of the treatments do: such a fit is good, and counted as separated.
  """

  def one(arrays):
    found = ordinal.solve(*arrays, levels=fits.LEVELS)
    errors = jnp.sqrt(jnp.diag(found["covariance"])[: found["beta"].size])
    move = jnp.abs(found["direction"])
    apart = move[: found["beta"].size].max() < 1e-3 * move.max()  # only effects of pre-agreement
    good = found["converged"] | (found["separated"] & apart)
    return found["beta"], errors, good, found["separated"]

  return jax.lax.map(one, (outcome, features, nominal, weight), batch_size=per)


def _fitted(outcome, features, nominal, weight):
  """`_fit_each` in float64; every array has the leading axis of the repetitions."""
  with jax.enable_x64(True):
    found = _fit_each(*(jnp.asarray(a) for a in (outcome, features, nominal, weight)))
  return tuple(np.asarray(a) for a in found)


def _repeat(array, count):
  return np.broadcast_to(array, (count, *array.shape))


def bootstrap(config) -> dict[str, float]:
  """Percentile interval of the odds ratio, debates being drawn with replacement."""
  rows, rng = fits.table(), np.random.default_rng(config.seed)
  _, debate = np.unique(rows["debate"], return_inverse=True)
  size = debate.max() + 1
  drawn = rng.multinomial(size, np.full(size, 1.0 / size), config.steps)
  fixed = (rows["after"], fits.treatments(rows["arm"]), fits.coding()[rows["before"]])
  beta, _, good, separated = _fitted(
    *(_repeat(a, config.steps) for a in fixed), drawn[:, debate].astype(float)
  )
  low, high = np.exp(np.quantile(beta[good, AI_PERSONALISED], (0.025, 0.975)))
  return {
    "odds ratio, low": low,
    "odds ratio, high": high,
    "separated fits": float(separated.sum()),
  }


def permutation(config) -> dict[str, float]:
  """Share of relabelled experiments with an effect at least as large; arms permuted in topics."""
  rows, rng = fits.table(), np.random.default_rng(config.seed)
  order = np.stack([_within(rows["topic"], rng) for _ in range(config.steps)])
  arms = np.concatenate([rows["arm"][None], rows["arm"][order]])  # the real one first
  features = np.stack([fits.treatments(a) for a in arms])
  fixed = (rows["after"], fits.coding()[rows["before"]], np.ones(len(rows["arm"])))
  y, z, w = (_repeat(a, len(arms)) for a in fixed)
  beta, _, good, separated = _fitted(y, features, z, w)
  effect = np.abs(beta[:, AI_PERSONALISED])
  as_large = (effect[1:] >= effect[0]) | ~good[1:]
  return {
    "p": float((1 + as_large.sum()) / (1 + config.steps)),
    "separated fits": float(separated.sum()),
  }


def _within(group, rng):
  """A random order of the rows that keeps each in its group."""
  out = np.empty(len(group), int)
  for g in np.unique(group):
    place = np.flatnonzero(group == g)
    out[place] = rng.permutation(place)
  return out


def simulate(rng, *, per_arm, beta, thresholds, before, repetitions):
  """Draws experiments of the 2x2 design: opponent (human, AI) by personal data (no, yes).

  Args:
    rng: a numpy generator.
    per_arm: participants in each of the four arms.
    beta: f64[3], effects on the log odds, in the order of `fits.EFFECTS`.
    thresholds: f64[4, 5], cut points and the effects of pre-agreement.
    before: i[M], pre-agreements 0..4 to draw from.
    repetitions: experiments.

  Returns:
    arm i[R, N], pre-agreement i[R, N] and post-agreement i[R, N].
  """
  arm = np.tile(np.repeat(np.arange(4), per_arm), (repetitions, 1))
  start = rng.choice(before, arm.shape)
  with jax.enable_x64(True):
    each = jax.vmap(ordinal.category_logp, (None, None, 0, 0))
    logp = each(
      *(jnp.asarray(a) for a in (beta, thresholds)),
      fits.treatments(arm.ravel()).reshape(*arm.shape, -1),
      fits.coding()[start],
    )
    cumulative = np.exp(np.asarray(logp)).cumsum(-1)
  return arm, start, (rng.random(arm.shape)[..., None] > cumulative[..., :-1]).sum(-1)


def power(config) -> dict[str, float]:
  """How often the model finds an effect of the published size, and one of zero.

  The rest of the truth is the model fitted to the real ratings.
  """
  rows, rng = fits.table(), np.random.default_rng(config.seed)
  fit = fits._fit(rows, fits.treatments(rows["arm"]))
  out = {}
  for name, effect in (("power", config.effect), ("false alarms", 0.0)):
    beta = np.where(np.arange(3) == AI_PERSONALISED, effect, 0.0)
    arm, before, after = simulate(
      rng,
      per_arm=config.per_arm,
      beta=beta,
      thresholds=fit.thresholds,
      before=rows["before"],
      repetitions=config.steps,
    )
    features = fits.treatments(arm.ravel()).reshape(*arm.shape, -1)
    found, error, good, separated = _fitted(
      after, features, fits.coding()[before], np.ones(arm.shape)
    )
    z = np.abs(found[:, AI_PERSONALISED] / error[:, AI_PERSONALISED])
    out[name] = float(((z > Z) & good).mean())
    if name == "power":
      out["separated fits"] = float(separated.mean())
      out["without estimate"] = float((~good).mean())
      out["mean estimate"] = float(found[good, AI_PERSONALISED].mean()) if good.any() else 0.0
  return out
