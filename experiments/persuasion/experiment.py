"""On the conversational persuasiveness of GPT-4.

Question: does a language model that knows whom it talks to persuade better than a person does?
Card: papers/persuasion.md.  Full scale there: the same fits, 750 to 900 participants; ours are the
750 ratings that are public.
"""

from ml_collections import config_dict

from experiments.persuasion import comparisons, fits, resample
from jaxpref.experiment import Cell, Claim, Published
from jaxpref.types import Refused

ALL, PERCEIVED, NINE, PARALLEL = (
  "all topics",
  "all topics and perceived opponent",
  "nine registered cells",
  "proportional odds",
)
CLUSTERS = ("topics of weak opinions", "topics of moderate opinions", "topics of strong opinions")
BOOTSTRAP, PERMUTATION = "bootstrap of debates", "permutation within topics"
ARMS = ("Human-Human", "Human-Human, personalized", "Human-AI", "Human-AI, personalized")
PAIRS, WITHIN = "Bradley-Terry of all pairs", "Bradley-Terry within topics"
SIZES = (25, 50, 100, 150)  # participants per arm; the pre-registered study has 150 and more
POWER = tuple(f"power with {n} per arm" for n in SIZES)
EFFECT = 0.5945

NOTEBOOK = "text of the authors' R notebook"


def _published():
  """Estimates, errors and log-likelihoods of the notebook."""
  out, effects = {}, (*fits.EFFECTS, "perceived AI")
  betas = {
    ALL: (0.1978, -0.1709, 0.5945),
    PERCEIVED: (0.1199, -0.1387, 0.5319, 0.3178),
    CLUSTERS[0]: (0.156, 0.085, 0.679),
    CLUSTERS[1]: (0.318, 0.006, 0.650),
    CLUSTERS[2]: (0.006, -0.614, 0.496),
  }
  likelihood = dict(zip(betas, (-957.53, -955.18, -315.31, -327.69, -296.58), strict=True))
  for row, values in betas.items():
    where = f"{NOTEBOOK}, n={250 if row in CLUSTERS else 750}"
    out |= {
      (row, f"{name}: beta"): Published(v, where) for name, v in zip(effects, values, strict=False)
    }
    out[row, "log likelihood"] = Published(likelihood[row], where)
  where = f"{NOTEBOOK}, n=750"
  for name, error in zip(fits.EFFECTS, (0.1914, 0.1929, 0.1856), strict=True):
    out[ALL, f"{name}: se"] = Published(error, where)
  for metric, value in (("p", 0.00136), ("change", 0.812), ("low", 1.260), ("high", 2.607)):
    out[ALL, f"{fits.EFFECTS[2]}: {metric}"] = Published(value, where)
  out[ALL, f"{fits.EFFECTS[2]}: more persuasive"] = Published(0.644, "text, abstract")
  out[ALL, "AIC"] = Published(1961.06, where)
  out[NINE, "log likelihood"] = Published(-763.52, f"{NOTEBOOK}, n=600")
  for cluster, value in (("low", 0.608), ("mid", 0.696), ("high", 0.671)):
    out[NINE, f"AI personalised, {cluster}: beta"] = Published(value, f"{NOTEBOOK}, n=600")
  out[PARALLEL, "Brant: statistic"] = Published(128.3, where)
  for name, value in zip(fits.EFFECTS, (5.89, 10.03, 3.35), strict=True):
    out[PARALLEL, f"Brant, {name}"] = Published(value, where)
  return out


PUBLISHED = _published()

SHOWN = {
  "Log odds of the treatments, pre-agreement free": (
    "log likelihood",
    *(f"{name}: beta" for name in fits.EFFECTS),
  ),
  "All topics": (
    "AIC",
    *(f"{name}: se" for name in fits.EFFECTS),
    *(f"AI personalised: {what}" for what in ("p", "change", "low", "high", "more persuasive")),
  ),
  "Perceived opponent": ("perceived AI: beta", "perceived AI: p"),
  "Pre-registered cells, against Human-Human on topics of weak opinions": tuple(
    f"AI personalised, {cluster}: beta" for cluster in ("low", "mid", "high")
  ),
  "Proportional odds": (
    "Brant: statistic",
    *(f"Brant, {name}" for name in fits.EFFECTS),
    "Brant, least of pre-agreement",
    "ratio test: statistic",
    "ratio test: p",
  ),
  "Bootstrap (400 resamples), AI personalised": (
    "odds ratio, low",
    "odds ratio, high",
    "separated fits",
  ),
  "Permutation (400 orders), AI personalised": ("p",),
  "Arms compared by how far the opponent moved": tuple(f"score of {name}" for name in ARMS),
  "Simulated studies": ("power", "false alarms", "mean estimate", "separated fits"),
}


def _as_published(rows):
  """A predicate: every number of these rows is the published one, to its last digits."""

  def holds(table):
    gaps = {"beta": 0.0, "se": 0.0, "log likelihood": 0.0}
    for (row, metric), entry in PUBLISHED.items():
      kind = metric.rpartition(": ")[2]
      if row in rows and kind in gaps:
        gaps[kind] = max(gaps[kind], abs(table[row, metric] - entry.value))
    close = gaps["beta"] < 1e-3 and gaps["se"] < 1e-3 and gaps["log likelihood"] < 0.01
    return close, "largest gaps " + ", ".join(f"{k} {v:.1g}" for k, v in gaps.items() if v)

  return holds


def _between(value, low, high):
  return low <= value <= high, f"{float(value):.4g}"


def _largest_seed(row, metric, bound):
  def holds(table):
    largest = max(table[row, metric].by_seed.values())
    return largest < bound, f"at most {largest:.3g}"

  return holds


def _order(row):
  """AI personalised > AI > human >= human personalised."""

  def holds(table):
    score = {name: table[row, f"score of {name}"] for name in ARMS}
    human, told, ai, told_ai = score.values()
    detail = ", ".join(f"{name} {float(v):+.3f}" for name, v in score.items())
    return told_ai > ai > human >= told, detail

  return holds


def _bootstrap(table):
  least = min(table[BOOTSTRAP, "odds ratio, low"].by_seed.values())
  return least > 1, f"lower end at least {least:.3f}"


def _enough(table):
  value = table[POWER[SIZES.index(150)], "power"]
  return value >= 0.8, value


def _level(table):
  """False alarms are near 5%: within three standard errors of the simulation."""
  worst = max(abs(table[row, "false alarms"] - 0.05) for row in POWER[-2:])
  return worst < 3 * (0.05 * 0.95 / 300) ** 0.5, f"off by at most {worst:.3f}"


def _by_cluster(table):
  values = [table[row, "AI personalised: beta"] for row in CLUSTERS]
  return values[0] > values[1] > values[2], ", ".join(f"{float(v):.3f}" for v in values)


def _bends(table):
  least = table[PARALLEL, "Brant, least of pre-agreement"]
  most = max(table[PARALLEL, f"Brant, {name}"] for name in fits.EFFECTS)
  return least > most, f"{float(least):.2f} against {float(most):.2f}, on 3 df"


CLAIMS = (
  Claim("the published fit of all topics is found again", _as_published((ALL,))),
  Claim(
    "so are those with the perceived opponent, by cluster of topics and of the registered cells",
    _as_published((PERCEIVED, *CLUSTERS, NINE)),
  ),
  Claim(
    "with personal data the model raises the odds of higher agreement by 81% (p < 0.01)",
    lambda t: (
      abs(t[ALL, "AI personalised: change"] - 0.812) < 1e-3 and t[ALL, "AI personalised: p"] < 0.01,
      f"{float(t[ALL, 'AI personalised: change']):.3f}",
    ),
  ),
  Claim(
    "without personal data neither model nor person differs from a person at 5% (the smaller p)",
    lambda t: _between(min(t[ALL, f"{name}: p"] for name in fits.EFFECTS[:2]), 0.05, 1.0),
  ),
  Claim("the bootstrap interval of that odds ratio excludes 1", _bootstrap),
  Claim("the permutation test gives p < 0.01", _largest_seed(PERMUTATION, "p", 0.01)),
  Claim(
    "lines are not parallel: Brant's test and the likelihood ratio reject at 0.001 (larger p)",
    lambda t: _between(max(t[PARALLEL, "Brant: p"], t[PARALLEL, "ratio test: p"]), 0.0, 1e-3),
  ),
  Claim(
    "it is pre-agreement whose lines bend: each of its contrasts bends more than any treatment",
    _bends,
  ),
  Claim("the stronger the opinions on a topic, the smaller the effect", _by_cluster),
  Claim(
    "as comparisons, all pairs: AI personalised > AI > human >= human personalised", _order(PAIRS)
  ),
  Claim("as comparisons, pairs of one topic: the same order", _order(WITHIN)),
  Claim("150 participants per arm find the published effect with power 0.8 or more", _enough),
  Claim("from 100 per arm on, tests at 5% raise a false alarm in 5% of studies", _level),
)


def _config(**values):
  return config_dict.ConfigDict(dict(seed=0) | values)


def cells(scale):
  """The cells; tiny is the full analysis."""
  if scale != "tiny":
    raise Refused(f"persuasion has no cells at scale {scale!r}; tiny is the full analysis.")
  yield Cell(ALL, _config(cluster=-1), (0,), run=fits.main)
  for number, row in enumerate(CLUSTERS):
    yield Cell(row, _config(cluster=number), (0,), run=fits.main)
  yield Cell(PERCEIVED, _config(model="perceived"), (0,), run=fits.perceived)
  yield Cell(NINE, _config(model="registered"), (0,), run=fits.registered)
  yield Cell(PARALLEL, _config(model="parallel"), (0,), run=fits.parallel)
  yield Cell(PAIRS, _config(within_topics=False), (0,), run=comparisons.run)
  yield Cell(WITHIN, _config(within_topics=True), (0,), run=comparisons.run)
  yield Cell(BOOTSTRAP, _config(steps=400), range(3), run=resample.bootstrap)
  yield Cell(PERMUTATION, _config(steps=400), range(3), run=resample.permutation)
  for row, size in zip(POWER, SIZES, strict=True):
    config = _config(per_arm=size, effect=EFFECT, steps=100)
    yield Cell(row, config, range(3), run=resample.power)
