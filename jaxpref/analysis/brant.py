"""Brant's test of whether effects are the same at every cut point."""

from __future__ import annotations

import numpy as np

from jaxpref.analysis.ordinal import chi_square_tail, partial_odds
from jaxpref.types import Refused


def brant(outcome, features, *, levels: int = 0) -> dict[str, np.ndarray]:
  r"""Wald test of parallel lines, of all columns together and of each.

  A logistic regression of `y > j` at each cut point gives effects `b_j` with joint covariance
  `V`; with `D` the contrasts `b_0 - b_j`,

  .. math:: X^2 = (D b)^T (D V D^T)^{-1} (D b) \sim \chi^2_{(K-2) P}

  Args:
    outcome: i[N], ratings 0..K-1; K at least 3.
    features: f[N, P].
    levels: K; 0 takes the largest rating.

  Returns:
    `statistic`, `df`, `p` of all columns; `column_statistic` and `column_p`, f64[P], of each
    (with K-2 degrees of freedom); `effects`, f64[K-1, P].

  Raises:
    Refused: fewer than three levels, or separation at a cut point.

  Example:
    >>> y = np.repeat([0, 1, 2, 0, 1, 2], [4, 3, 3, 2, 3, 5])
    >>> found = brant(y, np.repeat([[0.0], [1.0]], 10, 0))
    >>> print(found["df"], f'{found["statistic"]:.4f}')
    1.0 0.0189

  Reference: Brant, "Assessing Proportionality in the Proportional Odds Model for Ordinal Logistic
  Regression" (1990); card persuasion, section 3.
  """
  y, x = np.asarray(outcome), np.asarray(features, np.float64)
  levels = levels or int(y.max()) + 1
  if levels < 3:
    raise Refused(f"brant compares cut points, so it needs at least 3 levels; there are {levels}.")
  z = np.concatenate([np.ones((len(y), 1)), x], 1)
  effects, above, inverse = [], [], []
  for cut in range(levels - 1):
    fit = partial_odds((y > cut).astype(np.int64), x, np.zeros((len(y), 0)), levels=2)
    prob = 1.0 / (1.0 + np.exp(fit.thresholds[0, 0] - x @ fit.beta))
    effects.append(fit.beta)
    above.append(prob)
    inverse.append(np.linalg.inv(z.T @ (z * (prob * (1.0 - prob))[:, None])))
  effects = np.stack(effects)
  cov = _joint(z, above, inverse)
  columns = x.shape[1]
  statistic = _wald(effects, cov, range(columns))
  each = np.asarray([_wald(effects, cov, [c]) for c in range(columns)])
  return {
    "statistic": statistic,
    "df": float((levels - 2) * columns),
    "p": chi_square_tail(statistic, (levels - 2) * columns),
    "column_statistic": each,
    "column_p": np.asarray([chi_square_tail(s, levels - 2) for s in each]),
    "effects": effects,
  }


def _joint(z, above, inverse):
  """Covariance f64[K-1, P, K-1, P] of the effects of all cut points, without intercepts."""
  cuts, columns = len(above), z.shape[1] - 1
  cov = np.zeros((cuts, columns, cuts, columns))
  for j in range(cuts):
    for k in range(j, cuts):
      both = above[k] - above[j] * above[k]  # y > k implies y > j
      block = (inverse[j] @ (z.T @ (z * both[:, None])) @ inverse[k])[1:, 1:]
      cov[j, :, k, :], cov[k, :, j, :] = block, block.T
  return cov


def _wald(effects, cov, columns):
  """The statistic of some columns."""
  columns = list(columns)
  cuts, size = len(effects), len(columns)
  b = effects[:, columns].ravel()
  v = cov[:, columns][:, :, :, columns].reshape(cuts * size, cuts * size)
  contrast = np.concatenate([np.ones((cuts - 1, 1)), -np.eye(cuts - 1)], 1)
  d = np.kron(contrast, np.eye(size))
  return float(d @ b @ np.linalg.solve(d @ v @ d.T, d @ b))
