"""What people call the metrics of a run, and which of them belong in one chart.

A name is `family/metric` (`rewards/chosen`), a plain word (`loss`), or either of them behind the
name of an evaluation (`heldout/rewards/chosen`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

MOST_POINTS = 1500  # per drawn series; more are averaged in equal runs of steps


class Chart(NamedTuple):
  """Metrics drawn on one pair of axes.

  `reference` is a level worth a line, with its name; `exact` curves have no noise to smooth.
  """

  title: str
  names: tuple[str, ...]
  unit: str = ""
  reference: tuple[float, str] | None = None
  exact: bool = False


CHARTS = (
  Chart("Loss", ("loss",)),
  Chart("Pairs ranked right", ("rewards/accuracies",), "share", (0.5, "chance")),
  Chart("Reward margin", ("rewards/margins",), "chosen minus rejected", (0.0, "tie")),
  Chart("Rewards", ("rewards/chosen", "rewards/rejected")),
  Chart("Log-probabilities", ("logps/chosen", "logps/rejected"), "nats per response"),
  Chart("Reward of samples", ("reward/mean", "reward/std")),
  Chart("KL", ("kl/ref", "kl/rollout"), "nats"),
  Chart("Parts of the loss", ("loss/policy", "loss/kl", "loss/nll", "nll")),
  Chart("Probability ratio", ("ratio/mean", "ratio/max"), "new over old", (1.0, "unchanged")),
  Chart("Clipped tokens", ("ratio/clip_low", "ratio/clip_high"), "share"),
  Chart("Groups without variance", ("reward/frac_zero_std",), "share"),
  Chart("Entropy", ("entropy",), "nats per token"),
  Chart("Length", ("length/mean", "length/max"), "tokens"),
  Chart("Gradient norm", ("grad_norm",)),
  Chart("Learning rate", ("lr",), exact=True),
  Chart("Speed", ("speed/tokens_per_second",), "tokens per second"),
  Chart("Memory", ("speed/memory_gib",), "GiB", exact=True),
)
LABELS = {
  "loss": "Loss",
  "loss/policy": "Loss, policy part",
  "loss/kl": "Loss, KL part",
  "loss/nll": "Loss, likelihood part",
  "nll": "Negative log-likelihood",
  "rewards/chosen": "Reward of the chosen",
  "rewards/rejected": "Reward of the rejected",
  "rewards/margins": "Reward margin",
  "rewards/accuracies": "Pairs ranked right",
  "logps/chosen": "Log-probability of the chosen",
  "logps/rejected": "Log-probability of the rejected",
  "logps/margins": "Log-probability margin",
  "reward/mean": "Reward of samples, mean",
  "reward/std": "Reward of samples, spread in a group",
  "reward/frac_zero_std": "Groups without variance",
  "kl/ref": "KL to the reference",
  "kl/rollout": "KL to the rollout policy",
  "ratio/mean": "Probability ratio, mean",
  "ratio/max": "Probability ratio, largest",
  "ratio/clip_low": "Tokens clipped below",
  "ratio/clip_high": "Tokens clipped above",
  "entropy": "Entropy",
  "length/mean": "Length, mean",
  "length/max": "Length, longest",
  "length/truncated": "Responses cut off",
  "grad_norm": "Gradient norm",
  "lr": "Learning rate",
  "speed/tokens_per_second": "Tokens per second",
  "speed/steps_per_second": "Steps per second",
  "speed/memory_gib": "Memory, GiB",
  "speed/compiles": "Compilations",
  "speed/seconds": "Seconds",
}
GROUPS = {
  "loss": "Loss",
  "nll": "Loss",
  "rewards": "Rewards",
  "reward": "Rewards",
  "logps": "Log-probabilities",
  "kl": "Policy",
  "ratio": "Policy",
  "entropy": "Policy",
  "length": "Policy",
  "grad_norm": "Optimizer",
  "lr": "Optimizer",
  "speed": "Speed",
}


def split(name: str, names: Iterable[str]) -> tuple[str, str]:
  """The evaluation that a metric belongs to (empty for training), and the metric itself.

  Args:
    name: a metric's full name.
    names: all names of the run.

  >>> split("heldout/loss", ["loss"]), split("rewards/chosen", []), split("my/own", [])
  (('heldout', 'loss'), ('', 'rewards/chosen'), ('', 'my/own'))
  """
  first, slash, rest = name.partition("/")
  if not slash or first in GROUPS:
    return "", name
  known = rest in LABELS or rest in names or rest.partition("/")[0] in GROUPS
  return (first, rest) if known else ("", name)


def label(base: str) -> str:
  """What people call a metric.

  >>> label("kl/ref"), label("mine/share_of_x")
  ('KL to the reference', 'Mine, share of x')
  """
  words = base.replace("/", ", ").replace("_", " ")
  return LABELS.get(base, words[:1].upper() + words[1:])


def group(base: str) -> str:
  """The heading under which a table shows a metric."""
  return GROUPS.get(base.partition("/")[0], "Other")


def rank(base: str) -> int:
  """Place of a metric in tables; unknown ones come last."""
  return list(LABELS).index(base) if base in LABELS else len(LABELS)


def by_name(rows: Iterable[dict[str, Any]]) -> dict[str, list[tuple[int, float | None]]]:
  """Lines of a `.jsonl` file as one series of (step, value) per name."""
  found = {}
  for row in rows:
    for name, value in row.items():
      if name != "step" and (value is None or isinstance(value, int | float)):
        found.setdefault(name, []).append((row["step"], value))
  return found


def thin(points: Sequence[tuple[int, float | None]], most: int = MOST_POINTS):
  """At most `most` points, each the mean step and value of equally many; None stays a gap.

  >>> thin([(1, 1.0), (2, 3.0), (3, None), (4, None)], most=2)
  [(1.5, 2.0), (3.5, None)]
  """
  if len(points) <= most:
    return list(points)
  size = -(-len(points) // most)
  out = []
  for start in range(0, len(points), size):
    part = points[start : start + size]
    values = [value for _, value in part if value is not None]
    mean = sum(values) / len(values) if values else None
    out.append((sum(step for step, _ in part) / len(part), mean))
  return out


def charts(series: dict[str, list[tuple[int, float | None]]]) -> list[dict[str, Any]]:
  """The charts of a run, as the page's script draws them; every metric is in exactly one.

  Args:
    series: (step, value) points by metric name; those of `speed.jsonl` as `speed/...`.

  Returns:
    list of `{title, unit, reference, exact, series}`, a series being `{label, colour, evaluation,
    points}`: `colour` counts metrics of the chart, `evaluation` is True for dashed lines.
  """
  place = {}
  for name in series:
    evaluation, base = split(name, series)
    place.setdefault(base, []).append((evaluation, name))
  plan = [c for c in CHARTS if any(base in place for base in c.names)]
  drawn = {base for chart in plan for base in chart.names}
  hidden = {"speed/seconds", "speed/steps_per_second", "speed/compiles"}
  plan += [Chart(label(base), (base,)) for base in sorted(set(place) - drawn - hidden)]
  out = []
  for chart in plan:
    bases = [base for base in chart.names if base in place]
    lines = [
      _line(chart, base, len(bases) > 1, colour, evaluation, series[name])
      for colour, base in enumerate(bases)
      for evaluation, name in place[base]
    ]
    if any(value is not None for line in lines for _, value in line["points"]):
      out.append(chart._asdict() | {"series": lines})
      del out[-1]["names"]
  return out


def _line(chart, base, several, colour, evaluation, points):
  short = base.rpartition("/")[2].replace("_", " ")
  words = [short] if several else []
  if evaluation or not several:
    words.append(evaluation or ("" if base.startswith("speed/") else "training"))
  return {
    "label": " ".join(words).strip(),
    "colour": colour,
    "evaluation": bool(evaluation),
    "points": thin(points),
  }
