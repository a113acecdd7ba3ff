"""What a run is: what `run.json` says, and the first lines on the console."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys

import jax
import numpy as np

import jaxpref
from jaxpref import config as cfg
from jaxpref import folder


def about(config, recipe_config) -> dict:
  """What `run.json` says: config, recipe, command, versions, devices."""
  names = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
  versions = {n: importlib.metadata.version(n) for n in names}
  device = jax.devices()[0]
  return {
    "title": config.title,
    "command": shlex.join(["jaxpref", "train", *sys.argv[1:]]),
    "config": cfg.plain(config),
    "recipe": cfg.plain(recipe_config or config),
    "versions": {"jaxpref": jaxpref.__version__, "python": platform.python_version()} | versions,
    "devices": f"{jax.device_count()} x {device.device_kind}, {jax.process_count()} process(es)",
  }


def announce(log, parts, abstract, first, workdir):
  """The first lines of a run: what it is, on what, from where."""
  known = folder.about(workdir)
  count = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(abstract.params))
  mesh = ", ".join(f"{k}={v}" for k, v in parts.mesh.shape.items())
  changes = cfg.diff(known["recipe"], known["config"])
  told = ", ".join(f"{k}={new!r} (recipe {old!r})" for k, old, new in changes) or "none"
  log.announce(f"changes to the recipe: {told}")
  rows = sum(len(r) for r in parts.corpus.sets.values())
  log.announce(
    f"{count:,} parameters, {rows:,} records, mesh {mesh}, {known['devices']}, folder {workdir}"
  )
  if first:
    log.announce(f"resuming at step {first} of {parts.config.steps}")
  folder.write_json(
    workdir / "run.json", known | {"parameters": count, "mesh": dict(parts.mesh.shape)}
  )
