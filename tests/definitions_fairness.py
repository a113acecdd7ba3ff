"""Measures of individual item fairness in float64 numpy, written from papers/item_fairness.md."""

import numpy as np

# the measures of the golden file in our words
NAMES = {
  "Jain": "jain",
  "QF": "qualification",
  "Ent": "entropy",
  "FSat": "satisfaction",
  "Gini": "gini",
  "Gini-w": "gini_attention",
}
OURS = {f"{a}_ori": b for a, b in NAMES.items()} | {
  f"{a}_our": f"{b}_corrected" for a, b in NAMES.items()
}
OURS |= {"VoCD_ori": "vocd", "II-D_ori": "iid", "AI-D_ori": "aid"}


def values(rec, n):
  """The 15 measures by their names in the golden file; ids 1..n; nan where the card has none."""
  with np.errstate(all="ignore"):
    return _values(np.asarray(rec), n)


def _values(rec, n):
  m, k = rec.shape
  slot = k * m
  f, q = divmod(slot, n)
  c = np.asarray([(rec == i).sum() for i in range(1, n + 1)], float)
  out = {}
  out["Jain_ori"] = slot**2 / (n * (c**2).sum())
  best = (slot**2 / n) / (n * f**2 + q * (2 * f + 1))
  out["Jain_our"] = np.float64(out["Jain_ori"] - k / n) / np.float64(best - k / n)
  seen = (c > 0).sum()
  out["QF_ori"] = seen / n
  out["QF_our"] = np.float64(seen - k) / np.float64((n if slot >= n else slot) - k)
  p = c / slot
  out["Ent_ori"] = -(p * np.log(p)).sum() / np.log(n)
  exposed = p[p > 0]
  ent = -(exposed * np.log(exposed)).sum() / np.log(n)
  low = np.log(k) / np.log(n)
  if slot >= n:
    a, b = f / slot, (f + 1) / slot
    high = (-(n - q) * a * np.log(a) - q * b * np.log(b)) / np.log(n)
  else:
    high = np.log(slot) / np.log(n)
  out["Ent_our"] = (ent - low) / (high - low)
  out["Gini_ori"] = _gini(c)
  least = (n - q) * q / (n * slot)
  out["Gini_our"] = np.float64(out["Gini_ori"] - least) / (1 - k / n - least)
  out |= _weighted(rec, n)
  out["FSat_ori"] = (c >= slot // n).mean()
  out["FSat_our"] = np.float64(out["FSat_ori"] - k / n) / np.float64(1 - k / n)
  pairs = [abs(a - b) / max(a, b) for i, a in enumerate(c) for b in c[i + 1 :] if a > 0 and b > 0]
  out["VoCD_ori"] = np.mean(pairs) if pairs else np.nan
  gamma = 0.8
  e = np.zeros((m, n))
  for u in range(m):
    for place, i in enumerate(rec[u]):
      e[u, i - 1] = gamma**place
  target = (1 - gamma**k) / ((1 - gamma) * n)
  out["II-D_ori"] = ((e - target) ** 2).mean()
  out["AI-D_ori"] = ((e - target).mean(0) ** 2).mean()
  return out


def _gini(x):
  """Sum over all pairs of absolute differences, over 2 n^2 means."""
  return np.abs(x[:, None] - x[None, :]).sum() / (2 * len(x) ** 2 * x.mean())


def _weighted(rec, n):
  m, k = rec.shape
  w = 1 / np.log2(np.arange(2, k + 2))
  e = np.asarray([(w * (rec == i)).sum() for i in range(1, n + 1)])
  value = _gini(e)
  scale = n * m * w.sum()
  up = np.sort(w)
  most = sum((2 * (n - k + 1 + a) - n - 1) * m * up[a] for a in range(k)) / scale
  least = 0.0
  if k * m <= n:
    for place in range(1, k + 1):
      for j in range(n - place * m + 1, n - place * m + m + 1):
        least += (2 * j - n - 1) / np.log2(place + 1) / scale
  return {"Gini-w_ori": value, "Gini-w_our": np.float64(value - least) / np.float64(most - least)}


def curves(hits, total):
  """Accuracy at every cut-off, averaged over users, one user and one cut-off at a time."""
  users, top = hits.shape
  out = {name: np.zeros(top) for name in ("hit", "mrr", "prec", "map", "recall", "ndcg")}
  for u in range(users):
    for c in range(1, top + 1):
      row = hits[u, :c]
      places = np.flatnonzero(row) + 1
      best = min(total[u], c)
      out["hit"][c - 1] += len(places) > 0
      out["mrr"][c - 1] += 1 / places[0] if len(places) else 0
      out["prec"][c - 1] += len(places) / c
      out["map"][c - 1] += sum(hits[u, :p].sum() / p for p in places) / best if best else 0
      out["recall"][c - 1] += len(places) / total[u] if total[u] else 0
      ideal = sum(1 / np.log2(p + 1) for p in range(1, best + 1))
      out["ndcg"][c - 1] += sum(1 / np.log2(p + 1) for p in places) / ideal if best else 0
  return {name: value / users for name, value in out.items()}
