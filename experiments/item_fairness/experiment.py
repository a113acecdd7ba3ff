"""Evaluation Measures of Individual Item Fairness for Recommender Systems: A Critical Study.

Question: which measures of how evenly items are exposed can reach their ends, and which notice when
exposure becomes more even?
Card: papers/item_fairness.md.  Full scale there: six data sets, seven recommenders.
"""

import itertools

import numpy as np
from ml_collections import config_dict

from experiments.item_fairness import lists, recommender
from jaxpref.experiment import Cell, Claim, Published
from jaxpref.metrics.correlation import kendall
from jaxpref.types import Refused

TOP = 10
USERS = (100, 500, 1000)
STEPS = tuple(range(TOP + 1))
INSERTED = tuple(f"{step} of {TOP} places fresh" for step in STEPS)
SHAPES = {  # users, catalogue: fewer places than items, as many, more, and more with a remainder
  "places < items": (20, 500),
  "places = items": (20, 200),
  "places > items divisible": (60, 200),
  "places > items with a remainder": (33, 200),
}
DEBIAS = (0.0, 0.5, 1.0)
BPR = tuple(f"BPR debias={weight:g}" for weight in DEBIAS)
UP = ("jain", "qualification", "entropy", "satisfaction")
DOWN = ("gini", "gini_attention")
CORRECTED = tuple(f"{name}_corrected" for name in (*UP, *DOWN))
OTHERS = ("vocd", "iid", "aid")

PUBLISHED = {
  (BPR[0], "qualification"): Published(0.4442, "Table of the authors' notebook, ml-1m, BPR"),
  (BPR[0], "gini_attention"): Published(0.902, "Table of the authors' notebook, ml-1m, BPR"),
  (BPR[0], "vocd"): Published(0.706, "Table of the authors' notebook, ml-1m, BPR"),
  (BPR[0], "iid"): Published(0.000828, "Table of the authors' notebook, ml-1m, every model"),
  (BPR[0], "precision@10"): Published(0.0552, "Table of the authors' notebook, ml-1m, BPR"),
}

SHOWN = {
  "Insertion, 1,000 users, corrected forms and others": tuple(
    f"m=1000/{name}" for name in (*CORRECTED, *OTHERS)
  ),
  "Insertion, 1,000 users, original forms": tuple(
    f"m=1000/{name}" for name in ("jain", "qualification", "satisfaction", *DOWN, "undefined")
  ),
  "Least even lists": tuple(f"unfairest/{name}" for name in ("jain", "gini", *CORRECTED, *OTHERS)),
  "Most even lists": tuple(f"fairest/{name}" for name in ("jain", "gini", *CORRECTED, *OTHERS)),
  "Simulated clicks, BPR": ("precision@10", "ndcg@10", *CORRECTED, *OTHERS),
  "Simulated clicks, BPR, original forms": ("qualification", "gini_attention", "jain", "gini"),
}


def _curve(table, users, name):
  """A measure along the insertion."""
  return np.asarray([float(table[row, f"m={users}/{name}"]) for row in INSERTED])


def _every(names, holds):
  """A predicate: something holds of the curves of some measures, for all numbers of users."""

  def predicate(table):
    bad = [
      f"{n}, m={m}" for m, n in itertools.product(USERS, names) if not holds(_curve(table, m, n))
    ]
    return not bad, f"not: {'; '.join(bad)}" if bad else f"{len(USERS) * len(names)} curves"

  return predicate


def _from_to(start, end):
  def holds(x):
    change = np.diff(x) * (end - start)
    return abs(x[0] - start) < 1e-9 > abs(x[-1] - end) and (change > -1e-12).all()

  return holds


def _vocd(x):
  return abs(x[0]) < 1e-12 and abs(x[-1]) < 1e-12 and x[1:-1].min() > 0 and x[1] == x.max()


def _late(table):
  """Share of AI-D's whole fall that comes with the last step, least over numbers of users."""
  shares = []
  for users in USERS:
    x = _curve(table, users, "aid")
    shares.append((x[-2] - x[-1]) / (x[0] - x[-1]))
  return min(shares) > 0.5, f"{min(shares):.2f} to {max(shares):.2f} of its fall in the last step"


def _ends(forms, inside):
  """A predicate: both ends are reached in all shapes, in these forms; worst distance."""

  def holds(table):
    worst, where = 0.0, "none"
    for row, name in itertools.product(SHAPES, forms):
      fair = 0.0 if name.startswith("gini") else 1.0
      for kind, value in (("fairest", fair), ("unfairest", 1.0 - fair)):
        gap = abs(table[row, f"{kind}/{name}"] - value)
        if gap > worst:
          worst, where = gap, f"{kind} {name}, {row}"
    return worst < inside, f"farthest {worst:.3g}: {where}"

  return holds


def _short(table):
  """Originals miss an end in every shape."""
  gaps = []
  for row, name in itertools.product(SHAPES, ("jain", "qualification", "gini", "satisfaction")):
    fair = 0.0 if name == "gini" else 1.0
    ends = (table[row, f"fairest/{name}"] - fair, table[row, f"unfairest/{name}"] - 1.0 + fair)
    gaps.append(max(map(abs, ends)))
  return min(gaps) > 0.01, f"missed by {min(gaps):.3f} to {max(gaps):.3f}"


def _fair_values(table, name):
  sign = -1.0 if name.startswith("gini") or name in OTHERS else 1.0
  return [sign * float(table[row, name]) for row in BPR]


def _agree(names):
  """A predicate: the smallest rank correlation of two measures over the three recommenders."""

  def holds(table):
    taus = {
      (a, b): kendall(_fair_values(table, a), _fair_values(table, b))
      for a, b in itertools.combinations(names, 2)
    }
    least = min(taus, key=taus.get)
    return taus[least] > 0.8, f"least {taus[least]:.2f}: {least[0]}, {least[1]}"

  return holds


def _fairer(table):
  bad = [n for n in CORRECTED if _fair_values(table, n) != sorted(_fair_values(table, n))]
  return not bad, f"not: {', '.join(bad)}" if bad else f"{len(CORRECTED)} measures"


def _iid(table):
  rows = [float(table[row, "iid"]) for row in BPR]
  spread = max([np.ptp(rows), *(np.ptp(_curve(table, m, "iid")) for m in USERS)])
  return spread < 1e-12, f"largest difference {spread:.1g}"


CLAIMS = (
  Claim(
    "insertion takes Jain, qualification, entropy and satisfaction, corrected, from 0 to 1 without "
    "a step back",
    _every(tuple(f"{name}_corrected" for name in UP), _from_to(0.0, 1.0)),
  ),
  Claim(
    "and Gini and attention Gini, corrected, from 1 to 0",
    _every(tuple(f"{name}_corrected" for name in DOWN), _from_to(1.0, 0.0)),
  ),
  Claim(
    "qualification and satisfaction, corrected, rise by 0.1 in every step",
    _every(
      ("qualification_corrected", "satisfaction_corrected"),
      lambda x: np.abs(np.diff(x) - 0.1).max() < 1e-9,
    ),
  ),
  Claim("II-D does not depend on what is recommended, by insertion or by BPR", _iid),
  Claim(
    "VoCD calls the most unfair lists fair: it is 0 there, jumps and falls to 0 again",
    _every(("vocd",), _vocd),
  ),
  Claim("AI-D barely moves until the end of the insertion", _late),
  Claim(
    "originals miss an end of their range by more than 0.01 in every shape (Jain, qualification, "
    "Gini, satisfaction)",
    _short,
  ),
  Claim(
    "corrected Jain, qualification, entropy, satisfaction and Gini reach both ends in every shape",
    _ends(CORRECTED[:-1], 1e-9),
  ),
  Claim("so does the corrected attention Gini", _ends(CORRECTED[-1:], 1e-9)),
  Claim("weighing popularity away makes BPR fairer by every corrected measure", _fairer),
  Claim(
    "all corrected measures order the three recommenders alike (Kendall's tau above 0.8)",
    _agree(CORRECTED),
  ),
  Claim(
    "VoCD and AI-D order them as corrected Jain does", _agree(("jain_corrected", "vocd", "aid"))
  ),
)


def cells(scale):
  """The cells of a scale; `tiny` only so far."""
  if scale != "tiny":
    raise Refused(f"item_fairness has no cells at scale {scale!r}; use tiny.")
  for users, (step, row) in itertools.product(USERS, zip(STEPS, INSERTED, strict=True)):
    config = config_dict.ConfigDict(dict(seed=0, users=users, top=TOP, step=step))
    yield Cell(row, config, (0,), column=f"m={users}", run=lists.insertion)
  for row, (users, catalogue) in SHAPES.items():
    config = config_dict.ConfigDict(dict(seed=0, users=users, top=TOP, catalogue=catalogue))
    yield Cell(row, config, (0,), run=lists.extremes)
  for row, weight in zip(BPR, DEBIAS, strict=True):
    data = dict(users=300, items=200, factors=4, each=8, tail=1.0)
    model = dict(factors=8, batch=512, lr=0.02, decay=1e-3)
    config = dict(seed=0, data=data, model=model, debias=weight, top=TOP, steps=600)
    yield Cell(row, config_dict.ConfigDict(config), range(3), run=recommender.run)
