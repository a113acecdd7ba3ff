"""Pair objectives with a reference, in float64 numpy, written from section 2 of catalogue 1.

Arguments have the functions' names; nothing is shared with the package.
"""

import definitions
import numpy as np
from definitions import log_sigmoid as ls


def s(z):
  """The logistic function without overflow."""
  return np.exp(ls(z))


def rdpo_robust(logp, ref_logp, beta=0.1, label_smoothing=0.1):
  """[-(1-e) ls(beta h) + e ls(-beta h)] / (1-2e)."""
  e, h = label_smoothing, _h(logp, ref_logp)
  return (-(1 - e) * ls(beta * h) + e * ls(-beta * h)) / (1 - 2 * e)


def hinge(logp, ref_logp, beta=0.1):
  """max(0, 1 - beta h)."""
  return np.maximum(0.0, 1 - beta * _h(logp, ref_logp))


def dpo_norm(logp, ref_logp, length, beta=5.0):
  """-ls(beta (a/|y_w| - b/|y_l|)); an empty response has log-ratio 0."""
  a, b = _ab(logp, ref_logp)
  n = np.float64(length)
  each = [np.where(m > 0, x / np.maximum(m, 1), 0.0) for x, m in ((a, n[:, 0]), (b, n[:, 1]))]
  return -ls(beta * (each[0] - each[1]))


def exo_pair(logp, ref_logp, beta=0.1, label_smoothing=1e-3):
  """q log(q/(1-e)) + (1-q) log((1-q)/e), q = s(beta h)."""
  e, z = label_smoothing, beta * _h(logp, ref_logp)
  return s(z) * (ls(z) - np.log(1 - e)) + s(-z) * (ls(-z) - np.log(e))


def nca_pair(logp, ref_logp, beta=0.01):
  """-ls(beta a) - 0.5 ls(-beta a) - 0.5 ls(-beta b)."""
  a, b = _ab(logp, ref_logp)
  return -ls(beta * a) - 0.5 * ls(-beta * a) - 0.5 * ls(-beta * b)


def nca_biased(logp, ref_logp, beta=0.01):
  """-ls(beta a) - ls(-beta b)."""
  a, b = _ab(logp, ref_logp)
  return -ls(beta * a) - ls(-beta * b)


def bco_pair(logp, ref_logp, beta=0.1, shift=0.0):
  """-ls(beta a - d) - ls(-(beta b - d))."""
  a, b = _ab(logp, ref_logp)
  return -ls(beta * a - shift) - ls(-(beta * b - shift))


def sppo_hard(logp, ref_logp, beta=1e-3):
  """(a - 1/(2 beta))^2 + (b + 1/(2 beta))^2."""
  a, b = _ab(logp, ref_logp)
  return (a - 1 / (2 * beta)) ** 2 + (b + 1 / (2 * beta)) ** 2


def sppo(logp, ref_logp, reward, beta=1e-3):
  """0.5 [(a - (P_w-0.5)/beta)^2 + (b - (P_l-0.5)/beta)^2]."""
  a, b = _ab(logp, ref_logp)
  win, lose = np.float64(reward).T
  return 0.5 * ((a - (win - 0.5) / beta) ** 2 + (b - (lose - 0.5) / beta) ** 2)


def aot(logp, ref_logp, weight, beta=0.1, label_smoothing=0.0):
  """cDPO on sort(lp_w-lp_l) - sort(lr_w-lr_l), at the rank of each row's policy margin."""
  p, r = np.float64(logp), np.float64(ref_logp)
  return _ranked(p[:, 0] - p[:, 1], r[:, 0] - r[:, 1], weight, beta, label_smoothing)


def aot_unpaired(logp, ref_logp, weight, beta=0.1, label_smoothing=0.0):
  """cDPO on sort(a) - sort(b), at the rank of each row's a."""
  return _ranked(*_ab(logp, ref_logp), weight, beta, label_smoothing)


def apo_zero(logp, ref_logp, beta=0.1):
  """1 - s(beta a) + s(beta b)."""
  a, b = _ab(logp, ref_logp)
  return 1 - s(beta * a) + s(beta * b)


def apo_down(logp, ref_logp, beta=0.1):
  """s(beta a) + 1 - s(beta h)."""
  return s(beta * _ab(logp, ref_logp)[0]) + 1 - s(beta * _h(logp, ref_logp))


def discopop(logp, ref_logp, beta=0.1, tau=0.05):
  """(1-w)(-ls(z)) + w exp(-z), z = beta h, w = s(z/t)."""
  z = beta * _h(logp, ref_logp)
  return (1 - s(z / tau)) * -ls(z) + s(z / tau) * np.exp(-z)


def kto_pair(logp, ref_logp, weight, beta=0.1):
  """1-s(beta(a - KL_l)), 1-s(beta(KL_w - b)), KL_w = max(0, mean a), KL_l = max(0, mean b)."""
  a, b = _ab(logp, ref_logp)
  kl_w, kl_l = (max(0.0, np.average(x, weights=np.float64(weight))) for x in (a, b))
  return np.stack([1 - s(beta * (a - kl_l)), 1 - s(beta * (kl_w - b))], 1)


def dpop(logp, ref_logp, beta=0.3, penalty=50.0):
  """-ls(beta (h - lam * max(0, -a)))."""
  a, b = _ab(logp, ref_logp)
  return -ls(beta * (a - b - penalty * np.maximum(0.0, -a)))


def rdpo_length(logp, ref_logp, length, beta=0.1, alpha=0.01):
  """-ls(beta h + alpha(|y_w| - |y_l|))."""
  n = np.float64(length)
  return -ls(beta * _h(logp, ref_logp) + alpha * (n[:, 0] - n[:, 1]))


def wpo_length(logp, ref_logp, length, beta=0.01, label_smoothing=0.0):
  """min(1, exp(avg lp_w + avg lp_l)) * cDPO."""
  weight = np.minimum(1.0, np.exp((np.float64(logp) / np.float64(length)).sum(1)))
  return weight * definitions.cdpo(logp, ref_logp, beta, label_smoothing)


def cal_dpo(logp, ref_logp, beta=1e-3):
  """-ls(h) + 0.5[(a - 1/(2beta))^2 + (b + 1/(2beta))^2]."""
  return -ls(_h(logp, ref_logp)) + 0.5 * sppo_hard(logp, ref_logp, beta)


def odpo(logp, ref_logp, reward, beta=0.1, alpha=1.0, scale="log"):
  """-ls(beta h - alpha f(r_w - r_l)), f = log by default."""
  gap = np.float64(reward)[:, 0] - np.float64(reward)[:, 1]
  offset = np.log(np.maximum(gap, 1e-6)) if scale == "log" else gap
  return -ls(beta * _h(logp, ref_logp) - alpha * offset)


def margin_dpo(logp, ref_logp, strength, beta=0.1):
  """-ls(beta h - m_i)."""
  return -ls(beta * _h(logp, ref_logp) - np.float64(strength))


def alpha_dpo(logp, ref_logp, length, mean, std, beta=2.5, gamma=1.5, alpha=0.2):
  """-ls(beta(avg_w - avg_l - [gamma/beta + alpha (M - mean M)/std M])), M = h of averages."""
  p, r = np.float64(logp) / np.float64(length), np.float64(ref_logp) / np.float64(length)
  m = (p - r)[:, 0] - (p - r)[:, 1]
  return -ls(beta * (p[:, 0] - p[:, 1] - (gamma / beta + alpha * (m - mean) / std)))


def spin(logp, ref_logp, beta=0.1, link="logistic"):
  """Dpo, or the hinge of the repository."""
  return (hinge if link == "hinge" else definitions.dpo)(logp, ref_logp, beta)


def rebel(logp, ref_logp, reward, eta=1.0):
  """((1/eta) h - (r_w - r_l))^2."""
  r = np.float64(reward)
  return (_h(logp, ref_logp) / eta - (r[:, 0] - r[:, 1])) ** 2


def inpo(logp, ref_logp, old_logp, eta=0.0075, tau=0.0025):
  """([lp] - (tau/eta)[lr] - ((eta-tau)/eta)[lq] - 1/(2 eta))^2, [x] = x_w - x_l."""
  p, r, q = (np.float64(x)[:, 0] - np.float64(x)[:, 1] for x in (logp, ref_logp, old_logp))
  return (p - tau / eta * r - (eta - tau) / eta * q - 1 / (2 * eta)) ** 2


def _ab(logp, ref_logp):
  return (np.float64(logp) - np.float64(ref_logp)).T


def _h(logp, ref_logp):
  a, b = _ab(logp, ref_logp)
  return a - b


def _ranked(x, y, weight, beta, e):
  """Rows of weight 0 have no rank and loss 0."""
  counts, out = np.flatnonzero(np.float64(weight) > 0), np.zeros(len(x))
  partners = np.sort(y[counts])
  for rank, row in enumerate(sorted(counts, key=lambda i: x[i])):
    z = beta * (x[row] - partners[rank])
    out[row] = -(1 - e) * ls(z) - e * ls(-z)
  return out
