"""Sweeps and reports on an invented experiment in a folder of its own."""

import json
import re
import subprocess

import pytest
from absl import flags
from ml_collections import config_dict

from jaxpref import experiment, folder, recipe, report
from jaxpref.types import Refused

SOURCE = """
import pathlib
from ml_collections import config_dict
from jaxpref.experiment import Cell, Claim, Published, above, difference

PUBLISHED = {("heads", "share"): Published(0.5, "Table 1, one coin")}
CLAIMS = (
  Claim("heads beats tails", lambda t: above(difference(t["heads", "share"], t["tails", "share"]))),
  Claim("tails beats heads", lambda t: above(difference(t["tails", "share"], t["heads", "share"]))),
)
LOG = pathlib.Path(__file__).with_name("log.txt")
STOP = pathlib.Path(__file__).with_name("stop")

def cells(scale):
  for row, bias in (("heads", 0.7), ("tails", 0.3)):
    config = config_dict.ConfigDict(dict(seed=0, bias=bias, scale=scale))
    yield Cell(row=row, config=config, seeds=range(3))

def run(config):
  if STOP.exists() and (config.bias, config.seed) == (0.3, 1):
    raise KeyboardInterrupt
  with LOG.open("a") as file:
    file.write(f"{config.bias} {config.seed}\\n")
  return {"share": config.bias + 0.01 * config.seed}
"""


@pytest.fixture
def root(tmp_path):
  place = tmp_path / "experiments" / "coin_toss"
  place.mkdir(parents=True)
  (place / "experiment.py").write_text(SOURCE)
  (place / "README.md").write_text(f"# Coin\n{report.START}\nold\n{report.END}\nrest\n")
  return tmp_path


def _log(root):
  path = root / "experiments" / "coin_toss" / "log.txt"
  return path.read_text().split("\n")[:-1] if path.exists() else []


def _edit(root, old, new):
  path = root / "experiments" / "coin_toss" / "experiment.py"
  assert old in path.read_text()
  path.write_text(path.read_text().replace(old, new))


def test_a_sweep_prints_its_table_verdicts_and_what_made_them(root):
  text, _, made_by = experiment.sweep(root, "coin_toss").rpartition("\n\n")
  assert re.fullmatch(r"6 runs, \d+ s in all, on cpu; jaxpref .+, jax .+; \d{4}-\d\d-\d\d", made_by)
  assert text == (
    "| method | published (where) | ours (tiny, 3 seeds) |\n"
    "|---|---|---|\n"
    "| heads | 0.5 (Table 1, one coin) | 0.7100 ± 0.0058 |\n"
    "| tails | - | 0.3100 ± 0.0058 |\n"
    "\n"
    "- claim: heads beats tails ... holds (+0.4 ± 0, 3 seeds)\n"
    "- claim: tails beats heads ... does not hold at this scale (-0.4 ± 0, 3 seeds)"
  )


def test_an_interrupted_sweep_resumes_and_runs_nothing_twice(root):
  stop = root / "experiments" / "coin_toss" / "stop"
  stop.touch()
  with pytest.raises(KeyboardInterrupt):
    experiment.sweep(root, "coin_toss")
  assert _log(root) == ["0.7 0", "0.7 1", "0.7 2", "0.3 0"]
  partial = experiment.stored(root, "coin_toss")["scales"]["tiny"]["cells"]
  assert [(c["row"], c["seeds"]) for c in partial] == [("heads", [0, 1, 2]), ("tails", [0])]
  stop.unlink()
  resumed = experiment.sweep(root, "coin_toss")
  assert _log(root) == ["0.7 0", "0.7 1", "0.7 2", "0.3 0", "0.3 1", "0.3 2"]
  assert experiment.sweep(root, "coin_toss") == resumed
  assert len(_log(root)) == 6


def test_fresh_runs_everything_again(root):
  experiment.sweep(root, "coin_toss", only="heads", seeds=1)
  experiment.sweep(root, "coin_toss", only="heads", seeds=1, fresh=True)
  assert _log(root) == ["0.7 0", "0.7 0"]


def test_a_cells_folder_is_named_by_its_config_and_seed(root):
  module = experiment.load(root, "coin_toss")
  heads, tails = (experiment.runs(module, root, "coin_toss", [c]) for c in module.cells("tiny"))
  names = [r.workdir.name for r in heads + tails]
  assert len(set(names)) == 6
  assert {n.rpartition("-")[0] for n in names[:3]} == {heads[0].digest}
  assert [n.rpartition("-")[2] for n in names[:3]] == ["0", "1", "2"]
  assert heads[0].digest != tails[0].digest
  assert heads[0].digest == experiment.digest(module, next(iter(module.cells("tiny"))))
  _edit(root, "0.01 * config.seed", "0.02 * config.seed")
  changed = experiment.load(root, "coin_toss")
  assert experiment.digest(changed, next(iter(changed.cells("tiny")))) != heads[0].digest


def test_an_entry_is_current_unless_a_value_or_the_run_changed(root):
  experiment.sweep(root, "coin_toss")
  module = experiment.load(root, "coin_toss")
  heads = experiment.declared(module, "tiny")[0]
  entry = experiment.stored(root, "coin_toss")["scales"]["tiny"]["cells"][0]
  changed = lambda **values: heads._replace(config=config_dict.ConfigDict(values))
  now = heads.config.to_dict()
  assert experiment.current(module, heads, entry)
  assert experiment.current(module, changed(**now, steps=recipe.base().steps), entry)
  assert not experiment.current(module, changed(**now, steps=recipe.base().steps + 1), entry)
  assert not experiment.current(module, changed(**now, flip=0.2), entry)
  assert not experiment.current(module, changed(**(now | {"bias": 0.6})), entry)
  assert not experiment.current(module, changed(seed=0, bias=0.7), entry)
  _edit(root, "0.01 * config.seed", "0.02 * config.seed")
  assert not experiment.current(experiment.load(root, "coin_toss"), heads, entry)


def test_results_hold_everything_that_made_them(root):
  experiment.sweep(root, "coin_toss", only="heads")
  (cell,) = json.loads(experiment.results_path(root, "coin_toss").read_text())["scales"]["tiny"][
    "cells"
  ]
  assert cell["seeds"] == [0, 1, 2]
  assert cell["values"] == {"share": [0.7, 0.71, 0.72]}
  assert abs(cell["mean"]["share"] - 0.71) < 1e-15
  assert abs(cell["se"]["share"] - 0.01 / 3**0.5) < 1e-15
  assert cell["settings"] == {"seed": 0, "bias": 0.7, "scale": "tiny"}
  assert set(cell) >= {"config", "run", "seconds", "backend", "jaxpref", "jax", "date"}
  assert len(cell["seconds"]) == 3 and cell["backend"] == "cpu"


def test_a_torn_write_leaves_the_earlier_results_whole(root, monkeypatch):
  experiment.sweep(root, "coin_toss", only="heads")
  path = experiment.results_path(root, "coin_toss")
  before = path.read_text()

  def torn(*_):
    raise OSError("no space left on device")

  monkeypatch.setattr(folder.os, "replace", torn)
  with pytest.raises(OSError, match="no space"):
    experiment.sweep(root, "coin_toss")
  assert path.read_text() == before
  done = root.glob("runs/experiments/coin_toss/*/cell.json")
  assert len(list(done)) == 3


def test_only_and_seeds_choose_what_runs(root):
  experiment.sweep(root, "coin_toss", only="tails", seeds=2)
  assert _log(root) == ["0.3 0", "0.3 1"]
  with pytest.raises(Refused, match="no row 'tail'. Did you mean 'tails'"):
    experiment.sweep(root, "coin_toss", only="tail")
  with pytest.raises(Refused, match="--seeds=-1"):
    experiment.sweep(root, "coin_toss", seeds=-1)


def test_only_leaves_the_other_rows_results_unless_their_config_changed(root):
  experiment.sweep(root, "coin_toss")
  for leftover in root.glob("runs/experiments/coin_toss/*/cell.json"):
    leftover.unlink()  # as after a fresh clone: results.json is there, runs/ is not
  experiment.sweep(root, "coin_toss", only="tails", seeds=1)
  cells = experiment.stored(root, "coin_toss")["scales"]["tiny"]["cells"]
  assert [(c["row"], len(c["seeds"])) for c in cells] == [("heads", 3), ("tails", 1)]
  _edit(root, '("heads", 0.7)', '("heads", 0.8)')
  experiment.sweep(root, "coin_toss", only="tails", seeds=1)
  cells = experiment.stored(root, "coin_toss")["scales"]["tiny"]["cells"]
  assert [c["row"] for c in cells] == ["tails"]


def test_dry_lists_what_is_missing_and_runs_nothing(root):
  experiment.sweep(root, "coin_toss", only="heads", seeds=1)
  before = experiment.results_path(root, "coin_toss").read_text()
  listing = experiment.sweep(root, "coin_toss", dry=True)
  assert "done [0]  missing [1, 2]" in listing
  assert "done []  missing [0, 1, 2]" in listing
  assert listing.endswith("5 runs are missing.")
  assert _log(root) == ["0.7 0"]
  assert experiment.results_path(root, "coin_toss").read_text() == before


def test_a_row_without_results_is_not_measured(root):
  text = experiment.sweep(root, "coin_toss", only="heads")
  assert "claim: heads beats tails ... not measured (row 'tails' has not been run)" in text
  assert "not run at this scale: tails" in text


@pytest.mark.parametrize(
  "old,new,message",
  [
    ("config.bias + 0.01 * config.seed", "float('nan')", "share is nan"),
    ('{"share": config.bias + 0.01 * config.seed}', "None", "not a dict"),
    ('("tails", 0.3)', '("heads", 0.3)', "fills row 'heads'"),
    ("range(3)", "(0, 0)", "different seeds"),
    ('("tails", 0.3)', '("tails, too", 0.3)', "has a comma"),
    ("seed=0, ", "", "no field 'seed'"),
    ("PUBLISHED =", "PRINTED =", "has no PUBLISHED"),
  ],
)
def test_a_wrong_experiment_is_refused_with_a_sentence(root, old, new, message):
  _edit(root, old, new)
  with pytest.raises(Refused, match=message):
    experiment.sweep(root, "coin_toss")


def test_a_wrong_name_names_the_nearest(root):
  with pytest.raises(Refused, match="no experiment 'coin_tos'.*Did you mean 'coin_toss'"):
    experiment.sweep(root, "coin_tos")
  with pytest.raises(Refused, match="no scale 'tinny'. Did you mean 'tiny'"):
    experiment.sweep(root, "coin_toss", scale="tinny")
  with pytest.raises(Refused, match="no results at scale 'small'; it has none"):
    report.text(root, "coin_toss", "small")


def test_a_run_that_asks_for_it_gets_its_folder(root):
  _edit(root, "def run(config):", "def run(config, workdir):\n  (workdir / 'mine').touch()")
  experiment.sweep(root, "coin_toss", only="heads", seeds=1)
  assert len(list(root.glob("runs/experiments/coin_toss/*-0/mine"))) == 1


def test_write_pastes_the_report_between_the_markers(root):
  experiment.sweep(root, "coin_toss")
  path = report.write(root, "coin_toss", "tiny")
  body = report.text(root, "coin_toss", "tiny")
  assert path.read_text() == f"# Coin\n{report.START}\n{body}\n{report.END}\nrest\n"
  path.write_text("no markers")
  with pytest.raises(Refused, match="must hold the lines"):
    report.write(root, "coin_toss", "tiny")
  assert path.read_text() == "no markers"


def _git(root, *words):
  settings = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
  subprocess.run(["git", *settings, *words], cwd=root, check=True, capture_output=True)


def test_diff_shows_what_changed_against_the_last_commit(root):
  experiment.sweep(root, "coin_toss")
  with pytest.raises(Refused, match="git has no committed"):
    report.committed(root, "coin_toss")
  _git(root, "init", "-q")
  _git(root, "add", "experiments")
  _git(root, "commit", "-qm", "results")
  old = report.committed(root, "coin_toss")["scales"]["tiny"]
  module = experiment.load(root, "coin_toss")
  assert report.diff(module, "tiny", old, old) == "no value changed"
  _edit(root, '("heads", 0.7)', '("heads", 0.2)')
  experiment.sweep(root, "coin_toss", only="heads")
  module = experiment.load(root, "coin_toss")
  new = experiment.stored(root, "coin_toss")["scales"]["tiny"]
  lines = report.diff(module, "tiny", old, new).splitlines()
  assert lines[2] == "| heads | share | 0.7100 ± 0.0058 | 0.2100 ± 0.0058 | -61.2 |"
  assert "| tails | share | 0.3100 ± 0.0058 | - | - |" in lines
  assert "other configs than the committed ones: heads" in lines
  assert any("heads beats tails ... was: holds; now: not measured" in line for line in lines)


@pytest.fixture
def command(monkeypatch):
  """Runs a command as `jaxpref` does: its flags defined once, then its main."""

  def run(module, *words):
    values = flags.FlagValues()
    monkeypatch.setattr(flags, "FLAGS", values)
    for name in ("DEFINE_bool", "DEFINE_string", "DEFINE_integer", "DEFINE_enum"):
      define = getattr(flags, name)
      wrapped = lambda *a, d=define: d(*a, flag_values=values)
      monkeypatch.setattr(flags, name, wrapped)
    module.define_flags()
    module.main(values([module.__name__, *words]))
    monkeypatch.undo()

  return run


def test_one_call_runs_several_experiments(root, command, capsys):
  other = root / "experiments" / "another"
  other.mkdir()
  (other / "experiment.py").write_text(SOURCE)
  command(experiment, "coin_toss", "another", f"--root={root}", "--seeds=1", "--only=heads")
  assert capsys.readouterr().out.count("| heads | 0.5 (Table 1, one coin) | 0.7 |") == 2
  command(report, "--all", f"--root={root}")
  out = capsys.readouterr().out
  assert out.index("## another") < out.index("## coin_toss")
  command(experiment, "coin_toss", f"--root={root}", "--dry")
  assert "5 runs are missing" in capsys.readouterr().out


@pytest.mark.parametrize(
  "module,words,message",
  [
    (experiment, (), "experiment needs a name; there is: coin_toss"),
    (report, (), "report needs names or --all, not both; there is: coin_toss"),
    (report, ("coin_toss", "--all"), "not both"),
    (report, ("coin_toss", "--against=x"), "give --diff too"),
    (report, ("coin",), "Did you mean 'coin_toss'"),
  ],
)
def test_wrong_command_lines_are_refused(root, command, module, words, message):
  with pytest.raises(Refused, match=message):
    command(module, *words, f"--root={root}")
