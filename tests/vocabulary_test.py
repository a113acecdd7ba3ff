"""The table of array names and the check of a batch against it."""

import numpy as np
import pytest

from jaxpref import vocabulary
from jaxpref.types import Refused


def _batch():
  return {
    "tokens": np.zeros((4, 2, 7), np.int32),
    "mask": np.zeros((4, 2, 7), np.float32),
    "relevance": np.zeros((4, 2), np.float32),
    "weight": np.ones(4, np.float32),
    "ref_logp": np.zeros((4, 2), np.float32),
    "mismatch_tokens": np.zeros((4, 2, 9), np.int32),
  }


def test_a_batch_that_fits_passes():
  vocabulary.check(_batch())


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    ({"tokns": np.zeros(4, np.int32)}, "holds 'tokns', which jaxpref.vocabulary does not list"),
    ({"tokens": np.zeros((4, 2, 7), np.float32)}, r"tokens is float32; .* i32\[B K T\]"),
    ({"weight": np.ones(4, np.int64)}, r"weight is int64; the vocabulary says f32\[B\]"),
    ({"weight": np.ones((4, 1), np.float32)}, r"weight has shape \(4, 1\); .*\[B\]"),
    ({"weight": np.ones(3, np.float32)}, "weight has 3 along B but tokens has 4"),
    ({"ref_logp": np.ones((4, 3), np.float32)}, "ref_logp has 3 along K but tokens has 2"),
    ({"mask": np.ones((4, 2, 8), np.float32)}, "mask has 8 along T but tokens has 7"),
    ({"mismatch_tokens": np.zeros((4, 3, 9), np.int32)}, "mismatch_tokens has 3 along K"),
  ],
)
def test_what_does_not_fit_is_refused_by_name(change, sentence):
  with pytest.raises(Refused, match=sentence):
    vocabulary.check(_batch() | change)


def test_mismatched_rows_may_have_another_length_but_agree_with_each_other():
  mask = np.zeros((4, 2, 8), np.float32)
  with pytest.raises(Refused, match="mismatch_mask has 8 along mismatch T but mismatch_tokens"):
    vocabulary.check(_batch() | {"mismatch_mask": mask})


def test_prefixes_do_not_change_axes_or_what_is_known():
  assert vocabulary.axes("mismatch_ref_token_logp") == ("B", "K", "T")
  assert vocabulary.known("old_logp") and not vocabulary.known("new_logp")
  assert vocabulary.plain("reference") == "reference"


def test_every_row_has_known_axes_a_kind_a_maker_and_a_meaning():
  for name, row in vocabulary.NAMES.items():
    assert set(row.axes.split()) <= set("BKTRSDVM"), name
    assert row.kind in ("f32", "i32", "u32", "tree") and row.maker and row.meaning, name
    assert not name.startswith(vocabulary.PREFIXES), name
