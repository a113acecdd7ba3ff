"""Whether stated probabilities are right: reliability bins, calibration error, margins of pairs.

Numbers of a whole sample, made on the host from what each record gave.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Reliability(NamedTuple):
  """Bins of stated probabilities.

  Attributes:
    edges: f64[n + 1], from 0 to 1.
    count: i64[n], records in each bin.
    stated: f64[n], mean stated probability in it, NaN where it is empty.
    right: f64[n], share of outcomes that came true in it, NaN where it is empty.
  """

  edges: np.ndarray
  count: np.ndarray
  stated: np.ndarray
  right: np.ndarray


def reliability(probability, outcome, bins: int = 10) -> Reliability:
  """Sorts stated probabilities into bins of equal width and compares them with what came true.

  A probability on an edge belongs to the bin above it, 1 to the last bin.

  Args:
    probability: [N], stated, in [0, 1].
    outcome: [N], 1 where it came true, 0 where not; 0.5 for a tie.
    bins: their number.

  Returns:
    The bins; they hold all N records.
  """
  probability, outcome = np.float64(probability), np.float64(outcome)
  place = np.minimum((probability * bins).astype(np.int64), bins - 1)
  count = np.bincount(place, minlength=bins)
  with np.errstate(invalid="ignore"):
    stated = np.bincount(place, probability, bins) / count
    right = np.bincount(place, outcome, bins) / count
  return Reliability(np.linspace(0.0, 1.0, bins + 1), count, stated, right)


def calibration_error(probability, outcome, bins: int = 10) -> float:
  r"""Expected calibration error: how far stated probabilities are from what came true.

  With `n_b` of N records in bin `b`

  .. math:: ECE = \sum_b \frac{n_b}{N} |\mathrm{right}_b - \mathrm{stated}_b|

  Args:
    probability: [N], stated, in [0, 1]; N at least 1.
    outcome: [N], 1 where it came true, 0 where not.
    bins: their number.

  >>> round(calibration_error([0.9, 0.9, 0.9, 0.9], [1, 1, 0, 0]), 6)
  0.4

  Reference: Guo et al., "On Calibration of Modern Neural Networks" (2017), eq. 3.
  """
  found = reliability(probability, outcome, bins)
  there = found.count > 0
  gap = np.abs(found.right[there] - found.stated[there])
  return float((gap * found.count[there]).sum() / found.count.sum())


def pair_calibration(margin, bins: int = 10) -> float:
  r"""Calibration error of a reward model on pairs whose preferred response comes first.

  The model favours the response with the higher score, with confidence `s(|margin|)` in [1/2, 1];
  that came true where the margin is positive, and half where it is 0.

  Args:
    margin: [N], score of the preferred response minus that of the other.
    bins: of [0, 1]; only the upper half can hold records.

  >>> pair_calibration(np.zeros(4))
  0.0
  """
  margin = np.float64(margin)
  confidence = 1.0 / (1.0 + np.exp(-np.abs(margin)))
  return calibration_error(confidence, (np.sign(margin) + 1) / 2, bins)


def margin_statistics(margin) -> dict[str, float]:
  """Mean, standard deviation (of the sample itself, not n - 1) and quantiles of margins.

  Args:
    margin: [N], N at least 1.

  >>> margin_statistics([1.0, 2.0, 3.0])["q50"]
  2.0
  """
  margin = np.float64(margin)
  found = {"mean": float(margin.mean()), "std": float(margin.std())}
  at = zip(QUANTILES, np.quantile(margin, QUANTILES), strict=True)
  return found | {f"q{round(100 * q):02d}": float(x) for q, x in at}
