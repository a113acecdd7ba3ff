"""The objectives once more, in float64 numpy, written from the catalogue's formulas.

One example at a time, nothing shared with the package: what the tests compare with.
"""

import numpy as np


def log_sigmoid(z):
  """`log s(z)` without overflow."""
  return -np.logaddexp(0.0, -z)


def dpo(logp, ref_logp, beta=0.1, gamma=1.0):
  """-ls(beta h), h the difference of the log-ratios."""
  return _each(lambda p, r: -log_sigmoid(beta * (p[0] - p[1] - gamma * (r[0] - r[1]))))(
    logp, ref_logp
  )


def cdpo(logp, ref_logp, beta=0.1, label_smoothing=0.2):
  """-(1-e) ls(beta h) - e ls(-beta h)."""

  def one(p, r):
    z = beta * ((p[0] - r[0]) - (p[1] - r[1]))
    return -(1 - label_smoothing) * log_sigmoid(z) - label_smoothing * log_sigmoid(-z)

  return _each(one)(logp, ref_logp)


def ipo(logp, ref_logp, length, beta=0.1):
  """(a/|y_w| - b/|y_l| - 1/(2 beta))^2."""

  def one(p, r, n):
    a, b = ((p[k] - r[k]) / n[k] if n[k] else 0.0 for k in (0, 1))
    return (a - b - 1 / (2 * beta)) ** 2

  return _each(one)(logp, ref_logp, length)


def ipo_sum(logp, ref_logp, beta=0.1):
  """(h - 1/(2 beta))^2."""
  return _each(lambda p, r: ((p[0] - r[0]) - (p[1] - r[1]) - 1 / (2 * beta)) ** 2)(logp, ref_logp)


def simpo(logp, length, beta=2.0, gamma=0.5):
  """-ls(beta (avg_w - avg_l) - gamma)."""

  def one(p, n):
    w, v = (p[k] / n[k] if n[k] else 0.0 for k in (0, 1))
    return -log_sigmoid(beta * (w - v) - gamma)

  return _each(one)(logp, length)


def kto(
  logp, ref_logp, relevance, baseline, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0
):
  """w_D (1 - s(beta(u - z0))) for desirable, w_U (1 - s(beta(z0 - u))) for undesirable."""

  def one(p, r, good, z0):
    value = np.exp(log_sigmoid(beta * (p[0] - r[0] - z0) * (1 if good[0] else -1)))
    return (desirable_weight if good[0] else undesirable_weight) * (1 - value)

  return _each(one)(logp, ref_logp, relevance, baseline)


def bradley_terry(score, center=0.0):
  """-ls(r_w - r_l) + c (r_w + r_l)^2."""
  return _each(lambda s: -log_sigmoid(s[0] - s[1]) + center * (s[0] + s[1]) ** 2)(score)


def token_mean_nll(token_logp, mask):
  """Sum of the token losses of candidate 0 over their number, over the whole batch."""
  total = count = 0.0
  for logp, counted in zip(np.float64(token_logp), np.float64(mask), strict=True):
    total -= sum(x for x, m in zip(logp[0], counted[0], strict=True) if m)
    count += counted[0].sum()
  return total / count


def slope(fn, x, step=1e-4):
  """Gradient of a scalar function by central differences in float64."""
  x = np.float64(x).copy()
  out = np.zeros_like(x)
  for place in np.ndindex(x.shape):
    kept = x[place]
    x[place] = kept + step
    above = fn(x)
    x[place] = kept - step
    out[place] = (above - fn(x)) / (2 * step)
    x[place] = kept
  return out


def _each(one):
  """Applies a definition of one example to every row, in float64."""

  def rows(*arrays):
    return np.asarray([one(*row) for row in zip(*map(np.float64, arrays), strict=True)])

  return rows
