"""GSM8K: grade-school maths word problems with worked solutions.

7,473 training and 1,319 test problems; MIT. The files and their licence ship with the package, in
`bundled/gsm8k`. The reward `exact_answer` checks responses to them.
"""

from __future__ import annotations

import gzip
import importlib.resources
import json
import re
from collections.abc import Iterator

from jaxpref import call
from jaxpref.types import Record, Refused

_SPLITS = ("train", "test")
_CALCULATOR = re.compile(r"<<[^>]*>>")


def gsm8k(split: str, *, calculator: str = "drop") -> Iterator[Record]:
  """Problems as prompts, worked solutions as responses, the final number as `answer`.

  Args:
    split: `train` or `test`.
    calculator: `drop` takes the annotations `<<48/2=24>>` out of the solutions, `keep` leaves them.

  Yields:
    Records with one response that ends with `#### ` and the number, in the file's order.

  Raises:
    Refused: an unknown split, or another word for `calculator`.

  Example:
    >>> record = next(gsm8k("test"))
    >>> record.answer, record.responses[0][-7:]
    ('18', '#### 18')

  Reference: Cobbe et al., "Training Verifiers to Solve Math Word Problems" (2021).
  """
  call.one_of("gsm8k", _SPLITS, split=split)
  call.one_of("gsm8k", ("drop", "keep"), calculator=calculator)
  path = importlib.resources.files("jaxpref.data") / "bundled" / "gsm8k" / f"{split}.jsonl.gz"
  with path.open("rb") as packed, gzip.open(packed, "rt", encoding="utf-8") as lines:
    for number, line in enumerate(lines, 1):
      row = json.loads(line)
      where = f"gsm8k/{split}.jsonl.gz:{number}"
      _, mark, answer = row["answer"].rpartition("#### ")
      if not mark:
        raise Refused(f"{where}: the solution does not end with '#### ' and a number.")
      text = row["answer"] if calculator == "keep" else _CALCULATOR.sub("", row["answer"])
      yield Record(prompt=row["question"], responses=(text,), answer=answer.strip(), source=where)
