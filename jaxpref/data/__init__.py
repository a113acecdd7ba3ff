"""Data sets: `name(split, *, knobs) -> iterator of Record`. Nothing here needs jax or a network.

The room holds data sets only, so that a config can name them. What turns records into batches is in
the files beside: `read` (config -> records), `pairs` (records -> records), `tokenize` and `chat`
(text -> ids), `encode` (record -> row), `batches` (rows -> batches, a pure function of seed and
step).
"""

from jaxpref.data.bandit import bandit
from jaxpref.data.calculator import calculator
from jaxpref.data.countdown import countdown
from jaxpref.data.files import files
from jaxpref.data.gsm8k import gsm8k
from jaxpref.data.hh_harmless import hh_harmless
from jaxpref.data.keydoor import keydoor
from jaxpref.data.personas import graded_personas, personas
from jaxpref.data.tfds import tfds

__all__ = [
  "bandit",
  "calculator",
  "countdown",
  "files",
  "graded_personas",
  "gsm8k",
  "hh_harmless",
  "keydoor",
  "personas",
  "tfds",
]
