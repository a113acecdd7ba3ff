"""Policy, KL and value losses in float64, from catalogue 2 (sections 4 and 5), one loop per token.

Each takes the arrays of one response, [T], and returns the loss of each of its tokens that count.
`loss(name, arrays, **knobs)` runs one over [B, K, T].
"""

import numpy as np


def loss(name, arrays, **knobs):
  """f64[B, K, T] of a definition; 0 where no token counts."""
  arrays = {k: np.float64(v) for k, v in arrays.items()}
  mask = arrays.pop("mask") > 0
  out = np.zeros(mask.shape)
  for i in np.ndindex(mask.shape[:2]):
    if mask[i].any():
      row = {k: v[i] if v.ndim == 2 else v[i][mask[i]] for k, v in arrays.items()}
      out[i][mask[i]] = globals()[name](row, **knobs)
  return out


def _log_ratio(row):
  return row["token_logp"] - row["old_token_logp"]


def _at(level, d):
  whole = {"sequence": d.mean(), "product": d.sum()}
  return np.exp(d if level == "token" else np.full(d.shape, whole[level]))


def _clip_loss(rho, a, low, high):
  return -np.minimum(rho * a, np.clip(rho, 1 - low, 1 + high) * a)


def ppo_clip(row, epsilon_low=0.2, epsilon_high=0.2, level="token"):
  return _clip_loss(_at(level, _log_ratio(row)), row["advantage"], epsilon_low, epsilon_high)


def dual_clip(row, epsilon_low=0.2, epsilon_high=0.2, dual=3.0, level="token"):
  a, rho = row["advantage"], _at(level, _log_ratio(row))
  cut = np.clip(rho, 1 - epsilon_low, 1 + epsilon_high)
  bad = np.minimum(np.maximum(-a * rho, -a * cut), -dual * a)
  return np.where(a < 0, bad, -np.minimum(rho * a, cut * a))


def two_sided(row, epsilon_low=0.2, epsilon_high=0.2, delta=4.0, level="token"):
  a, rho = row["advantage"], _at(level, _log_ratio(row))
  return -np.minimum(
    np.minimum(rho, delta) * a, np.clip(rho, 1 - epsilon_low, 1 + epsilon_high) * a
  )


def segment_clip(row, epsilon_low=0.06, epsilon_high=0.08):
  d, rho = _log_ratio(row), np.zeros(len(row["token_logp"]))
  for s in set(row["segment"]):
    rho[row["segment"] == s] = np.exp(d[row["segment"] == s].mean())
  return _clip_loss(rho, row["advantage"], epsilon_low, epsilon_high)


def decoupled_ppo(row, epsilon_low=0.2, epsilon_high=0.2, cap=5.0, beyond="mask"):
  w = np.exp(row["old_token_logp"] - row["sampler_token_logp"])
  w = np.where(w > cap, cap if beyond == "cap" else 0.0, w)
  return w * ppo_clip(row, epsilon_low, epsilon_high)


def gspo(row, epsilon_low=3e-4, epsilon_high=4e-4):
  return ppo_clip(row, epsilon_low, epsilon_high, "sequence")


gspo_token = luspo = gspo


def rloo_loss(row, epsilon_low=0.2, epsilon_high=0.2):
  return ppo_clip(row, epsilon_low, epsilon_high, "product")


def gmpo(row, epsilon_low=0.4, epsilon_high=0.4):
  a, d = row["advantage"], _log_ratio(row)
  one_sided = np.where(a < 0, np.maximum(d, -epsilon_low), np.minimum(d, epsilon_high))
  return np.full(d.shape, -a.mean() * np.exp(one_sided.mean()))


def reinforce(row):
  return -row["advantage"] * row["token_logp"]


def cispo(row, cap_low=0.0, cap_high=5.0):
  return np.clip(np.exp(_log_ratio(row)), cap_low, cap_high) * reinforce(row)


def tis_pg(row, cap_low=0.0, cap_high=1.0):
  return cispo(row, cap_low, cap_high)


def cispo_unified(row, cap_low=0.8, cap_high=1.2):
  rho, a = np.exp(_log_ratio(row)), row["advantage"]
  stays = ~(((a > 0) & (rho > cap_high)) | ((a < 0) & (rho < cap_low)))
  return stays * cispo(row, cap_low, cap_high)


def topr(row, level="product"):
  rho = np.clip(_at(level, _log_ratio(row)), 0, 1)
  return (1.0 if row["reward"] > 0 else rho) * reinforce(row)


def vespo(row, k_pos=2.0, lambda_pos=3.0, k_neg=3.0, lambda_neg=2.0):
  log_w = np.clip(_log_ratio(row).sum(), np.log(1e-8), 20)
  good = row["advantage"] >= 0
  k, rate = np.where(good, k_pos, k_neg), np.where(good, lambda_pos, lambda_neg)
  return np.exp(rate + k * log_w - rate * np.exp(log_w)) * reinforce(row)


def sapo(row, temperature_pos=1.0, temperature_neg=1.05):
  a, rho = row["advantage"], np.exp(_log_ratio(row))
  t = np.where(a > 0, temperature_pos, temperature_neg)
  return -a * 4 / t / (1 + np.exp(-t * (rho - 1)))


def dro(row, beta=0.1):
  return -(row["token_logp"] * row["advantage"] - 0.5 * beta * _log_ratio(row) ** 2)


def kimi15(row, tau=0.1):
  return reinforce(row) + 0.5 * tau * _log_ratio(row) ** 2


def _dppo(row, keep, max_ratio):
  return np.minimum(np.exp(_log_ratio(row)), max_ratio) * keep * reinforce(row)


def dppo_tv(row, epsilon_low=0.15, epsilon_high=0.15, max_ratio=20.0):
  p, q = np.exp(row["token_logp"]), np.exp(row["old_token_logp"])
  keep = np.where(row["advantage"] > 0, p - q <= epsilon_high, p - q >= -epsilon_low)
  return _dppo(row, keep, max_ratio)


def dppo_kl(row, epsilon_low=0.05, epsilon_high=0.05, max_ratio=20.0):
  p, q = np.exp(row["token_logp"]), np.exp(row["old_token_logp"])
  kl = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
  good = (kl <= epsilon_high) | (p <= q)
  bad = (kl <= epsilon_low) | (p >= q)
  return _dppo(row, np.where(row["advantage"] > 0, good, bad), max_ratio)


def kl_penalty(row, estimator="k3", max_log_ratio=20.0, max_kl=0.0):
  d = row["token_logp"] - row["ref_token_logp"]
  if estimator in ("k3", "k3+"):
    x = np.clip(-d, -max_log_ratio, max_log_ratio)
    value = np.exp(x) - 1 - x
  else:
    value = {"k1": d, "k1+": d, "k2": d**2 / 2, "abs": np.abs(d)}[estimator]
  return np.clip(value, -max_kl, max_kl) if max_kl else value


def kl_corrected(row, **knobs):
  return np.exp(_log_ratio(row)) * kl_penalty(row, **knobs)


def entropy_bonus(row):
  return -row["entropy"]


def value_mse(row):
  return 0.5 * (row["value"] - row["returns"]) ** 2


def value_clip(row, epsilon=0.5):
  v, old, ret = row["value"], row["old_value"], row["returns"]
  return 0.5 * np.maximum((v - ret) ** 2, (np.clip(v, old - epsilon, old + epsilon) - ret) ** 2)


def covariance(logp, advantage, mask):
  """Each token's share of the batch's covariance."""
  on = mask > 0
  return (advantage - advantage[on].mean()) * (logp - logp[on].mean())


def kl_cov(arrays, fraction=2e-4, coefficient=1.0):
  """Over the whole batch [B, K, T]."""
  x = {k: np.float64(v) for k, v in arrays.items()}
  d = x["token_logp"] - x["old_token_logp"]
  cov = np.where(x["mask"] > 0, covariance(x["token_logp"], x["advantage"], x["mask"]), -np.inf)
  count = max(1, int(fraction * (x["mask"] > 0).sum()))
  chosen = np.isin(np.arange(cov.size), np.argsort(-cov.ravel())[:count]).reshape(cov.shape)
  return x["mask"] * (-x["advantage"] * np.exp(d) + chosen * coefficient * np.abs(d))


def clip_cov_candidates(arrays, epsilon_low=0.2, epsilon_high=0.2, cov_low=1.0, cov_high=5.0):
  """bool[B, K, T], which tokens may be left out, and the loss of all of them."""
  x = {k: np.float64(v) for k, v in arrays.items()}
  rho, cov = np.exp(_log_ratio(x)), covariance(x["token_logp"], x["advantage"], x["mask"])
  held = np.clip(rho, 1 - epsilon_low, 1 + epsilon_high) * x["advantage"] < rho * x["advantage"]
  may = (x["mask"] > 0) & (cov > cov_low) & (cov < cov_high) & ~held
  return may, x["mask"] * _clip_loss(rho, x["advantage"], epsilon_low, epsilon_high)
