"""Measured values, verdicts on claims and printed tables."""

import math

import numpy as np
import pytest

from jaxpref.table import (
  Claim,
  Measured,
  NotMeasured,
  Published,
  Table,
  above,
  claim_lines,
  difference,
  judge,
  markdown,
  report,
)
from jaxpref.types import Refused


def _results(**rows):
  cells = []
  for row, values in rows.items():
    seeds = list(range(len(next(iter(values.values())))))
    cells.append({"row": row, "column": "", "seeds": seeds, "values": values})
  return {"cells": cells}


def test_mean_and_standard_error_equal_numpys():
  values = np.random.default_rng(0).normal(size=7)
  measured = Measured(dict(enumerate(values)))
  assert math.isclose(measured, values.mean(), rel_tol=1e-14)
  assert math.isclose(measured.se, values.std(ddof=1) / np.sqrt(7), rel_tol=1e-14)


def test_one_seed_has_no_standard_error():
  assert Measured({3: 0.5}).se is None
  assert str(Measured({3: 0.5})) == "0.5"


@pytest.mark.parametrize(
  "values,text",
  [
    ((0.6, 0.7, 0.8), "0.700 ± 0.058"),
    ((100.0, 300.0), "200 ± 100"),
    ((1.0, 1.0), "1 ± 0"),
    ((2e-12, 4e-12), "3e-12 ± 1e-12"),
  ],
)
def test_a_value_is_printed_with_two_digits_of_its_error(values, text):
  assert str(Measured(dict(enumerate(values)))) == text


def test_the_error_of_a_difference_is_that_of_paired_seeds():
  a, b = Measured({0: 1.0, 1: 2.0, 2: 4.0}), Measured({2: 3.0, 1: 1.0, 0: 0.0})
  assert difference(a, b) == 1.0
  assert difference(a, b).se == 0.0
  assert difference(a, Measured({0: 1.0, 1: 4.0})).by_seed == {0: 0.0, 1: -2.0}
  with pytest.raises(NotMeasured, match="no common seed"):
    difference(a, Measured({7: 1.0}))


def test_an_unknown_row_or_metric_names_the_nearest():
  table = Table(_results(dpo={"accuracy": [0.5]}), declared=["dpo", "ipo"])
  assert table["dpo", "accuracy"] == 0.5
  with pytest.raises(Refused, match="no row 'dop'. Did you mean 'dpo'"):
    table["dop", "accuracy"]
  with pytest.raises(Refused, match="no metric 'acuracy'. Did you mean 'accuracy'"):
    table["dpo", "acuracy"]
  with pytest.raises(NotMeasured):
    table["ipo", "accuracy"]


def test_a_column_prefixes_its_metrics_and_shares_the_row():
  results = {
    "cells": [
      {"row": "dpo", "column": c, "seeds": [0], "values": {"loss": [v]}}
      for c, v in (("small", 1.0), ("large", 2.0))
    ]
  }
  table = Table(results)
  assert (table["dpo", "small/loss"], table["dpo", "large/loss"]) == (1.0, 2.0)


def test_verdicts_say_exactly_what_was_measured():
  table = Table(_results(a={"x": [0.5, 0.7]}, b={"x": [0.4, 0.4]}), declared=["a", "b", "c"])
  gap = lambda t: above(difference(t["a", "x"], t["b", "x"]))
  less = lambda t: above(difference(t["b", "x"], t["a", "x"]))
  claims = (
    Claim("a beats b", gap),
    Claim("b beats a", less),
    Claim("c exists", lambda t: t["c", "x"] > 0),
    Claim("plain", lambda t: t["a", "x"] > t["b", "x"]),
  )
  assert claim_lines(claims, table) == [
    "claim: a beats b ... holds (+0.20 ± 0.10, 2 seeds)",
    "claim: b beats a ... does not hold at this scale (-0.20 ± 0.10, 2 seeds)",
    "claim: c exists ... not measured (row 'c' has not been run)",
    "claim: plain ... holds",
  ]
  assert judge(claims[3], table)[0] == "holds"


def test_a_claim_about_an_unknown_row_is_an_error_and_no_verdict():
  with pytest.raises(Refused, match="no row"):
    judge(Claim("typing error", lambda t: t["aa", "x"] > 0), Table(_results(a={"x": [1.0]})))


def test_a_table_of_one_metric_has_the_three_columns():
  table = Table(_results(dpo={"accuracy": [0.70, 0.72], "loss": [1.0, 1.0]}))
  published = {
    ("dpo", "accuracy"): Published(0.78, "Table 2, 7B"),
    ("ppo", "accuracy"): Published("< 0.8", "section 5"),
  }
  assert markdown(table, published, ["accuracy"], "tiny") == [
    "| method | published (where) | ours (tiny, 2 seeds) |",
    "|---|---|---|",
    "| dpo | 0.78 (Table 2, 7B) | 0.710 ± 0.010 |",
    "| ppo | < 0.8 (section 5) | - |",
  ]


def test_different_numbers_of_seeds_are_told_in_each_place():
  table = Table(_results(a={"x": [0.5, 0.7]}, b={"x": [0.4]}))
  assert markdown(table, {}, ["x"], "tiny")[2:] == [
    "| a | 0.60 ± 0.10 (2 seeds) |",
    "| b | 0.4 (1 seed) |",
  ]


def test_a_report_names_the_rows_that_were_not_run():
  text = report(_results(a={"x": [1.0]}), "tiny", ["a", "b"], {}, ())
  assert "not run at this scale: b" in text


def test_shown_metrics_make_titled_tables():
  results = _results(a={"x": [1.0], "y": [2.0]}, b={"z": [3.0], "y": [4.0]})
  text = report(results, "tiny", [], {}, (), {"One": ("x", "y"), "Two": ("z",)})
  assert text.splitlines() == [
    "**One**",
    "",
    "ours (tiny, 1 seed), mean ± standard error",
    "",
    "| method | x | y |",
    "|---|---|---|",
    "| a | 1 | 2 |",
    "",
    "**Two**",
    "",
    "| method | ours (tiny, 1 seed) |",
    "|---|---|",
    "| b | 3 |",
  ]
