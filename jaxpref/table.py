"""What a table is made of: measured values, published values, claims; and how they are printed.

Nothing here runs anything or reads a file. `results` is the content of one scale of an experiment's
results.json: `{"cells": [...]}`, as `jaxpref.experiment` writes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jaxpref import call
from jaxpref.types import Refused


class Cell(NamedTuple):
  """What fills a row of a table: one config, run once per seed.

  Attributes:
    row: the method's name as it is printed.
    config: a ConfigDict with the field `seed`; each run gets a copy with its own seed.
    seeds: the seeds to run.
    column: if set, the metrics of this cell are named `column/metric` in the row.
    run: `run(config) -> dict[str, float]`; by default the experiment's `run`, and if it has none
      `jaxpref.train.run(config, workdir)`.
  """

  row: str
  config: Any
  seeds: Iterable[int]
  column: str = ""
  run: Callable | None = None


class Published(NamedTuple):
  """A printed number (or a text such as `< 0.10`) and where it stands: table, scale."""

  value: float | str
  where: str


class Claim(NamedTuple):
  """A sentence of the paper and a predicate on our table.

  The predicate gets a `Table` and returns a bool, or `(bool, detail)`, where the detail is a
  `Measured` or a text that says what was measured. Means are compared; the detail shows their
  standard error. A predicate that reads a cell that has not been run is reported as not measured.
  """

  sentence: str
  predicate: Callable


class NotMeasured(LookupError):
  """A declared cell that has no results yet."""


class Measured(float):
  """A mean over seeds, which compares as a number and knows its spread.

  Attributes:
    by_seed: `{seed: value}`.
    se: standard error of the mean, `sqrt(var / n)` with n - 1 degrees of freedom; None for one
      seed.

  >>> print(Measured({0: 0.70, 1: 0.72}))
  0.710 ± 0.010
  """

  by_seed: dict
  se: float | None

  def __new__(cls, by_seed: Mapping[int, float]):
    """A mean of one value per seed."""
    values = list(by_seed.values())
    mean = math.fsum(values) / len(values)
    self = super().__new__(cls, mean)
    self.by_seed = dict(by_seed)
    self.se = None
    if len(values) > 1:
      variance = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
      self.se = math.sqrt(variance / len(values))
    return self

  def __str__(self):
    if self.se is None:
      return f"{float(self):.4g}"
    if self.se <= 1e-12 * abs(self):  # rounding, not spread
      return f"{float(self):.4g} ± 0"
    digits = max(1 - math.floor(math.log10(self.se)), 0)
    if digits > 6:
      return f"{float(self):.2g} ± {self.se:.1g}"
    return f"{float(self):.{digits}f} ± {self.se:.{digits}f}"


def difference(a: Measured, b: Measured) -> Measured:
  """`a - b` seed by seed, so that its standard error is that of paired runs.

  Seeds that only one side has are left out.

  Raises:
    NotMeasured: the two have no seed in common.

  >>> print(difference(Measured({0: 0.70, 1: 0.72, 2: 0.71}), Measured({0: 0.60, 1: 0.64})))
  0.090 ± 0.010
  """
  common = [seed for seed in a.by_seed if seed in b.by_seed]
  if not common:
    raise NotMeasured(f"no common seed: {sorted(a.by_seed)} and {sorted(b.by_seed)}")
  return Measured({s: a.by_seed[s] - b.by_seed[s] for s in common})


def above(value: Measured, level: float = 0.0) -> tuple[bool, Measured]:
  """Whether a mean lies above a level, with the mean as the detail: what a claim may return.

  >>> above(Measured({0: 0.1, 1: 0.3}))[0]
  True
  """
  return bool(value > level), value


class Table:
  """The measured values of one scale: `table[row, metric]` is a `Measured`.

  Args:
    results: one scale of results.json.
    declared: rows that the experiment has at this scale, run or not.
  """

  def __init__(self, results: dict, declared: Iterable[str] = ()):
    self.values: dict[tuple[str, str], Measured] = {}
    for cell in results.get("cells", ()):
      prefix = f"{cell['column']}/" if cell["column"] else ""
      for metric, values in cell["values"].items():
        by_seed = dict(zip(cell["seeds"], values, strict=True))
        self.values[cell["row"], prefix + metric] = Measured(by_seed)
    self.rows = list(dict.fromkeys([*declared, *(row for row, _ in self.values)]))
    self.metrics = list(dict.fromkeys(metric for _, metric in self.values))

  def __getitem__(self, place: tuple[str, str]) -> Measured:
    """The mean of a metric in a row.

    Raises:
      NotMeasured: the row is declared and has no results.
      Refused: no such row or metric.
    """
    row, metric = place
    if place in self.values:
      return self.values[place]
    if row not in self.rows:
      raise Refused(
        f"the table has no row {row!r}. {call.nearest(row, self.rows)}Rows: {self.rows}."
      )
    has = [m for r, m in self.values if r == row]
    if not has:
      raise NotMeasured(f"row {row!r} has not been run")
    raise Refused(
      f"row {row!r} has no metric {metric!r}. {call.nearest(metric, has)}It has: {has}."
    )


def judge(claim: Claim, table: Table) -> tuple[str, str]:
  """The verdict on a claim (`holds`, `does not hold at this scale`, `not measured`) and its detail.

  A `Measured` detail is written as `+0.06 ± 0.02, 5 seeds`.
  """
  try:
    answer = claim.predicate(table)
  except NotMeasured as missing:
    return "not measured", str(missing)
  held, detail = answer if isinstance(answer, tuple) else (answer, "")
  if isinstance(detail, Measured):
    detail = f"{'+' if detail > 0 else ''}{detail}, {_seeds(len(detail.by_seed))}"
  return ("holds" if held else "does not hold at this scale"), detail


def claim_lines(claims: Iterable[Claim], table: Table) -> list[str]:
  """One line per claim: the sentence, the verdict and what was measured."""
  lines = []
  for claim in claims:
    verdict, detail = judge(claim, table)
    lines.append(f"claim: {claim.sentence} ... {verdict}" + (f" ({detail})" if detail else ""))
  return lines


def _seeds(count: int) -> str:
  return f"{count} seed{'s' if count != 1 else ''}"


def _published(entry: Published | None) -> str:
  return "-" if entry is None else f"{entry.value} ({entry.where})"


def shown(table: Table, published: Mapping, wanted: Mapping | None) -> dict[str, tuple[str, ...]]:
  """Which metrics each printed table has, by title.

  Args:
    table: the measured values.
    published: `{(row, metric): Published}`.
    wanted: the experiment's `SHOWN`, `{title: metrics}`; if None, one table of the metrics that
      have a published value, or of all metrics if none has.
  """
  if wanted is not None:
    return {title: tuple(metrics) for title, metrics in wanted.items()}
  return {"": tuple(dict.fromkeys(m for _, m in published)) or tuple(table.metrics)}


def markdown(table: Table, published: Mapping, metrics: Iterable[str], scale: str) -> list[str]:
  """Lines of one markdown table: `| method | published (where) | ours (scale, n seeds) |`.

  With several metrics each has its own columns, named by it, and the scale stands above. A row is
  shown if it has the first metric, or any published value: then with `-` for what we have not.

  Args:
    table: the measured values.
    published: `{(row, metric): Published}`.
    metrics: which to show.
    scale: name of the scale, for the header.
  """
  metrics = list(metrics)
  places = [p for p in table.values if p[1] == metrics[0]]
  places += [p for p in published if p[1] in metrics]
  rows = [r for r in dict.fromkeys([*table.rows, *(r for r, _ in places)]) if _in(r, places)]
  counts = {len(v.by_seed) for (r, m), v in table.values.items() if r in rows and m in metrics}
  uniform = len(counts) == 1
  ours = f"ours ({scale}{', ' + _seeds(min(counts)) if uniform else ''})"
  lines = [f"{ours}, mean ± standard error", ""] if len(metrics) > 1 else []
  head, columns = ["method"], []
  for metric in metrics:
    if any(p[1] == metric for p in published):
      head.append("published (where)" if len(metrics) == 1 else f"{metric}, published (where)")
      columns.append(lambda row, m=metric: _published(published.get((row, m))))
    head.append(ours if len(metrics) == 1 else metric)
    columns.append(lambda row, m=metric: _ours(table, row, m, uniform))
  lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
  return lines + ["| " + " | ".join([r, *(c(r) for c in columns)]) + " |" for r in rows]


def _in(row, places):
  return any(r == row for r, _ in places)


def _ours(table, row, metric, uniform):
  value = table.values.get((row, metric))
  if value is None:
    return "-"
  return str(value) if uniform else f"{value} ({_seeds(len(value.by_seed))})"


def report(results: dict, scale: str, rows, published: Mapping, claims, wanted=None) -> str:
  """Tables and claims of one scale as markdown.

  Args:
    results: one scale of results.json.
    scale: its name.
    rows: rows that the experiment declares at this scale, run or not.
    published: `{(row, metric): Published}`.
    claims: `Claim`s.
    wanted: which metrics to show, `{title: metrics}`, or None.
  """
  measured, parts = Table(results, rows), []
  for title, metrics in shown(measured, published, wanted).items():
    parts += ([f"**{title}**", ""] if title else []) + markdown(measured, published, metrics, scale)
    parts.append("")
  missing = [r for r in measured.rows if all(r != row for row, _ in measured.values)]
  if missing:
    parts += [f"not run at this scale: {', '.join(missing)}", ""]
  return "\n".join(parts + [f"- {line}" for line in claim_lines(claims, measured)])
