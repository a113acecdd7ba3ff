"""The table of all golden arrays: which function covers each, or why none does.

`python tests/golden_coverage_test.py` writes it to `golden/COVERAGE.md`.
"""

import collections
import pathlib

import golden_files

TABLE = pathlib.Path(__file__).parent / "golden" / "COVERAGE.md"
HEAD = """# Which function covers each golden array

Made by `python tests/golden_coverage_test.py` from `parameters/*.json`; a test keeps it true.
Arrays that are inputs are only counted. `later` waits for the paper whose experiment needs it.

"""


def _status(row):
  return next(k for k in ("fn", "terms", "refused", "later", "input") if k in row)


def _arrays(file):
  """Number of arrays by case."""
  rows, counts = golden_files.parameters(file), collections.Counter()
  for array in golden_files.load(file):
    case = array.split("__")[0]
    if case not in rows:
      case = case.removeprefix("loss_").removeprefix("grad_")
    counts[case] += 1
  return counts


def _names(row):
  """Functions of a covered case."""
  if "fn" in row:
    return [row["fn"]]
  around = lambda term: [term["around"]["fn"]] if term.get("around") else []
  return sorted({n for term in row["terms"].values() for n in [term["fn"], *around(term)]})


def _section(file):
  rows, counts = golden_files.parameters(file), _arrays(file)
  total = collections.Counter()
  for case, row in rows.items():
    total[_status(row)] += counts[case]
  done = total["fn"] + total["terms"]
  words = [f"{done} covered", f"{total['input']} inputs"]
  words += [f"{total[k]} {k}" for k in ("refused", "later") if total[k]]
  lines = [f"## {file}", "", f"{sum(total.values())} arrays: {', '.join(words)}.", ""]
  lines += ["| case | arrays | covered by |", "|---|---|---|"]
  for case, row in rows.items():
    kind = _status(row)
    if kind == "input":
      continue
    by = {"refused": f"refused: {row.get('refused')}", "later": f"later: {row.get('why', '')}"}
    told = by.get(kind) or ", ".join(f"`{n}`" for n in _names(row))
    lines.append(f"| {case} | {counts[case]} | {told.rstrip(': ').replace('|', chr(92) + '|')} |")
  return "\n".join(lines) + "\n", total


def table() -> str:
  """The page."""
  sections, total = [], collections.Counter()
  for file in golden_files.files():
    text, counts = _section(file)
    sections.append(text)
    total += counts
  done = total["fn"] + total["terms"]
  summary = (
    f"{sum(total.values())} arrays in {len(sections)} files: {done} covered, {total['input']} "
    f"inputs, {total['refused']} refused, {total['later']} later.\n\n"
  )
  return HEAD + summary + "\n".join(sections)


def test_the_table_of_golden_arrays_is_up_to_date():
  assert TABLE.read_text() == table(), "run: python tests/golden_coverage_test.py"


def test_every_array_that_is_not_covered_says_why():
  for file in golden_files.files():
    for case, row in golden_files.parameters(file).items():
      assert _status(row) != "refused" or len(row["refused"]) > 10, (file, case)
      assert _status(row) != "later" or len(row.get("why", "")) > 10, (file, case)


if __name__ == "__main__":
  TABLE.write_text(table())
