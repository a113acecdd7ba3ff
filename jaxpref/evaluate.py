"""Metrics of a checkpoint on held-out data."""

from __future__ import annotations

import json

import jax
from absl import flags
from ml_collections import config_dict

from jaxpref import assemble, heldout, recipe
from jaxpref.types import Refused


def run(workdir, step: str = "last", evals=None) -> dict[str, float]:
  """Runs evaluations on one checkpoint of a run.

  Args:
    workdir: the run's folder.
    step: `last`, `best` or a number.
    evals: evaluations by name, sections as `recipe.evaluation` makes them; those of the run's own
      config if None.

  Returns:
    `{"<evaluation>/<metric>": mean over all records}`.

  Raises:
    Refused: no run there, no such checkpoint, a metric that reads what the run does not make.
  """
  config = recipe.stored(workdir)
  if evals is not None:
    config.evals = config_dict.ConfigDict(evals)
  if not config.evals:
    raise Refused(f"{workdir} has no evaluations: its config.evals is empty. Give --config.")
  found = {}
  with jax.set_mesh(assemble.mesh(config)):
    loaded = assemble.restore(config, workdir, step)
    for name, one in sorted(loaded.parts.evals.items()):
      means, _ = heldout.run(one, loaded.params, loaded.frozen, loaded.key, loaded.parts)
      found |= {f"{name}/{k}": v for k, v in means.items()}
  return {"step": loaded.step} | found


def define_flags() -> None:
  """The flags of the command; called once, by `jaxpref evaluate`."""
  flags.DEFINE_string("workdir", None, "folder of the run", required=True)
  flags.DEFINE_string("step", "last", "last, best or a step")
  flags.DEFINE_string("config", "", "recipe whose evals to run instead: configs/FILE.py:ARG")


def main(argv) -> None:
  """`jaxpref evaluate --workdir=runs/quickstart [--step=best]`: JSON on standard output."""
  if len(argv) > 1:
    raise Refused(f"evaluate takes flags only; it does not know {' '.join(argv[1:])!r}.")
  evals = recipe.load(flags.FLAGS.config).evals if flags.FLAGS.config else None
  print(json.dumps(run(flags.FLAGS.workdir, flags.FLAGS.step, evals), indent=1))
