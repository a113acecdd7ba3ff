"""The files of a run, checked by reading them back with json, TensorBoard and protobuf."""

import glob
import io
import json
import os
import re
import struct
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import console, writer
from jaxpref.types import Refused


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def _rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def _open(workdir, start=0, total=100, backends=(), stream=None):
  return writer.open_writer(
    workdir, start_step=start, total_steps=total, backends=backends, stream=stream or io.StringIO()
  )


def _train(workdir, start, stop, rng_seed=0):
  """Writes the numbers that a deterministic loop would; those of a step depend on it alone."""
  out = _open(workdir, start)
  for step in range(start + 1, stop + 1):
    rng = np.random.default_rng((rng_seed, step))
    out.write(step, {"loss": rng.normal(), "rewards/margins": jnp.float32(rng.normal())})
    out.speed(step, {"seconds": 0.5 * step, "tokens_per_second": 1000.0, "compiles": 1})
    if step % 5 == 0:
      out.write(step, {"rewards/accuracies": rng.uniform()}, "heldout")
      out.sample(step, "2+2=", "4", -0.25, 1)
  return out


def test_a_float_is_written_as_the_shortest_text_of_its_float32(tmp_path):
  values = np.random.default_rng(0).normal(0, 100, 50).astype(np.float32)
  out = _open(tmp_path)
  for step, value in enumerate(values):
    out.write(step, {"loss": value})
  lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
  assert [json.loads(line)["loss"] for line in lines] == [float(str(v)) for v in values]
  back = np.asarray([json.loads(line)["loss"] for line in lines], np.float32)
  np.testing.assert_array_equal(back, values)
  assert max(len(line) for line in lines) < len('{"step": 10, "loss": -123.45678901}') + 3


def test_the_step_comes_first_and_the_other_keys_are_sorted(tmp_path):
  _open(tmp_path).write(3, {"b": 1, "a": np.int64(2), "c": jnp.asarray(0.5, jnp.bfloat16)})
  assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 3, "a": 2, "b": 1, "c": 0.5}\n'


def test_an_evaluation_puts_its_name_before_every_metric(tmp_path):
  _open(tmp_path).write(3, {"loss": 1.5}, "heldout")
  assert _rows(tmp_path / "metrics.jsonl") == [{"step": 3, "heldout/loss": 1.5}]


def test_nan_and_infinity_become_null_and_the_console_says_so_once(tmp_path):
  stream = io.StringIO()
  out = _open(tmp_path, stream=stream)
  for step in (1, 2):
    out.write(step, {"loss": float("nan"), "grad_norm": 1e300})
  assert _rows(tmp_path / "metrics.jsonl")[0] == {"step": 1, "grad_norm": None, "loss": None}
  assert stream.getvalue().count("loss is not finite") == 1


@pytest.mark.parametrize("value", [np.zeros(2), "high", None, {}])
def test_a_metric_that_is_no_number_is_refused_by_name(tmp_path, value):
  with pytest.raises(Refused, match="metric loss must be one number"):
    _open(tmp_path).write(1, {"loss": value})


def test_a_metric_named_step_is_refused(tmp_path):
  with pytest.raises(Refused, match="may not be named 'step'"):
    _open(tmp_path).write(1, {"step": 2})


def test_a_killed_and_resumed_run_has_the_same_bytes_as_an_undisturbed_one(tmp_path):
  whole, killed = tmp_path / "whole", tmp_path / "killed"
  _train(whole, 0, 30).close()
  _train(killed, 0, 23)
  with (killed / "metrics.jsonl").open("a") as file:
    file.write('{"step": 24, "lo')  # the line that the kill tore
  _train(killed, 10, 30).close()
  for name in ("metrics.jsonl", "samples.jsonl"):
    assert (killed / name).read_bytes() == (whole / name).read_bytes()
  assert [row["step"] for row in _rows(killed / "speed.jsonl")] == list(range(1, 31))


def test_a_new_start_drops_the_lines_of_step_0_too(tmp_path):
  _open(tmp_path).sample(0, "p", "r", -1.0, 1)
  _open(tmp_path).sample(0, "p", "s", -1.0, 1)
  assert [row["response"] for row in _rows(tmp_path / "samples.jsonl")] == ["s"]


def test_an_undisturbed_file_is_not_rewritten(tmp_path):
  _train(tmp_path, 0, 10).close()
  before = os.stat(tmp_path / "metrics.jsonl").st_ino
  writer.truncate(tmp_path, 10)
  assert os.stat(tmp_path / "metrics.jsonl").st_ino == before
  assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("line", ['{"step": 2, "lo', "[1]", "NaN", "\\xff"])
def test_a_corrupt_line_in_the_middle_is_refused_with_file_and_line(tmp_path, line):
  (tmp_path / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
  for read in (lambda: writer.read_lines(tmp_path / "metrics.jsonl"), lambda: _open(tmp_path, 3)):
    with pytest.raises(Refused, match=r"metrics\.jsonl:2 is not one JSON object"):
      read()


def test_a_line_without_a_step_is_refused_on_resume(tmp_path):
  (tmp_path / "speed.jsonl").write_text('{"step": 1}\n{"seconds": 2}\n')
  with pytest.raises(Refused, match=r"speed\.jsonl:2 has no whole number under 'step'"):
    _open(tmp_path, 3)


def test_readers_give_nothing_for_a_file_that_is_not_there(tmp_path):
  assert writer.read_lines(tmp_path / "none.jsonl") == []
  assert writer.read_json(tmp_path / "none.json") == {}


def test_a_json_file_keeps_infinity_as_text(tmp_path):
  writer.write_json(tmp_path / "run.json", {"clip": float("inf"), "b": (1, 2)})
  assert writer.read_json(tmp_path / "run.json") == {"clip": "inf", "b": [1, 2]}


def test_going_on_removes_what_an_earlier_end_left(tmp_path):
  out = _open(tmp_path)
  out.wrong([{"prompt": "p", "chosen": "a", "rejected": "b", "rewards/margins": -0.5}])
  writer.write_json(tmp_path / "done.json", {"step": 100, "metrics": {"loss": 0.25}})
  _open(tmp_path, start=100, total=100)
  assert (tmp_path / "done.json").exists()
  _open(tmp_path, start=100, total=200)
  assert not (tmp_path / "done.json").exists() and not (tmp_path / "wrong.jsonl").exists()


def test_wrong_pairs_are_written_worst_first(tmp_path):
  _open(tmp_path).wrong({"prompt": str(m), "rewards/margins": m} for m in (-0.5, -2.0, 0.0))
  assert [row["prompt"] for row in _rows(tmp_path / "wrong.jsonl")] == ["-2.0", "-0.5", "0.0"]


def test_other_processes_write_and_print_nothing(tmp_path):
  stream = io.StringIO()
  out = writer.open_writer(
    tmp_path / "run", start_step=0, total_steps=9, stream=stream, primary=False
  )
  out.write(1, {"loss": 1.0})
  out.speed(1, {"seconds": 1.0})
  out.sample(1, "p", "r", 0.0, 1)
  out.wrong([])
  out.announce("hello")
  out.progress(1)
  out.close()
  assert not (tmp_path / "run").exists() and stream.getvalue() == ""


def test_a_full_disk_is_told_as_a_sentence_with_file_and_remedy(tmp_path):
  out = _open(tmp_path)
  (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
  with pytest.raises(Refused, match=r"cannot write .*metrics\.jsonl: No space left.*last checkp"):
    out.write(1, {"loss": 1.0})


def test_a_folder_that_cannot_be_made_is_told_as_a_sentence(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(Refused, match="cannot write .*run: Not a directory"):
    _open(tmp_path / "file" / "run")


def test_an_unknown_backend_names_the_nearest(tmp_path):
  with pytest.raises(Refused, match="Did you mean 'tensorboard'"):
    _open(tmp_path, backends=("tensorbord",))


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_with_its_pip_install(tmp_path, monkeypatch, name):
  for module in ("wandb", "tensorboard.compat.proto", "tensorboard.summary.writer"):
    monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(Refused, match=f"pip install {name}"):
    _open(tmp_path, backends=(name,))


def test_tensorboard_reads_the_numbers_and_a_resume_hides_what_it_repeats(tmp_path):
  from tensorboard.backend.event_processing import event_accumulator

  for start, stop, shift in ((0, 8, 0.0), (4, 8, 0.5)):
    out = _open(tmp_path, start, backends=("tensorboard",))
    for step in range(start + 1, stop + 1):
      out.write(step, {"loss": step + shift, "kl/ref": float("nan")})
    out.write(stop, {"loss": 9.0}, "heldout")
    out.speed(stop, {"tokens_per_second": 7.0})
    out.close()
  events = event_accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
  found = [(e.step, e.value) for e in events.Scalars("loss")]
  assert found == [(s, s + (0.5 if s > 4 else 0.0)) for s in range(1, 9)]
  assert [e.value for e in events.Scalars("heldout/loss")] == [9.0]
  assert [e.value for e in events.Scalars("speed/tokens_per_second")] == [7.0]
  assert "kl/ref" not in events.Tags()["scalars"]


def _wandb_records(path):
  """Records of an offline file: LevelDB's log format after a header of 7 bytes."""
  from wandb.proto import wandb_internal_pb2

  data, at, part = open(path, "rb").read(), 7, b""
  while at + 7 <= len(data):
    if 32768 - at % 32768 < 7:
      at += 32768 - at % 32768
      continue
    size, kind = struct.unpack_from("<HB", data, at + 4)
    part += data[at + 7 : at + 7 + size]
    at += 7 + size
    if kind in (1, 4):  # whole, or last part
      yield wandb_internal_pb2.Record.FromString(part)
      part = b""


def test_wandb_offline_holds_the_numbers_and_one_id_per_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("WANDB_MODE", "offline")
  monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
  monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
  writer.write_json(tmp_path / "run.json", {"title": "tiny", "config": {"seed": 7}})
  out = _open(tmp_path, backends=("wandb",))
  out.write(1, {"loss": 0.5, "kl/ref": float("nan")})
  out.write(2, {"loss": 0.25})
  out.close()
  (path,) = glob.glob(str(tmp_path / "wandb" / "offline-run-*" / "*.wandb"))
  assert writer.read_json(tmp_path / "wandb.json")["id"] in os.path.basename(path)
  rows = [
    {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
    for record in _wandb_records(path)
    if record.WhichOneof("record_type") == "history"
  ]
  assert [(row["_step"], row["loss"]) for row in rows] == [(1, 0.5), (2, 0.25)]
  assert "kl/ref" not in rows[0]


def _lines(stream):
  return stream.getvalue().splitlines()


def test_without_a_terminal_lines_are_plain_and_columns_stay_aligned(tmp_path):
  stream = io.StringIO()
  out = _open(tmp_path, stream=stream)
  names = list(console.METRIC_COLUMNS)
  for step in (1, 10, 99_999):
    out.write(step, {name: -(10.0 ** (step % 7)) / 3 for name in names})
    out.speed(step, {"tokens_per_second": 123456.0, "memory_gib": 70.25, "compiles": 2})
    out.progress(step)
  lines = _lines(stream)
  assert len(lines) == 4 and len({len(line) for line in lines}) == 1 and len(lines[0]) <= 120
  ends = [[m.end() for m in re.finditer(r"\S+( \S+)*", line)] for line in lines]
  assert all(end == ends[0] for end in ends)
  assert lines[0].split()[:3] == ["step", "loss", "accuracy"]
  assert lines[1].split()[-3:] == ["123.5k", "70.25", "2"]
  assert re.fullmatch(r"[\x20-\x7e\n]+", stream.getvalue())


def test_a_metric_that_appears_later_gets_a_new_header(tmp_path):
  stream = io.StringIO()
  out = _open(tmp_path, stream=stream)
  out.write(1, {"loss": 1.0})
  out.write(2, {"loss": 1.0, "kl/ref": 0.5})
  out.close()
  heads = [line.split() for line in _lines(stream) if "step" in line]
  assert heads == [["step", "loss"], ["step", "loss", "kl/ref"]]


def test_an_evaluation_prints_at_once_and_fits_the_width(tmp_path):
  stream = io.StringIO()
  out = _open(tmp_path, stream=stream)
  out.write(5, {"loss": 0.125} | {f"aspect_{i}": i / 7 for i in range(30)}, "heldout")
  (line,) = _lines(stream)
  assert line.startswith("       5  heldout:  loss 0.1250") and len(line) <= 120
  shown = line.count("aspect_")
  assert shown and line.endswith(f"(+{30 - shown} in metrics.jsonl)")


def test_four_significant_digits_never_take_more_than_ten_columns():
  rng = np.random.default_rng(0)
  for value in rng.normal(size=500) * 10.0 ** rng.integers(-30, 30, 500):
    text = console.four(float(value))
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1.0)
    assert len(text) <= 10
    assert abs(float(text.rstrip("kMG")) * factor - value) <= abs(value) * 5.001e-4


def test_on_a_terminal_the_bar_shows_steps_and_time_left_and_is_removed(tmp_path, monkeypatch):
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("COLUMNS", "80")
  clock = iter(range(0, 1000, 2))
  monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
  stream = _Terminal()
  out = _open(tmp_path, stream=stream)
  for step in range(1, 6):
    out.progress(step)
  bar = stream.getvalue().split("\x1b[2K")[-1]
  assert re.fullmatch(r"\[=+ +\] 5/100 steps, 3 min 10 s left", bar) and len(bar) < 80
  out.announce("checkpoint 5 saved")
  assert stream.getvalue().endswith("\r\x1b[2Kcheckpoint 5 saved\n" + bar)
  out.close()
  assert stream.getvalue().endswith(bar + "\r\x1b[2K")


def test_a_sentence_with_control_characters_cannot_move_the_cursor(tmp_path):
  stream = io.StringIO()
  _open(tmp_path, stream=stream).announce("a\x1b[2Jb\x07")
  assert stream.getvalue() == "a\\x1b[2Jb\\x07\n"


def test_a_stream_that_knows_only_ascii_still_prints(tmp_path):
  raw = io.BytesIO()
  stream = io.TextIOWrapper(raw, encoding="ascii")
  _open(tmp_path, stream=stream).announce("caf\u00e9")
  assert raw.getvalue() == b"caf\\xe9\n"
