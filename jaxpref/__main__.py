"""`jaxpref COMMAND ...`: hands over to `main` of the module of that name.

A command is a module of the package with a function `main(argv)`; flags of its own come from its
`define_flags()`, which is called here and nowhere else, so no flag is defined twice. `main` raises
`Refused` where the user's input cannot be used; that is printed as one sentence, with exit code 2.
"""

from __future__ import annotations

import ast
import errno
import importlib
import os
import pathlib
import sys

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
HELP = ("-h", "-help", "--help", "--helpshort", "--helpfull")


def commands() -> dict[str, str]:
  """Every command with the first line of its module's docstring; imports none of them."""
  found = {}
  for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
    if path.name.startswith("__"):
      continue
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
      found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
  return found


def main() -> None:
  """Entry point of the console script and of `python -m jaxpref`."""
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())  # so that fn='my_module:my_loss' is found, as with python -m
  name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
  if not name or name in HELP:
    print(_listing())
  elif name not in commands():
    from jaxpref import call

    there = ", ".join(commands())
    _refuse("", f"no command {name!r}. {call.nearest(name, commands())}There is: {there}.")
  else:
    _run(name, rest)


def _listing():
  lines = [f"  {name:12s}{summary}" for name, summary in commands().items()]
  return "\n".join(["usage: jaxpref COMMAND [--help] ...", "", *lines])


def _run(name, rest):
  """Imports the command, reads its flags and calls it."""
  from jaxpref import allocator

  allocator.keep_freed_memory()  # before jax starts
  from absl import app, flags, logging

  from jaxpref.types import Refused

  def quiet(argv):
    if not flags.FLAGS["verbosity"].present:
      logging.set_verbosity(logging.WARNING)  # app.run sets it to info: orbax tells every rename
    return module.main(argv)

  try:
    module = importlib.import_module(f"jaxpref.{name}")
    before = set(flags.FLAGS)
    getattr(module, "define_flags", lambda: None)()
    own = set(flags.FLAGS) - before
    if any(word in HELP for word in rest):
      print(_help(module, own))
      return
    sys.argv = [f"jaxpref {name}", *rest]  # where config_flags looks for --config.x.y
    app.run(quiet, argv=sys.argv, flags_parser=_parse)
  except Refused as error:
    _refuse(name, error)
  except OSError as error:
    if error.errno not in UNWRITABLE:
      raise
    _refuse(
      name,
      f"cannot use {error.filename or 'the disk'}: {error.strerror}. Free space or fix the "
      "permissions there, or give another folder, and run the same command again.",
    )


def _parse(argv):
  """The words that are no flags; a flag that cannot be read is the user's to mend."""
  from absl import flags

  from jaxpref.types import Refused

  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    # config_flags puts the whole traceback of a recipe's error into its message
    _, refused, sentence = str(error).rpartition(f"{Refused.__module__}.Refused: ")
    if "Traceback" in str(error) and not refused:
      raise  # a mistake in the recipe's own code: its author wants the traceback
    raise Refused(sentence if refused else str(error)) from error
  except AttributeError as error:  # --config.x.y=1 where the config has no x.y
    from jaxpref import recipe

    refusal = recipe.unknown_key(argv)
    if refusal is None:
      raise
    raise refusal from error


def _help(module, own):
  from absl import flags

  lines = [module.main.__doc__ or "", "", (module.__doc__ or "").strip(), ""]
  for flag in sorted(own):
    default = flags.FLAGS[flag].default
    shown = f" (default {default!r})" if default not in (None, "") else ""
    lines.append(f"  --{flag:12s} {flags.FLAGS[flag].help}{shown}")
  return "\n".join(lines).strip()


def _refuse(name, sentence):
  title, text = f"jaxpref {name}".strip(), str(sentence).strip()
  stop = "" if text.endswith((".", "?", "!")) else "."
  # what threads say about their end is not for the user
  user, sys.stderr = sys.stderr, open(os.devnull, "w")
  print(f"{title}: {text}{stop}", file=user, flush=True)
  sys.exit(2)


if __name__ == "__main__":
  main()
