"""What cannot be used is refused: one sentence, exit code 2, nothing compiled or written before.

Every case goes through the command line, `jaxpref train`, in a process of its own.
"""

import contextlib
import json
import os
import shutil
import subprocess

import commands
import pytest

RECIPE = "--config=tests/small_run.py"
STEPS = "--config.steps=4"
PAIR = {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " no"}
OBJECTIVE = """
import os
import jax.numpy as jnp
from jaxpref import objectives

def nan_in_two_rows(logp, ref_logp, index):
  loss, metrics = objectives.dpo(logp, ref_logp)
  return jnp.where((index == 3) | (index == 5), jnp.nan, loss), metrics

def fills_the_disk(logp, ref_logp):
  disk = open("disk_name").read()
  free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
  with open(f"{disk}/filler", "ab") as file:
    file.write(b"x" * max(0, free - int(open("left").read())))
  return objectives.dpo(logp, ref_logp)
"""


@pytest.fixture(scope="module")
def jaxpref(tmp_path_factory):
  with commands.Commands(tmp_path_factory.mktemp("commands")) as runner:
    yield runner


def _data(folder, *lines, count=20):
  """A JSONL file of good pairs, and these lines behind them."""
  good = [json.dumps(PAIR | {"prompt": f"{n} + 2 =", "chosen": f" {n + 2}"}) for n in range(count)]
  raw = [line if isinstance(line, bytes) else line.encode() for line in (*good, *lines)]
  path = folder / "pairs.jsonl"
  path.write_bytes(b"".join(line + b"\n" for line in raw))
  return path


def _files(folder):
  """Every file below a folder with its bytes."""
  return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def _refused(outcome, *words):
  """Asserts one sentence with these words, no traceback, exit code 2, and no compilation."""
  assert outcome.code == 2, outcome
  assert "Traceback" not in outcome.err and outcome.err.count("\n") == 1, outcome.err
  assert outcome.err.startswith("jaxpref train: ") and outcome.err.endswith(".\n"), outcome.err
  for word in words:
    assert word in outcome.err, (word, outcome.err)
  if outcome.compiled is not None:
    assert outcome.compiled == 0, outcome


LINES = {
  "malformed JSON": ('{"prompt": "a", ', ["is not JSON", "Write one object per line"]),
  "a missing field": ('{"prompt": "a", "chosen": "b"}', ["rejected"]),
  "an empty response": (json.dumps(PAIR | {"chosen": ""}), ["chosen", "empty"]),
  "chosen equal to rejected": (json.dumps(PAIR | {"chosen": " no"}), ["chosen", "rejected"]),
  "a wrong type": (json.dumps(PAIR | {"chosen": 4}), ["chosen", "4"]),
  "invalid UTF-8": (b'{"prompt": "\xff"}', ["not valid UTF-8", "0xff", "Save the file as UTF-8"]),
  "a list": ('["a", "b"]', ["object"]),
  "a response longer than the window": (
    json.dumps(PAIR | {"chosen": "many " * 200}),
    ["more than max_length=128", "raise max_length", "truncate"],
  ),
}


@pytest.mark.parametrize("case", LINES)
def test_a_bad_line_is_refused_by_file_and_line(case, jaxpref, tmp_path):
  line, words = LINES[case]
  path = _data(tmp_path, line)
  out = jaxpref(
    "train", f"{RECIPE}:evals=False,path={path}", f"--workdir={tmp_path}/run", *NO_LIMIT
  )
  _refused(out, f"{path}:21", *words)
  assert not (tmp_path / "run" / "run.json").exists()


NO_LIMIT = ("--config.data.sets.main.limit=0",)


def test_an_empty_file_and_one_that_is_not_there_are_refused(jaxpref, tmp_path):
  path = tmp_path / "pairs.jsonl"
  out = jaxpref("train", f"{RECIPE}:evals=False,path={path}", f"--workdir={tmp_path}/run")
  _refused(out, str(path), "does not exist")
  path.write_text("\n")
  out = jaxpref("train", f"{RECIPE}:evals=False,path={path}", f"--workdir={tmp_path}/run")
  _refused(out, str(path), "is empty")


def test_one_bad_line_in_ten_thousand_is_an_error_by_default_and_skipped_if_asked(
  jaxpref, tmp_path
):
  path = _data(tmp_path, '{"prompt": "a", ', count=9999)
  words = (f"{RECIPE}:evals=False,path={path}", f"--workdir={tmp_path}/run", *NO_LIMIT, STEPS)
  _refused(jaxpref("train", *words), f"{path}:10000", "is not JSON")
  out = jaxpref.fresh("train", *words, "--config.data.on_error=skip")
  assert out.code == 0, out.err
  assert "9,999 records" in out.out
  assert f"skipped 1 of 10,000 records of {path}" in out.err and f"{path}:10000" in out.err


WORDS = {
  "an unknown objective": (
    ("--config.objectives.main.fn=ddpo",),
    ["'ddpo'", "Did you mean 'dpo'?"],
  ),
  "an unknown recipe argument": ((f"{RECIPE}:objectiv=dpo",), ["Did you mean 'objective'?"]),
  "an objective that the recipe cannot find": (
    (f"{RECIPE}:objective=ddpo",),
    ["'ddpo'", "Did you mean 'dpo'?"],
  ),
  "an unknown knob": (
    ("--config.objectives.main.betta=1.0",),
    ["config.objectives.main", "'betta'", "Did you mean 'beta'?"],
  ),
  "an unknown key": (("--config.stepps=3",), ["'stepps'", "Did you mean 'steps'?"]),
  "a value of another type": (("--config.steps=many",), ["config.steps"]),
  "an unknown recipe": (("--config=configs/offlin.py",), ["Did you mean 'configs/offline.py'?"]),
  "no recipe": (("--config=",), ["train needs --config=configs/FILE.py"]),
  "a batch that does not divide": (
    ("--config.batch=10", "--config.microbatches=4"),
    ["batch 10", "use 8 or 12"],
  ),
  "a mesh larger than the devices": (
    ("--config.mesh.fsdp=64",),
    ["fsdp=64", "needs 64 devices; there are 1"],
  ),
  "a model that the mesh does not divide": (("--config.mesh.data=0",), ["data=0"]),
  "an unknown model field": (("--config.model.preset=nanno",), ["Did you mean 'nano'?"]),
  "an unknown metric": (
    ("--config.evals.heldout.metric.fn=pair_acuracy",),
    ["Did you mean 'pair_accuracy'?"],
  ),
  "an unknown reduction": (("--config.objectives.main.reduce=tokens",), ["'token'"]),
  "an unknown optimizer": (("--config.optim.name=adam",), ["Did you mean 'adamw'?"]),
  "an unknown schedule": (("--config.optim.schedule=cosin",), ["Did you mean 'cosine'?"]),
  "an unknown update rule": (("--config.rule.fn=gradiant",), ["Did you mean 'gradient'?"]),
  "an unknown tokenizer": (("--config.tokenizer.kind=bp",), ["Did you mean 'bpe'?"]),
  "an unknown template": (("--config.data.template=plane",), ["Did you mean 'plain'?"]),
  "a tokenizer file that is not there": (
    ("--config.tokenizer.kind=file", "--config.tokenizer.path=nowhere.json"),
    ["nowhere.json"],
  ),
  "a start from a folder without a run": (("--config.init_from=nowhere",), ["nowhere"]),
  "a word that is no flag": (("quickstart",), ["flags only"]),
}


@pytest.mark.parametrize("case", WORDS)
def test_a_wrong_command_is_refused_with_the_nearest_right_one(case, jaxpref, tmp_path):
  words, sentences = WORDS[case]
  out = jaxpref("train", RECIPE, f"--workdir={tmp_path}/run", *words)
  _refused(out, *sentences)
  assert not _files(tmp_path)


def test_in_a_new_process_the_sentence_is_the_same(jaxpref, tmp_path):
  words = (RECIPE, f"--workdir={tmp_path}/run", "--config.objectives.main.fn=ddpo")
  _refused(jaxpref.fresh("train", *words, devices=8), "Did you mean 'dpo'?")


def test_a_workdir_that_cannot_be_written_is_refused(jaxpref, tmp_path):
  (tmp_path / "file").write_text("mine")
  for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
    out = jaxpref("train", RECIPE, f"--workdir={workdir}")
    _refused(out, str(workdir), "cannot be written", "give another --workdir")
  assert (tmp_path / "file").read_text() == "mine"


@contextlib.contextmanager
def _tmpfs(folder, options):
  folder.mkdir()
  command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
  if os.getuid() or subprocess.run(command, capture_output=True).returncode:
    pytest.skip("mounting needs root")
  try:
    yield folder
  finally:
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_workdir_on_a_read_only_disk_is_refused(jaxpref, tmp_path):
  with _tmpfs(tmp_path / "disk", "size=1m,ro") as disk:
    _refused(jaxpref("train", RECIPE, f"--workdir={disk}/run"), "Read-only file system")


def test_a_disk_without_room_for_two_checkpoints_is_refused(jaxpref, tmp_path):
  with _tmpfs(tmp_path / "disk", "size=256k") as disk:
    out = jaxpref("train", RECIPE, f"--workdir={disk}/run")
    _refused(out, "MiB free", "Free some space or give another --workdir")


@pytest.mark.parametrize("left", [0, 40_000])
def test_a_disk_that_fills_up_stops_the_run_with_a_sentence(left, jaxpref, tmp_path):
  """Nothing left: the log cannot be written; a little left: the checkpoint cannot."""
  with _tmpfs(tmp_path / "disk", "size=16m") as disk:
    (tmp_path / "my_module.py").write_text(OBJECTIVE)
    (tmp_path / "disk_name").write_text(str(disk))
    (tmp_path / "left").write_text(str(left))
    shutil.copy(os.path.join(commands.ROOT, "tests/small_run.py"), tmp_path)
    words = (f"--workdir={disk}/run", STEPS)
    recipe = "--config=small_run.py:objective=my_module:fills_the_disk,evals=False"
    out = jaxpref.fresh("train", recipe, *words, cwd=tmp_path)
    _refused(out, str(disk), "pace", "same command")
    (disk / "filler").unlink()
    assert not list((disk / "run").rglob("done.json"))


def test_a_loss_that_is_not_finite_names_step_and_examples_and_keeps_the_checkpoint(
  jaxpref, tmp_path
):
  (tmp_path / "my_module.py").write_text(OBJECTIVE)
  shutil.copy(os.path.join(commands.ROOT, "tests/small_run.py"), tmp_path)
  words = (f"--workdir={tmp_path}/run", STEPS, "--config.checkpoint.every=1")
  recipe = "--config=small_run.py:objective=my_module:nan_in_two_rows,evals=False"
  out = jaxpref.fresh("train", recipe, *words, "--config.steps=40", cwd=tmp_path)
  _refused(out, "step ", "personas/interest-in-art:", "is kept")
  assert "; no single example" not in out.err
  kept = int(out.err.partition("checkpoint of step ")[2].partition(" ")[0])
  assert (tmp_path / "run" / "checkpoints" / str(kept)).is_dir()
  lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
  assert max(x["step"] for x in lines) <= kept


@pytest.fixture(scope="module")
def finished(jaxpref, tmp_path_factory):
  folder = tmp_path_factory.mktemp("finished") / "run"
  out = jaxpref.fresh("train", f"{RECIPE}:evals=False", STEPS, f"--workdir={folder}")
  assert out.code == 0, out.err
  return folder


def _unfinished(finished, tmp_path):
  """A copy of a run that was killed right before its end."""
  shutil.copytree(finished, tmp_path / "run")
  (tmp_path / "run" / "done.json").unlink()
  return tmp_path / "run"


LONG = ("--config.data.max_length=300", "--config.data.buckets=(300,)")
AGAIN = (f"{RECIPE}:evals=False", STEPS)


def test_another_config_in_an_old_folder_is_refused_and_changes_no_byte(jaxpref, finished):
  before = _files(finished)
  out = jaxpref("train", *AGAIN, "--config.optim.lr=0.5", f"--workdir={finished}")
  _refused(out, "optim.lr: 0.01 there, 0.5 now", "--proceed")
  assert _files(finished) == before


def test_bad_data_in_an_old_folder_change_no_byte(jaxpref, finished, tmp_path):
  run, path = tmp_path / "run", _data(tmp_path)
  words = (f"{RECIPE}:evals=False,path={path}", f"--workdir={run}", STEPS, *NO_LIMIT)
  assert jaxpref.fresh("train", *words).code == 0
  (run / "done.json").unlink()
  before = _files(run)
  _data(tmp_path, '{"prompt": "a", ')
  _refused(jaxpref("train", *words), f"{path}:21", "is not JSON")
  _data(tmp_path, json.dumps(PAIR))
  _refused(jaxpref("train", *words), "the data of the run", "--proceed")
  assert _files(run) == before


@pytest.mark.parametrize("pattern", ["state/_METADATA", "state/manifest.ocdbt", "state/d/*"])
@pytest.mark.parametrize("size", [0, 40])
def test_a_truncated_checkpoint_is_refused(pattern, size, jaxpref, finished, tmp_path):
  run = _unfinished(finished, tmp_path)
  files = list((run / "checkpoints" / "4").glob(pattern))
  assert files
  for file in files:
    os.truncate(file, min(size, file.stat().st_size - 1))
  before = _files(run / "checkpoints")
  out = jaxpref.fresh("train", *AGAIN, f"--workdir={run}")
  _refused(out, "checkpoints", "4", "truncated", "remove that folder")
  assert _files(run / "checkpoints") == before


def test_a_foreign_checkpoint_is_refused(jaxpref, finished, tmp_path):
  run = _unfinished(finished, tmp_path)
  words = (*AGAIN, f"--workdir={run}")
  out = jaxpref.fresh("train", *words, "--config.model.hidden=32", "--proceed")
  _refused(out, "does not fit this run", "mlp")
  (run / "run.json").unlink()
  _refused(jaxpref("train", *words), "holds checkpoints but no run.json")


def test_a_tokenizer_that_does_not_match_the_checkpoint_is_refused(jaxpref, finished, tmp_path):
  run = _unfinished(finished, tmp_path)
  text = (run / "tokenizer.json").read_text()
  (run / "tokenizer.json").write_text(text.replace("Ġ", "Ċ"))
  before = _files(run)
  out = jaxpref("train", *AGAIN, f"--workdir={run}")
  _refused(out, "tokenizer", "the same id would mean another text")
  assert _files(run) == before
  words = (f"{RECIPE}:evals=False", STEPS, "--config.tokenizer.kind=bytes", *LONG)
  out = jaxpref("train", *words, f"--config.init_from={finished}", f"--workdir={tmp_path}/new")
  _refused(out, "tokenizer", str(finished))
