"""The published models, fitted to the bundled ratings."""

import numpy as np

from jaxpref.analysis import brant, likelihood_ratio, odds_ratios, partial_odds
from jaxpref.data import debates

EFFECTS = ("AI", "human personalised", "AI personalised")
LEVELS = 5


def coding():
  """Backward differences f64[5, 4]: column c steps up by 1 between levels c and c + 1."""
  step = np.tri(LEVELS, LEVELS - 1, -1)
  return step - step.mean(0)


def treatments(arm):
  """f64[N, 3]: dummies of the arms `EFFECTS`; Human-Human is the baseline."""
  order = [debates.ARMS.index(f"Human-{a}") for a in ("AI", "Human, personalized")]
  order.append(debates.ARMS.index("Human-AI, personalized"))
  return (arm[:, None] == np.asarray(order)).astype(np.float64)


def table(cluster=-1):
  """Ratings of all topics, or of one cluster."""
  rows = debates.debate_ratings()
  kept = (rows["cluster"] == cluster) | (cluster < 0)
  return {name: column[kept] for name, column in rows.items()}


def _fit(rows, x):
  return partial_odds(rows["after"], x, coding()[rows["before"]], levels=LEVELS)


def _reported(fit, names):
  """What a row of the table holds."""
  found = odds_ratios(fit.beta, fit.errors[: len(fit.beta)])
  out = {"log likelihood": -fit.nll, "AIC": fit.aic}
  for i, name in enumerate(names):
    out |= {f"{name}: beta": fit.beta[i], f"{name}: se": fit.errors[i]}
    out |= {f"{name}: {key}": found[key][i] for key in ("p", "change", "low", "high")}
    out[f"{name}: more persuasive"] = found["preference"][i]
  return {k: float(v) for k, v in out.items()}


def main(config) -> dict[str, float]:
  """Three treatment effects, pre-agreement free; of all topics or one cluster."""
  rows = table(config.cluster)
  fit = _fit(rows, treatments(rows["arm"]))
  out = _reported(fit, EFFECTS)
  if config.cluster < 0:
    for j, line in enumerate(fit.thresholds, 1):
      out |= {
        f"threshold {j}: {'theta' if c == 0 else f'gamma {c}'}": v for c, v in enumerate(line)
      }
  return {k: float(v) for k, v in out.items()}


def perceived(config) -> dict[str, float]:
  """The same with whom the participant believed to talk to."""
  rows = table()
  x = np.concatenate([treatments(rows["arm"]), rows["perceived_ai"][:, None]], 1)
  return _reported(_fit(rows, x), (*EFFECTS, "perceived AI"))


def registered(config) -> dict[str, float]:
  """The pre-registered nine cells: three arms by three clusters, against Human-Human and low."""
  rows = table()
  arms = [debates.ARMS.index(a) for a in ("Human-Human", "Human-AI", "Human-AI, personalized")]
  kept = np.isin(rows["arm"], arms)
  rows = {name: column[kept] for name, column in rows.items()}
  cell = 3 * np.searchsorted(arms, rows["arm"]) + rows["cluster"]
  names = [f"{a}, {c}" for a in ("human", "AI", "AI personalised") for c in ("low", "mid", "high")]
  fit = _fit(rows, np.eye(9)[cell][:, 1:])
  out = {f"{name}: beta": float(b) for name, b in zip(names[1:], fit.beta, strict=True)}
  return out | {"log likelihood": -fit.nll}


def parallel(config) -> dict[str, float]:
  """Proportional odds for pre-agreement too, and the tests that speak against it."""
  rows = table()
  arms, before = treatments(rows["arm"]), coding()[rows["before"]]
  x = np.concatenate([arms, before], 1)
  small = partial_odds(rows["after"], x, np.zeros((len(x), 0)), levels=LEVELS)
  ratio = likelihood_ratio(small, _fit(rows, arms))
  test = brant(rows["after"], x)
  out = _reported(small, EFFECTS)
  out |= {f"ratio test: {k}": v for k, v in ratio.items()}
  out |= {f"Brant: {k}": float(test[k]) for k in ("statistic", "df", "p")}
  out |= {f"Brant, {n}": float(test["column_statistic"][i]) for i, n in enumerate(EFFECTS)}
  least = test["column_statistic"][len(EFFECTS) :].min()
  return out | {"Brant, least of pre-agreement": float(least)}
