"""What the README says is so: every block of it is written to a copy of the project and run there.

A block whose introduction ends with "`path`:" is a file (with "Add to", it is appended); `sh`
blocks are commands. Training is cut short, by flags after those of the README. When the tables are
stale: `python tests/readme_test.py` writes them anew.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = ROOT / "README.md"
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
ELSEWHERE = ("pip ",)  # commands that .ci/run runs
ROOMS = ("objectives", "wrappers", "mixes", "advantages", "selectors", "rewards")
ROOMS += ("metrics", "analysis", "data", "envs", "models")
COPIED = ("README.md", "pyproject.toml", "configs", "experiments", "jaxpref", "tests")
SHIM = """#!{python}
import os, sys
sys.path.insert(0, os.getcwd())
from jaxpref import __main__, recipe
if sys.argv[1] == "train":
  c = recipe.load(next(a[9:] for a in sys.argv if a.startswith("--config=")))
  small = ["steps=2", "batch=4", "model.depth=1", "model.width=32", "tokenizer.vocab=400"]
  small += ["samples.count=0", f"data.buckets=({{c.data.max_length}},)"]
  small += [f"data.sets.{{name}}.limit=32" for name in c.data.sets]
  small += [f"evals.{{name}}.data.limit=8" for name in c.evals]
  small += [f"trials.{{name}}.data.limit=4" for name in c.trials]
  if c.rollout.count:
    small += ["rollout.max_new=4"]
  if c.judge:
    small += ["judge.steps=2", "judge.model.depth=1", "judge.model.width=32"]
    small += [f"judge.evals.{{name}}.data.limit=8" for name in c.judge.evals]
  if c.warm:
    small += ["warm.steps=2", *(f"warm.evals.{{name}}.data.limit=8" for name in c.warm.evals)]
  sys.argv += [f"--config.{{flag}}" for flag in small]
__main__.main()
"""


class Block(NamedTuple):
  """A fenced block: its language, its text, and the file that it is, if it is one."""

  kind: str
  text: str
  path: str
  appended: bool


def sections(text):
  """`{heading: blocks}` of the sections that have any."""
  found, heading = {}, ""
  pattern = re.compile(r"^(#+ [^\n]*)$|^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
  end = 0
  for match in pattern.finditer(text):
    if match[1]:
      heading = match[1].lstrip("# ")
    else:
      before = text[end : match.start()].rstrip()
      path = re.search(r"`([\w./-]+)`:$", before)
      appended = bool(path) and before.endswith(f"Add to {path[0]}")
      block = Block(match[2], match[3], path[1] if path else "", appended)
      found.setdefault(heading, []).append(block)
    end = match.end()
  return found


def commands(blocks):
  """The lines of the `sh` blocks that are run here."""
  lines = [line for b in blocks if b.kind == "sh" for line in b.text.splitlines()]
  return [line for line in lines if line.strip() and not line.startswith(ELSEWHERE)]


def stale(text, room):
  """The table of a room as it should stand between its markers, and as it does."""
  from jaxpref import catalogue

  begin, end = f"<!-- catalogue {room}: start -->\n", f"<!-- catalogue {room}: end -->"
  assert text.count(begin) == text.count(end) == 1
  return catalogue.markdown(room) + "\n", text.partition(begin)[2].partition(end)[0]


SECTIONS = sections(README.read_text(encoding="utf-8"))
RUN = {name: blocks for name, blocks in SECTIONS.items() if commands(blocks)}


@pytest.mark.parametrize("room", ROOMS)
def test_the_tables_are_what_the_catalogue_says(room):
  should, does = stale(README.read_text(encoding="utf-8"), room)
  assert does == should, "run: python tests/readme_test.py"


def test_every_recipe_of_the_project_is_named():
  text = README.read_text(encoding="utf-8")
  assert all(f"`configs/{p.name}`" in text for p in (ROOT / "configs").glob("*.py"))


def test_every_section_that_promises_a_recipe_has_one():
  wanted = {"An objective", "A metric", "A data set", "A model", "An experiment", "Your own data"}
  assert wanted | {"Quickstart", "An objective of your own", "Scaling", "Reading a run"} <= set(RUN)


def test_files_named_in_the_text_exist():
  text = re.sub(r"^```.*?^```$", "", README.read_text(encoding="utf-8"), flags=re.M | re.S)
  made = {b.path for blocks in SECTIONS.values() for b in blocks}
  for name in re.findall(r"`((?:jaxpref|configs|tests|experiments|\.ci)/[\w./]*)`", text):
    assert (ROOT / name).exists() or name in made, name


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
  """Where the runs share what is compiled: most of them compile the same evaluations."""
  return tmp_path_factory.mktemp("programs")


@pytest.fixture
def project(tmp_path, programs):
  """A copy of the project, with a `jaxpref` that trains briefly on one device."""
  copy, binaries = tmp_path / "project", tmp_path / "bin"
  copy.mkdir()
  binaries.mkdir()
  skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
  for name in COPIED:
    if (ROOT / name).is_dir():
      shutil.copytree(ROOT / name, copy / name, ignore=skip)
    elif (ROOT / name).exists():
      shutil.copy(ROOT / name, copy / name)
  scripts = {
    "jaxpref": SHIM.format(python=sys.executable),
    "pytest": f'#!/bin/sh\nexec {sys.executable} -m pytest -p no:cacheprovider "$@"\n',
  }
  for name, text in scripts.items():
    (binaries / name).write_text(text)
    (binaries / name).chmod(0o755)
  path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
  env = os.environ | {"PATH": path, "XLA_FLAGS": QUICK, "PYTHONPATH": str(copy)}
  return copy, env | {
    "JAX_COMPILATION_CACHE_DIR": str(programs),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
  }


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_the_recipe_runs(name, project):
  folder, env = project
  for block in RUN[name]:
    if block.path:
      path = folder / block.path
      path.parent.mkdir(parents=True, exist_ok=True)
      with open(path, "a" if block.appended else "w", encoding="utf-8") as file:
        file.write(block.text)
  for line in commands(RUN[name]):
    done = subprocess.run(
      ["bash", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    for workdir in re.findall(r"train .*--workdir=(\S+)", line):
      assert (folder / workdir / "done.json").is_file() and (
        folder / workdir / "page.html"
      ).is_file()


def test_a_block_is_the_file_that_its_introduction_names():
  text = (
    "# A\n`a/b.py`:\n\n```python\nx = 1\n```\nAdd to `c.py`:\n\n```python\ny\n```\n```sh\nls\n```\n"
  )
  (blocks,) = sections(text).values()
  assert [(b.path, b.appended) for b in blocks] == [("a/b.py", False), ("c.py", True), ("", False)]
  assert commands(blocks) == ["ls"] and blocks[0].text == "x = 1\n"


if __name__ == "__main__":
  readme = README.read_text(encoding="utf-8")
  for one in ROOMS:
    new, old = stale(readme, one)
    start = f"<!-- catalogue {one}: start -->\n"
    readme = readme.replace(start + old, start + new)
  README.write_text(readme, encoding="utf-8")
