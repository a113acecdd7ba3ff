import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxpref.data.files import files, scan
from jaxpref.types import Refused

ROWS = [{"prompt": f"q{i}", "chosen": "yes", "rejected": "no"} for i in range(4)]


def _write(path, rows):
  path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
  return str(path)


def _bare(records):
  return [(r.prompt, r.responses, r.relevance) for r in records]


def test_jsonl_packed_jsonl_and_parquet_give_the_same_records(tmp_path):
  plain = _write(tmp_path / "a.jsonl", ROWS)
  with gzip.open(tmp_path / "b.jsonl.gz", "wb") as file:
    file.write((tmp_path / "a.jsonl").read_bytes())
  pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "c.parquet")
  first = list(files("train", path=plain))
  assert _bare(first) == [(f"q{i}", ("yes", "no"), (1.0, 0.0)) for i in range(4)]
  assert first[2].source == f"{plain}:3"
  for name in ("b.jsonl.gz", "c.parquet"):
    assert _bare(files("all", path=str(tmp_path / name))) == _bare(first)


def test_parquet_holds_chat_and_lists(tmp_path):
  turns = [{"role": "user", "content": "q", "counts": None}]
  rows = [{"prompt": turns, "completions": ["a", "b"], "scores": [0.0, 1.0], "group": None}]
  pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
  (record,) = files("train", path=str(tmp_path / "a.parquet"))
  assert record.prompt == ({"role": "user", "content": "q"},)
  assert (record.responses, record.relevance) == (("b", "a"), (1.0, 0.0))


def test_blank_lines_and_a_byte_order_mark_are_passed_over_and_lines_counted_right(tmp_path):
  path = tmp_path / "a.jsonl"
  text = "\n" + json.dumps(ROWS[0]) + "\r\n\n" + json.dumps(ROWS[1])
  path.write_bytes(b"\xef\xbb\xbf" + text.encode())
  assert [r.source for r in files("train", path=str(path))] == [f"{path}:2", f"{path}:4"]


def test_the_split_chooses_the_file(tmp_path):
  _write(tmp_path / "p-train.jsonl", ROWS[:3])
  _write(tmp_path / "p-test.jsonl", ROWS[3:])
  path = str(tmp_path / "p-{split}.jsonl")
  assert [len(list(files(split, path=path))) for split in ("train", "test")] == [3, 1]
  with pytest.raises(Refused, match="p-valid.jsonl does not exist"):
    list(files("valid", path=path))


def test_another_split_of_a_single_file_is_refused(tmp_path):
  path = _write(tmp_path / "a.jsonl", ROWS)
  with pytest.raises(Refused, match="split='test' would read the same records as 'train'"):
    list(files("test", path=path))


@pytest.mark.parametrize(
  ("line", "says"),
  [
    (b'{"prompt": "q"', "is not JSON: .*Write one object per line"),
    (b'[{"prompt": "q"},', "A file that is one JSON list is not JSONL"),
    (b"[" * 100_000, "is not JSON"),
    (b'{"prompt": "q", "chosen": "a"}', "has no field 'rejected'"),
    (b'{"prompt": "q", "chosen": "", "rejected": "b"}', "empty response"),
    (b'{"prompt": "q", "chosen": "b", "rejected": "b"}', "chosen and rejected are equal"),
    (b'{"prompt": "q", "chosen": 1, "rejected": "b"}', "chosen is the number 1"),
    (b'{"prompt": "caf\xe9", "chosen": "a", "rejected": "b"}', "not valid UTF-8: byte 15 .* 0xe9"),
  ],
)
def test_a_bad_line_is_refused_by_file_and_number_or_skipped_and_listed(
  line, says, tmp_path, capsys
):
  path = tmp_path / "a.jsonl"
  good = [json.dumps(r).encode() for r in ROWS]
  path.write_bytes(b"\n".join([*good[:2], line, *good[2:]]))
  with pytest.raises(Refused, match=f"a.jsonl:3.*{says}"):
    list(files("train", path=str(path)))
  records, report = scan(str(path), on_error="skip")
  assert [r.prompt for r in records] == ["q0", "q1", "q2", "q3"]
  assert (report.records, report.skipped) == (4, 1)
  assert list(files("train", path=str(path), on_error="skip")) == records
  printed = capsys.readouterr().err
  assert "skipped 1 of 5 records" in printed and f"{path}:3" in printed


def test_one_bad_line_in_ten_thousand_is_found_and_many_are_counted(tmp_path):
  lines = [json.dumps(ROWS[0])] * 10_000
  lines[8_765] = lines[8_765][:-1]
  path = tmp_path / "a.jsonl"
  path.write_text("\n".join(lines))
  with pytest.raises(Refused, match="a.jsonl:8766 is not JSON"):
    scan(str(path))
  lines[100:130] = ["{}"] * 30
  path.write_text("\n".join(lines))
  records, report = scan(str(path), on_error="skip")
  assert (len(records), report.skipped, len(report.first)) == (9_969, 31, 20)
  assert report.sentences().startswith("files: skipped 31 of 10,000 records")
  assert report.sentences().endswith("... and 11 more")


def test_fields_that_nobody_reads_are_named(tmp_path, capsys):
  path = _write(tmp_path / "a.jsonl", [r | {"id": 1, "wieght": 2.0} for r in ROWS])
  assert all(r.weight is None for r in files("train", path=path))
  printed = capsys.readouterr().err
  assert "'wieght' of" in printed and "Did you mean 'weight'" in printed and "'id' of" in printed


def test_a_clean_file_prints_nothing(tmp_path, capsys):
  list(files("train", path=_write(tmp_path / "a.jsonl", ROWS)))
  assert capsys.readouterr().err == ""


def test_files_that_cannot_be_used_are_refused_even_when_skipping(tmp_path):
  empty = _write(tmp_path / "empty.jsonl", [])
  bad = _write(tmp_path / "bad.jsonl", [{}, {}])
  (tmp_path / "x.parquet").write_bytes(b"PAR1 no parquet")
  packed = gzip.compress(json.dumps(ROWS[0]).encode() * 99)
  (tmp_path / "cut.jsonl.gz").write_bytes(packed[:-12])
  (tmp_path / "folder.jsonl").mkdir()
  pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "none.parquet")
  for name, says in (
    (empty, "is empty: it holds no record"),
    (bad, "All its 2 records are bad; the first: .*bad.jsonl:1"),
    ("x.parquet", "no parquet file that pyarrow can read"),
    ("none.parquet", "is empty"),
    ("cut.jsonl.gz", "is damaged"),
    ("folder.jsonl", "is a folder"),
    ("nothing.jsonl", "does not exist"),
    ("data.csv", "does not tell its format"),
  ):
    with pytest.raises(Refused, match=says):
      list(files("train", path=str(tmp_path / name), on_error="skip"))


def test_a_parquet_row_that_is_no_utf8_is_found_by_number(tmp_path):
  chosen = pa.array([b"yes", b"caf\xe9", b"yes"], pa.binary()).view(pa.string())
  table = pa.table({"prompt": ["a", "b", "c"], "chosen": chosen, "rejected": ["no"] * 3})
  path = str(tmp_path / "a.parquet")
  pq.write_table(table, path)
  with pytest.raises(Refused, match="a.parquet:2 is not valid UTF-8"):
    scan(path)
  records, report = scan(path, on_error="skip")
  assert ([r.prompt for r in records], report.skipped) == (["a", "c"], 1)


def test_unknown_formats_policies_and_no_path_are_refused(tmp_path):
  path = _write(tmp_path / "a.txt", ROWS)
  assert len(list(files("train", path=path, format="jsonl"))) == 4
  for knobs, says in (
    ({"path": path, "format": "josnl"}, "no format 'josnl'. Did you mean 'jsonl'"),
    ({"path": path, "format": "jsonl", "on_error": "skp"}, "Did you mean 'skip'"),
    ({}, "files got no path"),
  ):
    with pytest.raises(Refused, match=says):
      list(files("train", **knobs))
