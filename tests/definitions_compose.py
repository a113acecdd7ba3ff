"""Objectives without a reference, token-level DPO and wrappers in float64, from the catalogue.

One example at a time, nothing shared with the package.
"""

import numpy as np


def log_sigmoid(z):
  """`log s(z)` without overflow."""
  return -np.logaddexp(0.0, -z)


def smoothed(z, e):
  """-(1-e) ls(z) - e ls(-z), the form of cDPO."""
  return -(1 - e) * log_sigmoid(z) - e * log_sigmoid(-z)


def cpo(p, beta=0.1, label_smoothing=0.0):
  """cDPO form on z = beta (lp_w - lp_l)."""
  return smoothed(beta * (p[0] - p[1]), label_smoothing)


def cpo_hinge(p, beta=0.1):
  """max(0, 1 - beta (lp_w - lp_l))."""
  return max(0.0, 1 - beta * (p[0] - p[1]))


def cpo_ipo(p, n, beta=0.1):
  """(avg_w - avg_l - 1/(2 beta))^2."""
  return (average(p[0], n[0]) - average(p[1], n[1]) - 1 / (2 * beta)) ** 2


def simpo(p, n, beta=2.0, gamma=0.5, label_smoothing=0.0):
  """cDPO form on beta (avg_w - avg_l) - gamma."""
  return smoothed(beta * (average(p[0], n[0]) - average(p[1], n[1])) - gamma, label_smoothing)


def simpo_hinge(p, n, beta=2.0, gamma=0.5):
  """max(0, 1 - (beta (avg_w - avg_l) - gamma))."""
  return max(0.0, 1 - beta * (average(p[0], n[0]) - average(p[1], n[1])) + gamma)


def alphapo(p, n, beta=2.5, gamma=0.1, alpha=0.25):
  """simpo with avg replaced by T(u) = (1 - exp(-alpha u)) / alpha."""
  w, v = ((1 - np.exp(-alpha * average(p[k], n[k]))) / alpha for k in (0, 1))
  return -log_sigmoid(beta * (w - v) - gamma)


def odds_ratio(p, n):
  """-ls of (avg_w - avg_l) - (log(1 - e^avg_w) - log(1 - e^avg_l)), avg at most -1e-7."""
  u = [min(average(p[k], n[k]), -1e-7) for k in (0, 1)]
  odds = [x - np.log(-np.expm1(x)) for x in u]
  return -log_sigmoid(odds[0] - odds[1])


def slic_hf(p, delta=1.0):
  """max(0, delta - lp_w + lp_l)."""
  return max(0.0, delta - p[0] + p[1])


def rrhf(p, n, r, present, length_penalty=1.0):
  """Sum over (i, j) with r_i < r_j of max(0, p_i - p_j), p = lp / |y|^penalty."""
  q = [x / m**length_penalty if m else 0.0 for x, m in zip(p, n, strict=True)]
  who = [i for i in range(len(p)) if present[i]]
  return sum(max(0.0, q[i] - q[j]) for i in who for j in who if r[i] < r[j])


def average(p, n):
  """lp / |y|, 0 for an empty response."""
  return p / n if n else 0.0


def log_softmax(x):
  """Over the last axis."""
  return (
    x
    - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
    - x.max(-1, keepdims=True)
  )


def sequential_kl(logits, ref_logits, mask):
  """sum_t KL(ref || pi) over the tokens that count."""
  p, q = log_softmax(ref_logits), log_softmax(logits)
  return sum((np.exp(p[t]) * (p[t] - q[t])).sum() for t in range(len(mask)) if mask[t])


def tdpo(p, r, logits, ref_logits, mask, beta=0.1, alpha=1.0):
  """-ls(beta (h - alpha (K_l - K_w))); alpha = 1 is the first form."""
  kl = [sequential_kl(logits[k], ref_logits[k], mask[k]) for k in (0, 1)]
  h = (p[0] - r[0]) - (p[1] - r[1])
  return -log_sigmoid(beta * (h - alpha * (kl[1] - kl[0])))


def slope_of_divergence(u, divergence, alpha=0.5):
  """f'(exp(u)): reverse KL u, forward KL 1 - exp(-u), JS log 2 + ls(u), alpha."""
  return {
    "reverse_kl": lambda: u,
    "forward_kl": lambda: 1 - np.exp(-u),
    "js": lambda: np.log(2) + log_sigmoid(u),
    "alpha": lambda: (np.exp((alpha - 1) * u) - 1) / (alpha - 1),
  }[divergence]()


def desensitized(token_logp, mask, alpha):
  """Of both responses: the first min(|y_w|, |y_l|) tokens weigh 1, the rest alpha."""
  counted = [[x for x, m in zip(token_logp[k], mask[k], strict=True) if m] for k in (0, 1)]
  shared = min(map(len, counted))
  return [sum(y[:shared]) + alpha * sum(y[shared:]) for y in counted]


def clamped(token_logp, ref_token_logp, mask, lower, upper):
  """Of each response: the sum of the log-ratios, each kept within the bounds."""
  ratio = np.clip(token_logp - ref_token_logp, lower, upper)
  return [(ratio[k] * mask[k]).sum() for k in range(len(mask))]


def wpo_weight(token_logp, collision, mask):
  """w_w w_l, w = exp(mean_t [log p(y_t) - log sum_v p(v)^2])."""
  means = []
  for k in (0, 1):
    each = [a - c for a, c, m in zip(token_logp[k], collision[k], mask[k], strict=True) if m]
    means.append(np.mean(each) if each else 0.0)
  return np.exp(sum(means))


def lcpo(asserted, exchanged, eta):
  """(loss, w) from the two losses of a pair: w = q eta / (q eta + (1-q)(1-eta)), cross-entropy."""
  delta = exchanged - asserted
  q = np.exp(log_sigmoid(delta))
  w = q * eta / (q * eta + (1 - q) * (1 - eta))
  return -w * log_sigmoid(delta) - (1 - w) * log_sigmoid(-delta), w


def each(one, *arrays, **knobs):
  """A definition of one example applied to every row, in float64."""
  return np.asarray([one(*row, **knobs) for row in zip(*map(np.float64, arrays), strict=True)])
