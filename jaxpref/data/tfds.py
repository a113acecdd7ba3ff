"""A set that was prepared with tensorflow-datasets, read without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator

from jaxpref import call
from jaxpref.data.shapes import parse
from jaxpref.types import Record, Refused


def tfds(
  split: str,
  *,
  name: str = "",
  root: str = "",
  prompt: str = "prompt",
  chosen: str = "chosen",
  rejected: str = "rejected",
) -> Iterator[Record]:
  """Pairs of a prepared TFDS set, through `as_data_source`.

  The set must lie prepared under `root` in the file format `array_record` (TFDS reads no other at
  random without TensorFlow); nothing is downloaded.

  Args:
    split: a split of the set, or a slice of one such as `train[:100]`.
    name: the set, such as `my_pairs`, `my_pairs/config` or `my_pairs:1.0.0`.
    root: the folder that TFDS calls data_dir.
    prompt: the feature that holds the prompt, a text.
    chosen: the feature that holds the preferred response, a text.
    rejected: the feature that holds the other response, a text.

  Yields:
    Records with `relevance` (1, 0), in the set's order.

  Raises:
    Refused: no such set, split or feature, or a record that `files` would refuse.
  """
  if not name or not root:
    raise Refused(
      f"tfds got name={name!r} and root={root!r}; give the name of the set and the folder "
      "(data_dir) in which it was prepared."
    )
  builder = _builder(name, root)
  whole = split.partition("[")[0]
  if whole not in builder.info.splits:
    raise Refused(
      f"the TFDS set {name!r} has no split {whole!r}. {call.nearest(whole, builder.info.splits)}"
      f"It has: {', '.join(builder.info.splits)}."
    )
  columns = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
  features = list(builder.info.features)
  for field, feature in columns.items():
    if feature not in features:
      raise Refused(
        f"the TFDS set {name!r} has no feature {feature!r}, which {field} names. "
        f"{call.nearest(feature, features)}It has: {', '.join(features)}."
      )
  for number, example in enumerate(_source(builder, name, split)):
    where = f"{name}/{split}:{number}"
    fields = {field: _text(example[feature], where) for field, feature in columns.items()}
    yield parse(fields, where)


def _builder(name, root):
  import tensorflow_datasets

  try:
    return tensorflow_datasets.builder(name, data_dir=root)
  except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
    raise Refused(
      f"there is no prepared TFDS set {name!r} under {root}. Prepare it there first, with "
      "file_format='array_record'."
    ) from error


def _source(builder, name, split):
  try:
    return builder.as_data_source(split=split)
  except (NotImplementedError, ValueError) as error:
    raise Refused(
      f"TFDS cannot read {name!r}, split {split!r}, at random: {error}. Prepare the set with "
      "file_format='array_record'."
    ) from error


def _text(value, where):
  if isinstance(value, str):
    return value
  try:
    return bytes(value).decode("utf-8")
  except UnicodeDecodeError as error:
    raise Refused(
      f"{where} is not valid UTF-8: byte {error.start} of a text is "
      f"0x{error.object[error.start]:02x}."
    ) from error
