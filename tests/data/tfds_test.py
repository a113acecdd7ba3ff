import subprocess
import sys

import pytest

from jaxpref.data import tfds
from jaxpref.types import Refused


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  """A TFDS set of three pairs, prepared as array_record."""
  import tensorflow_datasets as library

  class tiny_pairs(library.core.GeneratorBasedBuilder):
    VERSION = library.core.Version("1.0.0")

    def _info(self):
      names = ("question", "better", "worse")
      features = library.features.FeaturesDict({n: library.features.Text() for n in names})
      return library.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager):
      return {"train": self._generate_examples(3), "test": self._generate_examples(1)}

    def _generate_examples(self, size):
      for i in range(size):
        yield i, {"question": f"q{i} é", "better": f"a{i}", "worse": f"b{i}"}

  folder = str(tmp_path_factory.mktemp("tfds"))
  tiny_pairs(data_dir=folder, file_format="array_record").download_and_prepare()
  return folder


KNOBS = {"name": "tiny_pairs", "prompt": "question", "chosen": "better", "rejected": "worse"}


def test_a_prepared_set_gives_its_pairs(root):
  records = list(tfds("train", root=root, **KNOBS))
  got = {(r.prompt, r.responses, r.relevance) for r in records}
  assert got == {(f"q{i} é", (f"a{i}", f"b{i}"), (1.0, 0.0)) for i in range(3)}
  assert records[1].source == "tiny_pairs/train:1"
  assert len(list(tfds("train[:2]", root=root, **KNOBS))) == 2


WITHOUT_TENSORFLOW = """
from importlib.machinery import PathFinder
real = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: (
  None if name.partition(".")[0] == "tensorflow" else real(name, *rest)
)
"""


def test_a_prepared_set_is_read_where_tensorflow_is_not_installed(root):
  code = f"{WITHOUT_TENSORFLOW}\nfrom jaxpref.data import tfds\n"
  code += f"print(len(list(tfds('test', root={root!r}, **{KNOBS!r}))))"
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
  assert done.stdout.split()[-1] == "1"


@pytest.mark.parametrize(
  ("split", "knobs", "says"),
  [
    ("trian", {}, "no split 'trian'. Did you mean 'train'"),
    ("train", {"prompt": "prompt"}, "no feature 'prompt'.*question, better, worse"),
    ("train", {"chosen": "bettr"}, "no feature 'bettr', which chosen names. Did you mean 'better'"),
    ("train", {"rejected": "better"}, "chosen and rejected are equal"),
    ("train", {"name": "tiny_paris"}, "no prepared TFDS set 'tiny_paris'"),
    ("train", {"name": ""}, "give the name of the set"),
  ],
)
def test_what_is_not_there_is_refused(root, split, knobs, says):
  with pytest.raises(Refused, match=says):
    list(tfds(split, root=root, **(KNOBS | knobs)))
