"""Correlation of two samples: one number for the whole sample."""

from __future__ import annotations

import numpy as np


def average_ranks(x):
  """Ranks from 1, equal values sharing the mean of their places.

  Args:
    x: f64[N] or anything that numpy orders.

  Returns:
    f64[N].

  >>> average_ranks(np.asarray([3.0, 1.0, 3.0]))
  array([2.5, 1. , 2.5])
  """
  _, inverse, counts = np.unique(np.asarray(x), return_inverse=True, return_counts=True)
  last = np.cumsum(counts)
  return (last - (counts - 1) / 2.0)[inverse]


def spearman(x, y) -> float:
  r"""Spearman's rank correlation, with tied values sharing their mean rank (host side).

  .. math:: \rho = \mathrm{corr}(\mathrm{rank}(x), \mathrm{rank}(y))

  It is 0 where a sample has a single value: no order, hence no agreement.

  Args:
    x: f64[N].
    y: f64[N].

  Returns:
    A number in [-1, 1].

  Example:
    >>> spearman(np.asarray([1.0, 2.0, 3.0]), np.asarray([1.0, 4.0, 9.0]))
    1.0

  Reference: Spearman, "The Proof and Measurement of Association between Two Things" (1904).
  """
  a, b = (r - r.mean() for r in (average_ranks(x), average_ranks(y)))
  scale = np.sqrt((a * a).sum() * (b * b).sum())
  return float((a * b).sum() / scale) if scale > 0 else 0.0


def kendall(x, y) -> float:
  r"""Kendall's tau-b of two samples: agreement of the order of all pairs (host side).

  .. math:: \tau_b = \frac{C - D}{\sqrt{(C + D + T_x)(C + D + T_y)}}

  with `C` concordant and `D` discordant pairs, `T_x` and `T_y` pairs tied in one sample only. It is
  0 where a sample has a single value. Time and memory grow with N squared.

  Args:
    x: f64[N].
    y: f64[N].

  Returns:
    A number in [-1, 1].

  Example:
    >>> kendall(np.asarray([1.0, 2.0, 3.0]), np.asarray([1.0, 9.0, 4.0]))
    0.3333333333333333

  Reference: Kendall, "The treatment of ties in ranking problems" (1945); card ranklist, equation 8.
  """
  a, b = (np.sign(np.subtract.outer(v, v)) for v in (np.asarray(x), np.asarray(y)))
  scale = np.sqrt((a * a).sum() * (b * b).sum())
  return float((a * b).sum() / scale) if scale > 0 else 0.0
