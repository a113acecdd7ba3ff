"""Advantages in float64 loops, written from the formulas of the catalogue: one group at a time."""

import itertools
import math

import numpy as np


def _valid(reward, present):
  return [j for j in range(len(reward)) if present[j] > 0 and np.isfinite(reward[j])]


def _per_group(fn):
  """Applies `fn(values) -> advantages` to the scorable rewards of each group; 0 elsewhere."""

  def whole(reward, present, **knobs):
    out = np.zeros(np.shape(reward))
    for b, row in enumerate(np.float64(reward)):
      ids = _valid(row, present[b])
      if len(ids) > 1:
        out[b, ids] = fn(row[ids], **knobs)
    return out

  return whole


def _std(x, ddof=1):
  return math.sqrt(sum((v - x.mean()) ** 2 for v in x) / (len(x) - ddof)) if len(x) > ddof else 0.0


@_per_group
def grpo(x, eps=1e-6, ddof=1):
  s = _std(x, ddof)
  return (x - x.mean()) / (s + eps) if s > 1e-6 else 0 * x


@_per_group
def dr_grpo(x):
  return x - x.mean()


@_per_group
def rloo(x):
  return np.asarray([v - np.delete(x, i).mean() for i, v in enumerate(x)])


@_per_group
def grpo_loo(x, eps=1e-6):
  out = []
  for i, v in enumerate(x):
    others = np.delete(x, i)
    n = len(others)
    square = ((others**2).mean() - others.mean() ** 2) * n / (n - 1) if n > 1 else 0.0
    s = math.sqrt(max(square, 0.0))
    out.append((v - others.mean()) / (s + eps) if s > 1e-6 else v - others.mean())
  return np.asarray(out)


@_per_group
def maxrl(x):
  return (x - x.mean()) / x.mean() if x.mean() > 0 else 0 * x


@_per_group
def grpo_passk(x, eps=1e-6, scale="std"):
  first, second = np.sort(x)[::-1][:2]
  out = 0 * x
  out[np.argmax(x)] = (first - second) / (_std(x) + eps if scale == "std" else 1.0)
  return out


@_per_group
def passk_analytic(x, k=4, eps=1e-6):
  """By listing all subsets: the mean of the subsets' successes that hold the rollout."""
  n, right = len(x), x > 0.5
  if n < k:
    return 0 * x
  subsets = list(itertools.combinations(range(n), k))
  best = {s: float(any(right[i] for i in s)) for s in subsets}
  mu = sum(best.values()) / len(subsets)
  s = math.sqrt(mu * (1 - mu))
  if mu in (0.0, 1.0):
    return 0 * x
  own = [np.mean([best[c] for c in subsets if i in c]) for i in range(n)]
  return (np.asarray(own) - mu) / (s + eps)


def opo(reward, mask, present):
  out = np.zeros(reward.shape)
  for b, row in enumerate(np.float64(reward)):
    ids = _valid(row, present[b])
    length = np.float64(mask[b]).sum(1)[ids]
    if len(ids) > 1 and length.sum() > 0:
      out[b, ids] = row[ids] - (length * row[ids]).sum() / length.sum()
  return out


def _all_valid(reward, present):
  return np.asarray(
    [r[j] for r, p in zip(np.float64(reward), present, strict=True) for j in _valid(r, p)]
  )


def grpo_batch_std(reward, present, eps=1e-4):
  return dr_grpo(reward, present) / (_std(_all_valid(reward, present)) + eps)


def gpg(reward, present, f_norm=1.0):
  x = _all_valid(reward, present)
  return dr_grpo(reward, present) * len(x) / max((x != 0).sum(), 1) / f_norm


def whiten(x, mask, ddof=1, small=1e-8):
  values = np.float64(x)[mask > 0]
  if len(values) <= ddof:
    return np.zeros(x.shape)
  variance = ((values - values.mean()) ** 2).sum() / (len(values) - ddof)
  return np.where(mask > 0, (x - values.mean()) / math.sqrt(variance + small), 0.0)


def returns(reward, mask, gamma):
  """Discounted returns-to-go of each row over its counted tokens."""
  out = np.zeros(np.shape(reward))
  for where in np.ndindex(out.shape[:-1]):
    ids = np.nonzero(mask[where] > 0)[0]
    for n, t in enumerate(ids):
      out[where][t] = sum(gamma**i * float(reward[where][u]) for i, u in enumerate(ids[n:]))
  return out


def gae(reward, value, mask, gamma, lam, done=None):
  """By the sum over steps ahead; `lam` may be a function of the row's length."""
  out = np.zeros(np.shape(reward))
  for where in np.ndindex(out.shape[:-1]):
    ids = list(np.nonzero(mask[where] > 0)[0])
    decay = lam(len(ids)) if callable(lam) else lam
    after = 0.0
    for n in reversed(range(len(ids))):
      t = ids[n]
      cut = done is not None and done[where][t] > 0
      last = cut or n + 1 == len(ids)
      value_after = 0.0 if last else float(value[where][ids[n + 1]])
      delta = float(reward[where][t]) + gamma * value_after - float(value[where][t])
      after = delta + gamma * decay * (0.0 if last else after)
      out[where][t] = after
  return out


def otb(reward, logp, collision, weight, mask, tail="zero"):
  """Per position among counted tokens, over the rollouts that reach it."""
  out = np.zeros(np.shape(reward))
  for b in range(len(out)):
    rows = [np.nonzero(m > 0)[0] for m in mask[b]]
    to_go = [
      [float(reward[b, i, ids[n:]].sum()) for n in range(len(ids))] for i, ids in enumerate(rows)
    ]
    path = []
    for i, ids in enumerate(rows):
      w = 1 - 2 * np.exp(np.float64(logp[b, i, ids])) + np.exp(np.float64(collision[b, i, ids]))
      path.append(np.cumsum(w * np.float64(weight[b, i, ids]) ** 2))
    some = sum(len(ids) > 0 for ids in rows)
    for n in range(max(map(len, rows), default=0)):
      here = [i for i, ids in enumerate(rows) if len(ids) > n]
      total = sum(path[i][n] for i in here) + 1e-8
      baseline = sum(to_go[i][n] * path[i][n] for i in here) / total
      if len(here) == 1 and (tail == "zero" or some == 1):
        baseline = 0.0
      for i in here:
        out[b, i, rows[i][n]] = to_go[i][n] - baseline
  return out


def gigpo(
  reward, key, mask, gamma=0.95, step_weight=1.0, normalise="mean", over="episode", eps=1e-6
):
  """Groups as dictionaries."""
  out = np.zeros(np.shape(reward))
  to_go = returns(reward, mask, gamma)
  scale = lambda x: _std(x) + eps if normalise == "std" else 1.0
  for b in range(len(out)):
    alive = [i for i in range(len(reward[b])) if mask[b, i].sum() > 0]
    totals = {i: float((np.float64(reward[b, i]) * mask[b, i]).sum()) for i in alive}
    times = {i: 1 if over == "episode" else int(mask[b, i].sum()) for i in alive}
    rows = np.asarray([totals[i] for i in alive for _ in range(times[i])])
    members = {}
    for i, t in np.argwhere(mask[b] > 0):
      members.setdefault(int(key[b, i, t]), []).append((i, t))
    for group in members.values():
      values = np.asarray([to_go[b, i, t] for i, t in group])
      for (i, t), v in zip(group, values, strict=True):
        s = scale(values)
        step = (v - values.mean()) / s if len(group) > 1 and _std(values) > 1e-6 else 0.0
        spread = len(rows) > 1 and _std(rows) > 1e-6
        episode = (totals[i] - rows.mean()) / scale(rows) if spread else 0.0
        out[b, i, t] = episode + step_weight * step
  return out


def rank_grpo(reward, mask, eps=1e-4, scale="std", missing="leave_out"):
  out = np.zeros(np.shape(reward))
  for b in range(len(out)):
    for s in range(reward.shape[2]):
      lists = [i for i in range(reward.shape[1]) if mask[b, i].sum() > 0]
      if missing == "leave_out":
        lists = [i for i in lists if mask[b, i, s] > 0]
      x = np.asarray([float(reward[b, i, s]) * mask[b, i, s] for i in lists])
      if len(x) < 2 or _std(x) <= 1e-6:
        continue
      for i, v in zip(lists, x, strict=True):
        out[b, i, s] = (v - x.mean()) / (_std(x) + eps if scale == "std" else 1.0) * mask[b, i, s]
  return out


def treepo(reward, key, mask, present, eps=1e-6):
  out, all_off = np.zeros(reward.shape), []
  for b in range(len(out)):
    ids = _valid(reward[b], present[b])
    for i in ids:
      off = []
      for s in np.nonzero(mask[b, i] > 0)[0]:
        peers = [j for j in ids if mask[b, j, s] > 0 and key[b, j, s] == key[b, i, s]]
        off.append(float(reward[b, i]) - np.mean([float(reward[b, j]) for j in peers]))
      out[b, i] = np.mean(off) if off else 0.0
      all_off.append(out[b, i])
  return out / (_std(np.asarray(all_off)) + eps)


def gfpo(reward, mask, present, retain=8, by="length", eps=1e-6):
  out = np.zeros(reward.shape)
  length = np.float64(mask).sum(2)
  for b in range(len(out)):
    ids = _valid(reward[b], present[b])
    worth = -length[b] if by == "length" else reward[b] / np.maximum(length[b], 1)
    kept = [i for _, i in sorted((-worth[i], i) for i in ids)][:retain]
    x = np.float64(reward[b, kept])
    if len(kept) > 1 and _std(x) > 1e-6:
      out[b, kept] = (x - x.mean()) / (_std(x) + eps)
  return out
