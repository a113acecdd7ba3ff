"""The command line: what is there, how it refuses, what it hands over."""

import os
import subprocess
import sys

import pytest

from jaxpref import __main__ as command_line

PROBE = """
import sys, types
from absl import flags
from jaxpref import __main__, call, types as jaxpref_types
from ml_collections import config_flags

def define_flags():
  flags.DEFINE_integer("count", 1, "how many", lower_bound=0)
  config_flags.DEFINE_config_file("config", None, "recipe")

def main(argv):
  '''`jaxpref probe WORD`.'''
  if "refuse" in argv:
    raise jaxpref_types.Refused("a sentence.")
  if "break" in argv:
    raise KeyError("broken")
  if "find" in argv:
    print(call.find(call, "my_module:my_loss").__name__)
  print(argv[1:], flags.FLAGS.count)

probe = types.ModuleType("jaxpref.probe", "Probe: a command for this test.")
probe.main, probe.define_flags = main, define_flags
sys.modules["jaxpref.probe"] = probe
__main__.commands = lambda: {"probe": "Probe."}
sys.argv = ["jaxpref", "probe", *sys.argv[1:]]
sys.path = [p for p in sys.path if p]  # as for a console script
__main__.main()
"""
CONFIG = """
from jaxpref import config
def get_config(arg=""):
  arg = config.parse_arg(arg, scale="tiny")
  return {"tiny": dict}[arg.scale]()
"""


def _jaxpref(*words, folder=None):
  command = [sys.executable, "-m", "jaxpref", *words]
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  return _run(command, folder or root, root)


def _probe(*words, folder):
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  return _run([sys.executable, "-c", PROBE, *words], folder, root)


def _run(command, folder, root):
  env = os.environ | {"PYTHONPATH": root}
  return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_every_module_with_a_main_is_a_command_and_has_a_summary():
  found = command_line.commands()
  assert "catalogue" in found and "call" not in found and "__main__" not in found
  assert all(summary.endswith(".") for summary in found.values())


def test_alone_it_lists_the_commands_without_importing_jax():
  out = _run(
    [sys.executable, "-X", "importtime", "-m", "jaxpref"],
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    "",
  )
  assert out.returncode == 0 and "catalogue" in out.stdout
  assert "| jax\n" not in out.stderr


def test_an_unknown_command_is_refused_with_the_nearest():
  out = _jaxpref("catalog")
  assert out.returncode == 2 and out.stdout == ""
  assert out.stderr.startswith("jaxpref: no command 'catalog'. Did you mean 'catalogue'?")


def test_a_command_gets_its_words_and_flags(tmp_path):
  out = _probe("one", "--count=3", "two", folder=tmp_path)
  assert (out.returncode, out.stdout) == (0, "['one', 'two'] 3\n"), out.stderr


def test_a_function_of_the_current_folder_is_found(tmp_path):
  (tmp_path / "my_module.py").write_text("def my_loss(logp):\n  return logp, {}\n")
  assert _probe("find", folder=tmp_path).stdout.startswith("my_loss\n")


@pytest.mark.parametrize(
  ("words", "sentence"),
  [
    (("refuse",), "jaxpref probe: a sentence.\n"),
    (("--counts=3",), "jaxpref probe: Unknown command line flag 'counts'. Did you mean: count ?\n"),
    (("--count=x",), "jaxpref probe: flag --count=x: "),
    (("--count=-1",), "jaxpref probe: flag --count=-1: "),
    (
      ("--config=recipe.py:scal=tiny",),
      "jaxpref probe: the config argument has no key 'scal'. Did you mean 'scale'? "
      "It takes: scale=tiny.\n",
    ),
  ],
)
def test_what_the_user_got_wrong_is_one_sentence_and_exit_code_two(tmp_path, words, sentence):
  (tmp_path / "recipe.py").write_text(CONFIG)
  out = _probe(*words, folder=tmp_path)
  assert out.returncode == 2 and out.stderr.startswith(sentence)
  assert "Traceback" not in out.stderr


def test_other_exceptions_keep_their_traceback(tmp_path):
  out = _probe("break", folder=tmp_path)
  assert out.returncode == 1 and "Traceback" in out.stderr and "KeyError: 'broken'" in out.stderr


def test_a_mistake_in_a_recipe_keeps_its_traceback(tmp_path):
  (tmp_path / "recipe.py").write_text(CONFIG)
  out = _probe("--config=recipe.py:scale=large", folder=tmp_path)
  assert out.returncode == 1 and "KeyError: 'large'" in out.stderr and "recipe.py" in out.stderr


def test_help_shows_the_usage_and_the_commands_own_flags_only(tmp_path):
  out = _probe("--help", folder=tmp_path)
  assert out.returncode == 0 and out.stdout.startswith("`jaxpref probe WORD`.")
  assert (
    "--count" in out.stdout and "(default 1)" in out.stdout and "--logtostderr" not in out.stdout
  )


def test_an_override_of_a_key_that_a_recipe_does_not_have_is_refused_with_the_nearest(tmp_path):
  words = ("--config=configs/offline.py", "--config.objectives.main.betta=1.0")
  out = _jaxpref("train", *words, f"--workdir={tmp_path}/run")
  assert out.returncode == 2 and "Traceback" not in out.stderr, out.stderr
  assert "config.objectives.main has no 'betta'. Did you mean 'beta'?" in out.stderr
  assert not (tmp_path / "run").exists()
