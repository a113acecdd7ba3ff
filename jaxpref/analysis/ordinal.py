r"""Cumulative logit regression of ratings, with proportional and free effects.

A rating `y` of K ordered levels 0..K-1, `x` with the same effect at every cut point, `z` with an
effect of its own at each of the K-1 cut points:

.. math:: \mathrm{logit} P(y \le j) = \theta_j + \gamma_j \cdot z - \beta \cdot x

so a larger `beta . x` means a larger rating. Without `z` this is the proportional odds model, with
K = 2 logistic regression with intercept `-theta`. The negative log-likelihood is convex, as each
term is in the two scores that it reads, and Newton's method with step halving finds the minimum.

Reference of the whole file: Peterson and Harrell, "Partial Proportional Odds Models for Ordinal
Response Variables" (1990). Card: papers/persuasion.md, section 3.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpref import call
from jaxpref.numerics import log1mexp
from jaxpref.types import Refused

_HALVINGS = 20
_SMALL = 1e-9  # largest change of a score in the last step
_RUNAWAY = 1e-4  # how far a direction of separation may lead a row astray, of its largest change


class Fit(NamedTuple):
  """A fitted model.

  Attributes:
    beta: f64[P], proportional effects, log odds ratios.
    thresholds: f64[K-1, 1+Q], of each cut point `theta` and then `gamma`.
    covariance: f64[P + (K-1)(1+Q)] squared, inverse Hessian; `beta` first, then rows of thresholds.
    nll: negative log-likelihood, nats.
    steps: Newton steps that were taken.
  """

  beta: np.ndarray
  thresholds: np.ndarray
  covariance: np.ndarray
  nll: float
  steps: int

  @property
  def errors(self) -> np.ndarray:
    """Standard errors of all parameters, in the covariance's order."""
    return np.sqrt(np.diag(self.covariance))

  @property
  def aic(self) -> float:
    """Twice the parameters plus twice the negative log-likelihood."""
    return 2.0 * (len(self.covariance) + self.nll)


def scores(beta, thresholds, features, nominal):
  """`eta`, f[N, K-1]: logit of P(y <= j) of each row.

  Args:
    beta: f[P].
    thresholds: f[K-1, 1+Q].
    features: f[N, P], proportional columns.
    nominal: f[N, Q], columns with an effect per cut point.
  """
  free = thresholds[:, 0] + nominal @ thresholds[:, 1:].T
  return free - (features @ beta)[:, None]


def category_logp(beta, thresholds, features, nominal):
  """Log-probability of each level, f[N, K].

  A level gets log-probability -inf where its two scores do not increase: free effects may cross
  outside of the data that they were fitted to.

  Args:
    beta: f[P].
    thresholds: f[K-1, 1+Q].
    features: f[N, P].
    nominal: f[N, Q].

  Example:
    >>> none = jnp.zeros((1, 0))
    >>> print(jnp.exp(category_logp(jnp.zeros(0), jnp.zeros((1, 1)), none, none)))
    [[0.5 0.5]]
  """
  eta = scores(beta, thresholds, features, nominal)
  last = jax.nn.log_sigmoid(-eta[:, -1:])
  first, high, low = jax.nn.log_sigmoid(eta[:, :1]), eta[:, 1:], eta[:, :-1]
  gap = low - high
  middle = jax.nn.log_sigmoid(high) + jax.nn.log_sigmoid(-low) + log1mexp(gap)
  return jnp.concatenate([first, jnp.where(gap < 0, middle, -jnp.inf), last], 1)


def nll(beta, thresholds, outcome, features, nominal, weight):
  """Negative log-likelihood in nats, +inf where a row's own level has no probability.

  Args:
    beta: f[P].
    thresholds: f[K-1, 1+Q].
    outcome: i[N], 0..K-1.
    features: f[N, P].
    nominal: f[N, Q].
    weight: f[N], how often a row counts.
  """
  data = _design(outcome, features, nominal, weight, len(thresholds) + 1)
  return _total(_eta(jnp.concatenate([beta, thresholds.ravel()]), data), data)


class _Data(NamedTuple):
  """Rows as the likelihood reads them: design f[N, 2, parameters] of the upper and lower score."""

  design: jax.Array
  first: jax.Array
  last: jax.Array
  weight: jax.Array


def _design(outcome, features, nominal, weight, levels):
  z = jnp.concatenate([jnp.ones_like(nominal[:, :1], shape=(len(nominal), 1)), nominal], 1)

  def one(level):
    at = jax.nn.one_hot(level, levels - 1, dtype=z.dtype)  # all zero beyond both ends
    free = (at[:, :, None] * z[:, None, :]).reshape(len(z), -1)
    return jnp.concatenate([-features, free], 1)

  design = jnp.stack([one(outcome), one(outcome - 1)], 1)
  return _Data(design, outcome == 0, outcome == levels - 1, weight)


def _eta(parameters, data):
  return data.design @ parameters


def _row(eta, first, last):
  """Negative log-probability of a row's level from its upper and lower score."""
  upper, lower = eta[0], eta[1]
  inside = ~(first | last)
  gap = jnp.where(inside, lower - upper, -1.0)
  return -(
    jnp.where(last, 0.0, jax.nn.log_sigmoid(upper))
    + jnp.where(first, 0.0, jax.nn.log_sigmoid(-lower))
    + jnp.where(inside, log1mexp(gap), 0.0)
  )


def _total(eta, data):
  """The sum over rows; +inf where scores of a row that counts do not increase."""
  counts = data.weight > 0
  valid = data.first | data.last | ~counts | (eta[:, 0] > eta[:, 1])
  each = jax.vmap(_row)(eta, data.first, data.last)
  total = (data.weight * jnp.where(counts, each, 0.0)).sum()
  return jnp.where(valid.all(), total, jnp.inf)


def _slopes(eta, data):
  """Gradient and exact Hessian in the parameters, by way of each row's two scores."""
  first = jax.vmap(jax.grad(_row))(eta, data.first, data.last) * data.weight[:, None]
  second = jax.vmap(jax.hessian(_row))(eta, data.first, data.last) * data.weight[:, None, None]
  gradient = jnp.einsum("na,nap->p", first, data.design)
  return gradient, jnp.einsum("nap,naq->pq", data.design, second @ data.design)


def _runs_away(move, data):
  """Whether a direction of the scores never lowers the likelihood of any row: separation."""
  reads = jnp.stack([~data.last, ~data.first], 1) & (data.weight > 0)[:, None]
  astray = jnp.where(reads, move * jnp.asarray([-1.0, 1.0]), 0.0).max()
  size = jnp.where(reads, jnp.abs(move), 0.0).max()
  return (astray <= _RUNAWAY * size) & (size > 0.1), size


def _start(outcome, weight, features, nominal, levels):
  """Cumulative logits of the levels; all effects 0."""
  counts = jnp.zeros(levels, weight.dtype).at[outcome].add(weight) + 0.5
  below = jnp.cumsum(counts)[:-1] / counts.sum()
  thresholds = jnp.zeros((levels - 1, 1 + nominal.shape[1]), weight.dtype)
  thresholds = thresholds.at[:, 0].set(jnp.log(below) - jnp.log1p(-below))
  return jnp.concatenate([jnp.zeros(features.shape[1], weight.dtype), thresholds.ravel()])


def solve(outcome, features, nominal, weight, *, levels: int = 2, steps: int = 100):
  """Newton's method as a pure function, to be mapped over resampled weights or outcomes.

  It computes in the precision of its inputs; call it under `jax.enable_x64(True)`.

  Args:
    outcome: i[N], 0..levels-1.
    features: f[N, P], proportional columns.
    nominal: f[N, Q], columns with an effect per cut point.
    weight: f[N], how often a row counts; 0 leaves it out.
    levels: K, at least 2.
    steps: at most so many.

  Returns:
    dict: `beta` f[P], `thresholds` f[K-1, 1+Q], `covariance`, `nll`, `converged`, `steps`, and
    `separated`, whether the likelihood rises for ever along `direction` f[parameters]; then the
    estimates are where the search stopped, and mean nothing by themselves.
  """
  data = _design(outcome, features, nominal, weight, levels)
  lengths = 0.5 ** jnp.arange(_HALVINGS, dtype=weight.dtype)

  def newton(parameters):
    eta = _eta(parameters, data)
    gradient, hessian = _slopes(eta, data)
    size = jnp.diag(hessian)  # columns have scales of their own; one without rows has 0
    ridge = jnp.diag(jnp.where(size > 0, 1e-10 * size, 1.0))
    move = -jnp.linalg.solve(hessian + ridge, gradient)
    return eta, hessian, move, -(gradient @ move)

  def step(state):
    count, parameters, *_ = state
    eta, _, move, gain = newton(parameters)
    shift = data.design @ move
    totals = jax.vmap(lambda t: _total(eta + t * shift, data))(lengths)
    length = jnp.where(gain < 1e-8, 1.0, lengths[jnp.argmin(totals)])
    away, size = _runs_away(shift, data)
    return count + 1, parameters + length * move, away, size < _SMALL, move

  going = lambda state: (state[0] < steps) & ~state[2] & ~state[3]
  start = _start(outcome, weight, features, nominal, levels)
  begin = (0, start, jnp.asarray(False), jnp.asarray(False), jnp.zeros_like(start))
  count, parameters, away, done, move = jax.lax.while_loop(going, step, begin)
  eta, hessian, _, _ = newton(parameters)
  p = features.shape[1]
  return {
    "beta": parameters[:p],
    "thresholds": parameters[p:].reshape(levels - 1, -1),
    "covariance": jnp.linalg.inv(hessian),
    "nll": _total(eta, data),
    "converged": done,
    "separated": away,
    "direction": move,
    "steps": count,
  }


_solve = functools.partial(jax.jit, static_argnames=("levels", "steps"))(solve)


def partial_odds(outcome, features, nominal, *, levels: int = 0) -> Fit:
  r"""Partial proportional odds model of ratings, by maximum likelihood.

  .. math:: \mathrm{logit} P(y \le j) = \theta_j + \gamma_j \cdot z - \beta \cdot x

  With no nominal column it is the proportional odds model; with no proportional one every cut point
  has effects of its own. Standard errors come from the exact Hessian at the maximum.

  Args:
    outcome: i[N], ratings 0..K-1.
    features: f[N, P], columns `x` whose effect is the same at every cut point; P may be 0.
    nominal: f[N, Q], columns `z` with an effect per cut point, without a column of ones; Q may be
      0.
    levels: K; 0 takes the largest rating.

  Returns:
    A `Fit`: `beta` f64[P], `thresholds` f64[K-1, 1+Q], `covariance`, `errors`, `nll`, `aic`.

  Raises:
    Refused: shapes or ratings that do not fit, columns that depend on each other, or separation:
      some effects could grow for ever, so that there is no maximum; says which.

  Example:
    >>> none = np.zeros((10, 0))  # three of ten ratings are 0: theta = log(3 / 7)
    >>> fit = partial_odds(np.asarray([0] * 3 + [1] * 7), none, none)
    >>> print(fit.thresholds.round(6), round(float(fit.nll), 6))
    [[-0.847298]] 6.108643

  Reference: Peterson and Harrell (1990); card persuasion, section 3.
  """
  x, z = (np.asarray(a, np.float64) for a in (features, nominal))
  y, levels = _checked(np.asarray(outcome), x, z, levels)
  with jax.enable_x64(True):
    found = jax.device_get(_solve(y, x, z, np.ones(len(y)), levels=levels))
  if found["separated"]:
    raise Refused(
      f"partial_odds finds separation: the likelihood rises for ever in "
      f"{_named(found['direction'], x.shape[1], z.shape[1])}. Some level never occurs where these "
      "would allow it; merge levels or drop the columns."
    )
  if not found["converged"]:
    raise Refused(f"partial_odds does not converge in {found['steps']} steps; scale the columns.")
  kept = ("beta", "thresholds", "covariance")
  return Fit(*(found[k] for k in kept), float(found["nll"]), int(found["steps"]))


def _checked(y, x, z, levels):
  """Ratings as integers, and K."""
  if y.ndim != 1 or x.ndim != 2 or z.ndim != 2 or not len(y) == len(x) == len(z) > 0:
    raise Refused(
      f"partial_odds reads outcome [N], features [N, P] and nominal [N, Q]; it got {y.shape}, "
      f"{x.shape} and {z.shape}."
    )
  if not (np.issubdtype(y.dtype, np.integer) and np.isfinite(x).all() and np.isfinite(z).all()):
    raise Refused("partial_odds needs integers as outcome and finite columns.")
  levels = levels or int(y.max()) + 1
  if levels < 2 or y.min() < 0 or y.max() >= levels:
    raise Refused(
      f"partial_odds needs ratings 0..{max(levels, 2) - 1}; they are {y.min()}..{y.max()}."
    )
  columns = np.concatenate([np.ones((len(y), 1)), x, z], 1)
  scale = np.abs(columns).max(0)
  rank = np.linalg.matrix_rank(columns / np.where(scale > 0, scale, 1.0))
  if rank < columns.shape[1]:
    raise Refused(
      f"the {columns.shape[1]} columns (ones, features, nominal) of partial_odds have rank {rank}: "
      "drop those that follow from others."
    )
  return y, levels


def _named(direction, features, nominal):
  """The parameters that a direction changes."""
  big = np.flatnonzero(np.abs(direction) > 1e-3 * np.abs(direction).max())
  name = lambda i: (
    f"beta[{i}]"
    if i < features
    else f"thresholds[{(i - features) // (1 + nominal)}, {(i - features) % (1 + nominal)}]"
  )
  return ", ".join(name(i) for i in big)


def odds_ratios(beta, error, *, level: float = 0.95) -> dict[str, np.ndarray]:
  r"""Odds ratios of effects with Wald intervals and tests.

  .. math:: e^{\beta}, \qquad e^{\beta \pm q s}, \qquad p = 2 \Phi(-|\beta| / s)

  `change` is the odds ratio minus 1, and `preference` is `OR / (1 + OR)`: the chance of the larger
  rating, given that two ratings differ, in a two-level reading of the model.

  Args:
    beta: f[P], log odds ratios.
    error: f[P], their standard errors.
    level: of the interval, in (0, 1).

  Returns:
    dict of f64[P]: `ratio`, `low`, `high`, `change`, `preference`, `z`, `p`.

  Example:
    >>> found = odds_ratios(np.asarray([0.5945]), np.asarray([0.1856]))
    >>> print(" ".join(f"{found[k][0]:.3f}" for k in ("ratio", "low", "high", "preference", "p")))
    1.812 1.260 2.607 0.644 0.001

  Reference: Wald (1943); card persuasion, section 3.
  """
  call.positive("odds_ratios", level=level, **{"1 - level": 1.0 - level})
  beta, error = np.asarray(beta, np.float64), np.asarray(error, np.float64)
  with jax.enable_x64(True):
    wide = float(jax.scipy.special.ndtri(0.5 + 0.5 * level)) * error
    p = 2.0 * np.asarray(jax.scipy.special.ndtr(-np.abs(beta / error)))
  ratio = np.exp(beta)
  return {
    "ratio": ratio,
    "low": np.exp(beta - wide),
    "high": np.exp(beta + wide),
    "change": np.expm1(beta),
    "preference": ratio / (1.0 + ratio),
    "z": beta / error,
    "p": p,
  }


def likelihood_ratio(small, large) -> dict[str, float]:
  r"""Test of a model against a larger one that contains it.

  .. math:: X^2 = 2 (\ell_{large} - \ell_{small}) \sim \chi^2_{df}

  Args:
    small: `Fit` of the model with fewer parameters.
    large: `Fit` of the other, on the same rows.

  Returns:
    `statistic`, `df` and `p`.

  Raises:
    Refused: the second has no more parameters than the first.

  Example:
    >>> fit = lambda nll, p: Fit(None, None, np.eye(p), nll, 1)
    >>> print(f"{likelihood_ratio(fit(102.0, 1), fit(100.0, 2))['p']:.4f}")
    0.0455

  Reference: Wilks, "The Large-Sample Distribution of the Likelihood Ratio" (1938).
  """
  df = len(large.covariance) - len(small.covariance)
  if df <= 0:
    raise Refused(f"likelihood_ratio needs the larger model second; it has {df} more parameters.")
  statistic = 2.0 * (small.nll - large.nll)
  return {"statistic": statistic, "df": float(df), "p": chi_square_tail(statistic, df)}


def chi_square_tail(statistic, df) -> float:
  """Probability that a chi-square variable exceeds a value.

  >>> round(chi_square_tail(3.841459, 1), 6)
  0.05
  """
  with jax.enable_x64(True):
    return float(jax.scipy.special.gammaincc(0.5 * df, 0.5 * max(statistic, 0.0)))
