"""The partial proportional odds model in float64 numpy, written from papers/persuasion.md."""

import numpy as np


def coding(levels):
  """Backward-difference contrasts [levels, levels - 1]: column c steps up between c and c + 1."""
  out = np.zeros((levels, levels - 1))
  for c in range(levels - 1):
    out[: c + 1, c] = -(levels - 1 - c) / levels
    out[c + 1 :, c] = (c + 1) / levels
  return out


def nll(beta, thresholds, y, x, z):
  """Row by row: P(y = j) = sig(eta_j) - sig(eta_{j-1}), eta_j = theta_j + gamma_j z - beta x."""
  total = 0.0
  for i in range(len(y)):
    eta = [t[0] + t[1:] @ z[i] - beta @ x[i] for t in thresholds]
    below = np.concatenate([[0.0], 1 / (1 + np.exp(-np.asarray(eta))), [1.0]])
    p = below[y[i] + 1] - below[y[i]]
    if p <= 0:
      return np.inf
    total -= np.log(p)
  return total


def numeric_hessian(f, at, step=1e-4):
  """Central second differences."""
  n = len(at)
  out = np.zeros((n, n))
  e = np.eye(n) * step
  for i in range(n):
    for j in range(i, n):
      corners = (f(at + s * e[i] + t * e[j]) * s * t for s in (1, -1) for t in (1, -1))
      out[i, j] = out[j, i] = sum(corners) / (4 * step**2)
  return out
