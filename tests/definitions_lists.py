"""Listwise, unpaired and self-play objectives once more, in float64 numpy, from the catalogue.

One example at a time; absent candidates are cut out before anything is computed, orders are made
by sorting. Nothing is shared with the package.
"""

import numpy as np


def softplus(z):
  """log(1 + e^z)."""
  return np.logaddexp(0.0, z)


def sigmoid(z):
  """1 / (1 + e^-z) without overflow."""
  return np.exp(-softplus(-z))


def lse(x):
  """Log of the sum of exponentials."""
  return np.logaddexp.reduce(x)


def log_softmax(x):
  """Log-softmax of a list."""
  return x - lse(x)


def each(one):
  """Applies a definition of one example to every row, in float64."""

  def rows(*arrays, **knobs):
    columns = zip(*map(np.float64, arrays), strict=True)
    return np.asarray([one(*row, **knobs) for row in columns])

  return rows


def lists(one):
  """As `each`; the last array is `present`, and absent candidates are cut out of the others."""

  def cut(*row, **knobs):
    there = row[-1] > 0
    return one(*(x[there] for x in row[:-1]), **knobs) if there.sum() > 1 else 0.0

  return each(cut)


def policy(on_scores, default):
  """A definition on scores as one on logp and ref_logp, with beta."""

  def one(p, r, g, beta=default, **knobs):
    return on_scores(beta * (p - r), g, **knobs)

  return lists(one)


def _order(g):
  return np.argsort(-g, kind="stable")


def _places(s):
  out = np.empty(len(s))
  out[_order(s)] = np.arange(1, len(s) + 1)
  return out


def _pairs(g):
  return [(i, j) for i in range(len(g)) for j in range(len(g)) if g[i] > g[j]]


def _over(s, g, loss, pairs="sum", weight=None):
  found = [loss(s[i] - s[j]) * (weight(i, j) if weight else 1.0) for i, j in _pairs(g)]
  return np.sum(found) / (max(len(found), 1) if pairs == "mean" else 1)


def _pl(s, g, top=0):
  r = s[_order(g)]
  terms = [lse(r[k:]) - r[k] for k in range(len(r) - 1)]
  return sum(terms[: top or None])


def _infonca(s, g, temperature=1.0):
  return -(np.exp(log_softmax(g / temperature)) * log_softmax(s)).sum()


def _nca(s, g, temperature=1.0):
  p = np.exp(log_softmax(g / temperature))
  return softplus(s).mean() + (p * softplus(-s)).sum()


def _exo(s, g, temperature=1.0):
  q = log_softmax(s)
  return (np.exp(q) * (q - log_softmax(g / temperature))).sum()


def _softmax(s, g):
  return -(g * log_softmax(s)).sum()


def _unique(s, g):
  total = 0.0
  for i in range(len(s)):
    worse = [s[j] for j in range(len(s)) if g[j] < g[i]]
    total += (2 ** g[i] - 1) * (lse(np.asarray([s[i], *worse])) - s[i])
  return total


def _gain(g):
  return lambda i, j: abs(2 ** g[i] - 2 ** g[j])


def _lambda(s, g):
  tau, gain = _places(s), _gain(g)
  weight = lambda i, j: gain(i, j) * abs(1 / np.log(1 + tau[i]) - 1 / np.log(1 + tau[j]))
  return _over(s, g, lambda d: softplus(-d), weight=weight)


def _lambda2(s, g):
  tau, gain = _places(s), _gain(g)

  def weight(i, j):
    d = abs(tau[i] - tau[j])
    return gain(i, j) * abs(1 / np.log2(1 + d) - 1 / np.log2(2 + d))

  return _over(s, g, lambda d: softplus(-d), weight=weight)


def _labeldiff(s, g):
  return _over(s, g, lambda d: softplus(-d), weight=lambda i, j: abs(g[i] - g[j]))


def _logistic(s, g, pairs="sum"):
  return _over(s, g, lambda d: softplus(-d), pairs)


def _hinge(s, g, pairs="sum"):
  return _over(s, g, lambda d: max(0.0, 1 - d), pairs)


def _zero_one(s, g, pairs="sum"):
  return _over(s, g, lambda d: sigmoid(-d), pairs)


def _mse(s, g, pairs="sum"):
  gaps = (s[:, None] - s[None, :] - g[:, None] + g[None, :]) ** 2
  return gaps.sum() if pairs == "sum" else gaps.mean()


def _approx_ndcg(s, g, temperature=1.0):
  tau = [1 + sum(sigmoid((b - a) / temperature) for j, b in enumerate(s) if j != i)
         for i, a in enumerate(s)]  # fmt: skip
  gain = 2**g - 1
  best = (gain / np.log2(1 + _places(g))).sum()
  return -(gain / np.log2(1 + np.asarray(tau))).sum() / best if best else 0.0


def _ranklist(s, g, far="lse", far_weight=1.0, skip=0, margin=0.0):
  order = _order(g)
  s, g, total = s[order], g[order], 0.0
  for i in range(len(s)):
    js = [j for j in range(i + 1, len(s)) if g[i] - g[j] >= margin and g[i] > g[j]]
    js = [j for j in js if not skip or j - i <= skip]
    total += sum(softplus(s[j] - s[i]) for j in js if j == i + 1)
    beyond = np.asarray([s[j] - s[i] for j in js if j > i + 1])
    if far == "pairs":
      total += far_weight * softplus(beyond).sum()
    elif len(beyond):
      total += far_weight * softplus(lse(beyond))
  return total


def _ranklist_skip(s, g, skip=1, margin=0.0):
  order = _order(g)
  s, g, total = s[order], g[order], 0.0
  for k in range(1, (skip or len(s)) + 1):
    found = [
      softplus(s[i + k] - s[i])
      for i in range(len(s) - k)
      if g[i] > g[i + k] and g[i] - g[i + k] >= margin
    ]
    total += np.mean(found) if found else 0.0
  return total


def _pro(p, n, g, sft_weight=0.05):
  order = _order(g)
  total, p, n, g = 0.0, p[order], n[order], g[order]
  mean = np.where(n > 0, p / np.where(n > 0, n, 1), 0.0)
  for k in range(len(p) - 1):
    gap = g[k] - g[k + 1 :]
    top = mean[k] * gap.max()
    total += lse(np.asarray([top, *(mean[k + 1 :] * gap)])) - top
  return total - sft_weight * (len(p) - 1) ** 2 * p[0]


def _irpo(p, r, n, g, rank, beta=1.0, gain="exponential", discount="log", rivals="mean"):
  s, total = beta * (p - r) / n, 0.0
  for i in range(len(s)):
    w = (2 ** g[i] - 1) if gain == "exponential" else 1.0
    w = w / np.log2(1 + rank[i]) if discount == "log" else w / rank[i]
    z = lse(np.delete(s, i) - s[i]) - (np.log(len(s) - 1) if rivals == "mean" else 0.0)
    total += w * softplus(z)
  return total / len(s)


def _s_dpo(p, r, beta=1.0):
  s = beta * (p - r)
  return softplus(lse(s[1:] - s[0]))


SCORES = {
  "plackett_luce": _pl,
  "list_net": _infonca,
  "list_softmax": _softmax,
  "list_unique_softmax": _unique,
  "approx_ndcg": _approx_ndcg,
  "rm_all_pairs": lambda s, g, pairs="mean": _logistic(s, g, pairs),
  "list_hinge": _hinge,
  "list_zero_one": _zero_one,
  "list_mse": _mse,
  "list_lambda_dcg": lambda s, g: np.log(2) * _lambda(s, g),
  "list_lambda_dcg2": _lambda2,
  "list_lambda_labeldiff": _labeldiff,
  "ranklist": _ranklist,
  "ranklist_skip": _ranklist_skip,
}
POLICY = {
  "pl_dpo": (_pl, 0.1),
  "infonca": (_infonca, 0.01),
  "nca": (_nca, 0.01),
  "exo": (_exo, 0.1),
  "dpo_rw": (_infonca, 0.1),
  "lipo_lambda": (_lambda, 0.1),
  "lipo_logistic": (_logistic, 0.1),
  "lipo_hinge": (_hinge, 0.1),
  "lipo_softmax": (_softmax, 0.1),
}
LISTS = {name: lists(one) for name, one in SCORES.items()}
LISTS |= {name: policy(*row) for name, row in POLICY.items()}
LISTS |= {"pro": lists(_pro), "irpo": lists(_irpo), "s_dpo": lists(_s_dpo)}


@each
def apo_zero_unpaired(p, r, good, beta=0.1):
  """1 - s(beta a) for desirable, s(beta b) for undesirable."""
  u = beta * (p[0] - r[0])
  return 1 - sigmoid(u) if good[0] else sigmoid(u)


def bco(logp, ref_logp, relevance, past=(), beta=0.1, density=None):
  """-ls(r - d), -w ls(-(r - d)), d the mean of `past` and of this batch's rewards."""
  r = beta * (np.float64(logp) - ref_logp)[:, 0]
  d = np.concatenate([np.float64(past), r]).mean()
  w = np.ones(len(r)) if density is None else np.float64(density)
  good = np.asarray(relevance)[:, 0] > 0.5
  return np.where(good, softplus(-(r - d)), w * softplus(r - d)), d


@each
def xpo(p, r, g, beta=0.1, alpha=1e-5):
  """DPO with the winner chosen, plus alpha times the log-probability of the reference's sample."""
  win = 0 if g[0] >= g[1] else 1
  h = (p - r)[win] - (p - r)[1 - win]
  return softplus(-beta * h) + alpha * p[1]


@each
def xpo_ipo(p, r, g, beta=0.1, alpha=1e-5):
  """IPO on sums with the winner chosen, plus the bonus."""
  win = 0 if g[0] >= g[1] else 1
  h = (p - r)[win] - (p - r)[1 - win]
  return (h - 1 / (2 * beta)) ** 2 + alpha * p[1]


@each
def nash_md(p, r, m, prob, beta=0.1):
  """-(P - 0.5) lp(y) + beta sum_t log-ratio_t log pi(y_t)."""
  p, r = p[0][m[0] > 0], r[0][m[0] > 0]
  return -(prob - 0.5) * p.sum() + beta * ((p - r) * p).sum()


@each
def a2po(p, r, reward, value, beta=1e-3):
  """(beta (lp - lr) - (r - V))^2."""
  return (beta * (p - r) - (reward - value)) ** 2


@each
def optimal_value(reward, present, beta=0.5):
  """beta (logsumexp(r / beta) - log N)."""
  r = reward[present > 0]
  return beta * (lse(r / beta) - np.log(len(r))) if len(r) else 0.0


def metric(name, score, relevance, present, top=0):
  """Ranking metrics by sorting: ndcg, dcg, reciprocal_rank, average_precision, recall, ..."""
  out = []
  for s, g, there in zip(*map(np.float64, (score, relevance, present)), strict=True):
    s, g = s[there > 0], g[there > 0]
    shown, cut = g[_order(s)], top or max(len(s), 1)
    dcg = lambda x, cut=cut: sum((2**y - 1) / np.log2(2 + i) for i, y in enumerate(x[:cut]))
    good, best = shown > 0, dcg(np.sort(g)[::-1])
    hits = [good[: i + 1].mean() for i in range(min(cut, len(s))) if good[i]]
    out.append({
      "dcg": dcg(shown),
      "ndcg": dcg(shown) / best if best else 0.0,
      "reciprocal_rank": 1 / (1 + np.argmax(good)) if good[:cut].any() else 0.0,
      "average_precision": sum(hits) / good.sum() if good.any() else 0.0,
      "recall": good[:cut].sum() / good.sum() if good.any() else 0.0,
      "mean_relevance": shown[:cut].mean() if len(shown) else 0.0,
    }[name])  # fmt: skip
  return np.asarray(out)
