"""A tiny run through the command line: train, run again, evaluate, generate, page."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
SMALL = (
  *("--config.steps=4", "--config.warm.steps=4", "--config.batch=8", "--config.model.depth=1"),
  *("--config.model.width=32", "--config.model.heads=2", "--config.model.kv_heads=1"),
  *("--config.tokenizer.vocab=300", "--config.data.buckets=(128,)"),
  "--config.data.max_length=128",
  *("--config.data.sets.main.limit=32", "--config.evals.heldout.data.limit=16"),
  *("--config.warm.evals.heldout.data.limit=16", "--config.samples.prompts=1"),
  *("--config.samples.max_new=4", "--config.evals.heldout.every=2", "--config.log.every=2"),
)
pytestmark = pytest.mark.slow


def jaxpref(*words, folder):
  env = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": QUICK}
  command = [sys.executable, "-m", "jaxpref", *words]
  return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The folder of a finished run of 4 + 4 steps, and what it printed."""
  folder = tmp_path_factory.mktemp("cli")
  (folder / "configs").symlink_to(ROOT / "configs")
  config = "--config=configs/offline.py:objective=dpo"
  done = jaxpref("train", config, *SMALL, "--workdir=runs/dpo", folder=folder)
  assert done.returncode == 0, done.stderr
  return folder, done


def test_train_prints_changes_steps_page_and_metrics_and_nothing_on_stderr(run):
  folder, done = run
  assert "steps=4 (recipe 120)" in done.stdout
  assert re.search(r"^page: runs/dpo/page\.html$", done.stdout, re.MULTILINE)
  last = done.stdout.splitlines()[-1]
  assert re.fullmatch(r"[\w/]+ +-?[\d.]+(e-?\d+)?", last), last
  assert done.stderr == ""
  rows = [json.loads(line) for line in (folder / "runs/dpo/metrics.jsonl").open()]
  assert [r["step"] for r in rows if "loss" in r] == [2, 4]
  assert (folder / "runs/dpo/page.html").is_file() and (folder / "runs/dpo/warm").is_dir()


def test_a_finished_run_run_again_prints_its_metrics_and_changes_nothing(run):
  folder, done = run
  before = {p: p.stat().st_mtime_ns for p in (folder / "runs/dpo").rglob("*.jsonl")}
  config = "--config=configs/offline.py:objective=dpo"
  again = jaxpref("train", config, *SMALL, "--workdir=runs/dpo", folder=folder)
  assert again.returncode == 0 and again.stdout.startswith("runs/dpo is finished.\n"), again.stderr
  assert (
    again.stdout.splitlines()[1:] == done.stdout.splitlines()[-len(again.stdout.splitlines()) + 1 :]
  )
  assert before == {p: p.stat().st_mtime_ns for p in before}


def test_evaluate_gives_the_numbers_that_the_run_ended_with(run):
  folder, _ = run
  out = jaxpref("evaluate", "--workdir=runs/dpo", folder=folder)
  assert out.returncode == 0, out.stderr
  found = json.loads(out.stdout)
  final = json.loads((folder / "runs/dpo/done.json").read_text())["metrics"]
  heldout = {k: v for k, v in final.items() if k.startswith("heldout/")}
  assert found.pop("step") == 4 and heldout
  assert found == pytest.approx(heldout, rel=1e-5, abs=1e-6)


def test_evaluate_of_an_earlier_step_gives_other_numbers(run):
  folder, _ = run
  out = jaxpref("evaluate", "--workdir=runs/dpo", "--step=99", folder=folder)
  assert out.returncode == 2 and "Traceback" not in out.stderr and "99" in out.stderr
  best = jaxpref("evaluate", "--workdir=runs/dpo", "--step=best", folder=folder)
  assert best.returncode == 0 and json.loads(best.stdout)["step"] in (2, 4), best.stderr


def test_generate_prints_the_samples_of_each_prompt_together_and_the_same_ones_again(run):
  folder, _ = run
  words = ("generate", "--workdir=runs/dpo", "--prompt=interest in art:", "--prompt=risk averse:")
  words += ("--samples=2", "--max_new=5", "--seed=3")
  first, second = jaxpref(*words, folder=folder), jaxpref(*words, folder=folder)
  assert first.returncode == 0, first.stderr
  lines = re.findall(r"^(.*?) \| [^|]*\(\d+ tokens, -?[\d.]+ nats\)$", first.stdout, re.M | re.S)
  assert [line.strip() for line in lines] == ["interest in art:"] * 2 + ["risk averse:"] * 2
  assert first.stdout == second.stdout


def test_page_can_be_written_again_with_another_title(run):
  folder, _ = run
  out = jaxpref("page", "--workdir=runs/dpo", "--title=Mine", folder=folder)
  assert out.stdout == "runs/dpo/page.html\n", out.stderr
  text = (folder / "runs/dpo/page.html").read_text()
  assert "<h1>Mine</h1>" in text and "http://" not in re.sub(r"http://www\.w3\.org\S*", "", text)


@pytest.mark.parametrize("command", ["evaluate", "generate", "page"])
def test_a_folder_without_a_run_is_refused_in_one_sentence(command, run):
  folder, _ = run
  more = ["--prompt=x"] if command == "generate" else []
  out = jaxpref(command, "--workdir=runs/none", *more, folder=folder)
  assert out.returncode == 2 and out.stderr.count("\n") == 1 and "runs/none" in out.stderr
  assert not (folder / "runs/none").exists()


@pytest.mark.parametrize("command", ["evaluate", "generate", "page", "train"])
def test_words_that_are_no_flags_are_refused(command, run):
  folder, _ = run
  more = {"generate": ["--prompt=x"], "train": ["--config=configs/offline.py"]}.get(command, [])
  out = jaxpref(command, "runs/dpo", "--workdir=runs/dpo", *more, folder=folder)
  assert out.returncode == 2 and "'runs/dpo'" in out.stderr, out.stderr
