"""Writes requirements.txt: what `pip install -e '.[test]'` brings, pinned for two Pythons.

  python .ci/pins.py VENV_3.11/bin/python VENV_3.12/bin/python > requirements.txt

Both environments hold the packages already (`pip install -e '.[test]'`). A package is listed if the
project or its extra `test` asks for it, or a listed package does; setuptools, which belongs to the
environment, is left out. Where both have the same version the line has no marker.
"""

import importlib.metadata
import json
import pathlib
import subprocess
import sys
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HEAD = """\
# What `pip install -e '.[test]'` brings, pinned. Use it as constraints:
#   pip install -e '.[test]' -c requirements.txt
# Made by `python .ci/pins.py PYTHON_3.11 PYTHON_3.12`; do not edit.
"""


def closure() -> dict[str, str]:
  """Versions by name of all that the project with its tests needs, in this interpreter."""
  root = pathlib.Path(__file__).resolve().parent.parent
  project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
  asked = project["dependencies"] + project["optional-dependencies"]["test"]
  todo, found, done = [(text, "") for text in asked], {}, set()
  while todo:
    text, extra = todo.pop()
    one = Requirement(text)
    if one.name == "setuptools" or one.marker and not one.marker.evaluate({"extra": extra}):
      continue
    about = importlib.metadata.distribution(one.name)
    found[canonicalize_name(one.name)] = about.version
    for extra in ("", *sorted(one.extras)):
      if (one.name, extra) not in done:
        done.add((one.name, extra))
        todo += [(needed, extra) for needed in about.requires or ()]
  return found


def merged(old: dict[str, str], new: dict[str, str]) -> list[str]:
  """Lines of requirements.txt from the versions for 3.11 and for 3.12."""
  lines = []
  for name in sorted(old.keys() | new.keys()):
    a, b = old.get(name), new.get(name)
    if a == b:
      lines.append(f"{name}=={a}")
      continue
    lines += [f'{name}=={a}; python_version < "3.12"'] if a else []
    lines += [f'{name}=={b}; python_version >= "3.12"'] if b else []
  return lines


if __name__ == "__main__":
  if len(sys.argv) == 1:
    print(json.dumps(closure()))
  else:
    out = [
      json.loads(subprocess.run([python, __file__], check=True, capture_output=True).stdout)
      for python in sys.argv[1:3]
    ]
    print(HEAD + "\n".join(merged(*out)))
