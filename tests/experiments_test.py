"""Every experiment of the repository: its first runs work, its table has sources and verdicts."""

import math
import pathlib
import re

import numpy as np
import pytest

from jaxpref import config as cfg
from jaxpref import experiment, report
from jaxpref.table import Table, claim_lines

ROOT = pathlib.Path(__file__).parent.parent
KEYS = experiment.keys(ROOT)
HEADINGS = ["Claim", "Run it", "Result", "Scaled down", "Deviations"]


def _short(cell):
  """The cell with few steps."""
  config = cell.config.copy_and_resolve_references()
  with config.unlocked():
    config.steps = 4
    if "warm" in config:
      config.warm.steps = 4
    if "at" in config:
      config.at = ()  # the losses at which a table looks are not reached in four steps
  return cell._replace(config=config)


def test_there_are_experiments():
  assert {"pref_ranking", "persuasion", "item_fairness"} <= set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_the_first_cell_runs_with_few_steps(key, tmp_path):
  module = experiment.load(ROOT, key)
  cell = _short(experiment.declared(module, "tiny")[0])
  (run,) = experiment.runs(module, tmp_path, key, [cell], seeds=1)
  values = experiment.execute(module, run)["values"]
  assert values and all(math.isfinite(v) for v in values.values())


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_every_kind_of_cell_runs_with_few_steps_and_measures_what_is_shown(key, tmp_path):
  module = experiment.load(ROOT, key)
  declared = experiment.declared(module, "tiny")
  first, measured = {experiment.runner(module, c): c for c in declared[::-1]}, set()
  prefixes = {f"{c.column}/" if c.column else "" for c in declared}
  for cell in map(_short, first.values()):
    (run,) = experiment.runs(module, tmp_path, key, [cell], seeds=1)
    values = experiment.execute(module, run)["values"]
    measured |= {prefix + name for name in values for prefix in prefixes}
  at_any_step = lambda names: {re.sub(r"step [0-9]+", "step N", name) for name in names}
  shown = at_any_step(metric for metrics in module.SHOWN.values() for metric in metrics)
  assert shown <= at_any_step(measured)


@pytest.mark.parametrize("key", KEYS)
def test_published_values_say_where_they_are_printed(key):
  module = experiment.load(ROOT, key)
  for (row, metric), entry in module.PUBLISHED.items():
    assert row and metric and entry.value != ""
    assert any(word in entry.where for word in ("Table", "Figure", "Section", "text")), entry


@pytest.mark.parametrize("key", KEYS)
def test_committed_results_give_a_verdict_on_every_claim_and_the_report_prints_it(key):
  module = experiment.load(ROOT, key)
  results = experiment.stored(ROOT, key)["scales"]["tiny"]
  rows = [c.row for c in experiment.declared(module, "tiny")]
  lines = claim_lines(module.CLAIMS, Table(results, rows))
  text = report.text(ROOT, key, "tiny")
  for claim, line in zip(module.CLAIMS, lines, strict=True):
    assert claim.sentence in line and line in text
    assert " ... holds" in line or " ... does not hold at this scale" in line, line


@pytest.mark.parametrize("key", KEYS)
def test_committed_results_are_of_the_configs_and_seeds_in_the_experiment(key):
  module = experiment.load(ROOT, key)
  committed = experiment.stored(ROOT, key)["scales"]["tiny"]["cells"]
  declared = experiment.declared(module, "tiny")
  assert [(c["row"], c["column"], tuple(c["seeds"])) for c in committed] == [
    (c.row, c.column, c.seeds) for c in declared
  ]
  for cell, entry in zip(declared, committed, strict=True):
    changes = cfg.diff(entry["settings"], experiment.settings(cell))
    assert experiment.current(module, cell, entry), f"{cell.row} changed since: {changes}"
  for cell in committed:
    for metric, values in cell["values"].items():
      np.testing.assert_allclose(cell["mean"][metric], np.mean(values), rtol=1e-12)
      if len(values) == 1:  # nothing random in it
        assert cell["se"][metric] is None
        continue
      error = np.std(values, ddof=1) / np.sqrt(len(values))
      np.testing.assert_allclose(cell["se"][metric], error, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("key", KEYS)
def test_the_readme_holds_the_report_and_its_five_headings(key):
  readme = (ROOT / "experiments" / key / "README.md").read_text(encoding="utf-8")
  body = report.text(ROOT, key, "tiny")
  assert report.paste(readme, body) == readme
  assert [line[3:] for line in readme.splitlines() if line.startswith("## ")] == HEADINGS
