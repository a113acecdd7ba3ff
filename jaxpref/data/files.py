"""Your own data: JSONL, packed or not, and parquet. The fields that it may hold: `shapes`."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import sys
import zlib
from collections.abc import Iterator

from jaxpref import call
from jaxpref.data import shapes
from jaxpref.types import Record, Refused

FORMATS = ("jsonl", "parquet")
POLICIES = ("error", "skip")
_WHOLE = ("train", "all")
_SUFFIXES = {".jsonl": "jsonl", ".jsonl.gz": "jsonl", ".parquet": "parquet"}


@dataclasses.dataclass(frozen=True)
class Report:
  """What was left out of a file.

  Attributes:
    path: the file.
    records: how many records were read.
    skipped: how many lines were bad and skipped.
    first: the refusals of the first 20 of them.
    unused: names of fields that no shape knows.
  """

  path: str
  records: int
  skipped: int
  first: tuple[str, ...]
  unused: tuple[str, ...]

  def sentences(self) -> str:
    """The report as lines for people; empty where nothing was left out."""
    lines = []
    if self.skipped:
      total = self.records + self.skipped
      lines.append(f"files: skipped {self.skipped:,} of {total:,} records of {self.path}:")
      lines += [f"  {sentence}" for sentence in self.first]
      if self.skipped > len(self.first):
        lines.append(f"  ... and {self.skipped - len(self.first):,} more")
    for name in self.unused:
      near = call.nearest(name, shapes.OPTIONAL)
      lines.append(f"files: the field {name!r} of {self.path} is not used. {near}".rstrip())
    return "\n".join(lines)


def files(
  split: str, *, path: str = "", format: str = "", on_error: str = "error"
) -> Iterator[Record]:
  """Records of a JSONL (`.jsonl`, `.jsonl.gz`) or parquet file, in the shapes of `data.shapes`.

  Blank lines of JSONL are passed over, and a byte-order mark is. Fields that are not known are
  named on stderr.

  Args:
    split: put in the place of `{split}` in `path`. A path without it is one set: `train` or `all`.
    path: the file.
    format: `jsonl` or `parquet`; told by the file's name if empty.
    on_error: `error` refuses the file at its first bad line; `skip` leaves bad lines out, counts
      them and lists the first 20 on stderr.

  Yields:
    Records in the file's order, with `source` as `file.jsonl:17`.

  Raises:
    Refused: no such file, an empty file, an unknown split, format or policy, or a bad line: says
      file, line, what is wrong and the remedy.
  """
  if not path:
    raise Refused("files got no path; set path to a .jsonl, .jsonl.gz or .parquet file.")
  if "{split}" not in path and split not in _WHOLE:
    raise Refused(
      f"{path} is one set, so split={split!r} would read the same records as 'train'. Write "
      "{split} where the files' names differ, or use split='all'."
    )
  records, report = scan(path.replace("{split}", split), format=format, on_error=on_error)
  if report.sentences():
    print(report.sentences(), file=sys.stderr)
  yield from records


def scan(path: str, *, format: str = "", on_error: str = "error") -> tuple[list[Record], Report]:
  """What `files` yields, as a list, and the report of what was left out.

  Args:
    path: the file.
    format: as in `files`.
    on_error: as in `files`.

  Raises:
    Refused: as `files`.
  """
  if on_error not in POLICIES:
    raise Refused(
      f"on_error has no {on_error!r}. {call.nearest(on_error, POLICIES)}It has: error, skip."
    )
  kind = _format(path, format)
  if not os.path.isfile(path):
    what = "is a folder, not a file" if os.path.isdir(path) else "does not exist"
    raise Refused(f"the data file {path} {what}; paths are relative to {os.getcwd()}.")
  records, refusals, skipped, names = [], [], 0, {}
  for where, found in (_jsonl if kind == "jsonl" else _parquet)(path):
    try:
      if isinstance(found, Refused):
        raise found
      records.append(shapes.parse(found, where))
      names |= dict.fromkeys(found)
    except Refused as refusal:
      if on_error == "error":
        raise
      skipped += 1
      refusals = refusals if len(refusals) == 20 else [*refusals, str(refusal)]
  if not records:
    bad = f" All its {skipped:,} records are bad; the first: {refusals[0]}" if skipped else ""
    raise Refused(f"the data file {path} is empty: it holds no record.{bad}")
  unused = tuple(name for name in names if name not in shapes.KNOWN)
  return records, Report(path, len(records), skipped, tuple(refusals), unused)


def _format(path, format):
  if format:
    if format not in FORMATS:
      raise Refused(
        f"files has no format {format!r}. {call.nearest(format, FORMATS)}It has: jsonl, parquet."
      )
    return format
  for suffix, kind in _SUFFIXES.items():
    if path.endswith(suffix):
      return kind
  raise Refused(
    f"the name of {path} does not tell its format; set format to jsonl (one JSON object per line) "
    "or parquet, or name it .jsonl, .jsonl.gz or .parquet."
  )


def _jsonl(path):
  """`(where, object or refusal)` of each line that is not blank."""
  with open(path, "rb") as file:
    packed = file.read(2) == b"\x1f\x8b"
  with gzip.open(path, "rb") if packed else open(path, "rb") as lines:
    try:
      for number, line in enumerate(lines, 1):
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if line.strip():
          where = f"{path}:{number}"
          yield where, _loads(line, where)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
      raise Refused(f"the packed file {path} is damaged: {error}. Copy it again.") from error


def _loads(line, where):
  try:
    return json.loads(line.decode("utf-8"))
  except UnicodeDecodeError as error:
    return Refused(
      f"{where} is not valid UTF-8: byte {error.start} of the line is "
      f"0x{line[error.start]:02x}. Save the file as UTF-8."
    )
  except (ValueError, RecursionError) as error:
    hint = " A file that is one JSON list is not JSONL." if line.lstrip()[:1] == b"[" else ""
    return Refused(f"{where} is not JSON: {error}. Write one object per line.{hint}")


def _parquet(path):
  """`(where, object or refusal)` of each row, counted from 1."""
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError as error:
    raise Refused(
      "reading parquet needs pyarrow; install it, or save the data as JSONL."
    ) from error

  number = 0
  try:
    with pyarrow.parquet.ParquetFile(path) as table:
      for batch in table.iter_batches(batch_size=1024):
        for found in _rows(batch):
          number += 1
          where = f"{path}:{number}"
          if isinstance(found, UnicodeDecodeError):
            found = Refused(f"{where} is not valid UTF-8: {found}. Save its texts as UTF-8.")
          yield where, found
  except (pyarrow.ArrowInvalid, OSError) as error:
    raise Refused(f"{path} is no parquet file that pyarrow can read: {error}.") from error


def _rows(batch):
  """Dicts of a batch; a row that cannot be decoded is its error."""
  try:
    yield from batch.to_pylist()
    return
  except UnicodeDecodeError:
    pass  # some row: find out which, one by one
  for n in range(len(batch)):
    try:
      yield batch.slice(n, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
      yield error
