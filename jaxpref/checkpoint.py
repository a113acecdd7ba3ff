"""Checkpoints: the only file that imports orbax.

A folder `checkpoints/` holds the last step and, where a metric is named, the best one. A save runs
in the background and is committed by a rename, so a kill at any moment leaves the previous one
whole; leftovers are removed when the folder is opened. A restore takes the shardings of the run
that restores: another mesh or number of devices is no matter.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import shutil
import sys
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpref import sharding
from jaxpref.types import Refused

_HOOKS: list = []  # what stood there before ours


class Keeper(NamedTuple):
  """An opened folder of checkpoints; `metric` and `mode` (max, min) decide which is best."""

  manager: Any
  folder: pathlib.Path
  metric: str
  mode: str


def _orbax():
  # imported late: it takes most of a second, and `import jaxpref` does not need it
  import orbax.checkpoint as ocp

  return ocp


def open_folder(workdir, *, metric: str = "", mode: str = "max", reading=False) -> Keeper:
  """Opens (makes) `workdir/checkpoints`, removing leftovers of interrupted saves.

  Args:
    workdir: the run's folder.
    metric: which metric decides the best checkpoint; empty keeps only the last.
    mode: `max` or `min`.
    reading: change nothing: what looks like a leftover may be a save of a run that is at work.

  Raises:
    Refused: the folder cannot be written.
  """
  ocp = _orbax()
  for logger in ("absl", "asyncio"):
    logging.getLogger(logger).addFilter(_worth_saying)
  if sys.unraisablehook is not _unless_loop_is_closed:
    _HOOKS.append(sys.unraisablehook)
    sys.unraisablehook = _unless_loop_is_closed
  folder = pathlib.Path(workdir).resolve() / "checkpoints"
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if jax.process_index() == 0 and not reading:
      for leftover in folder.glob("*.orbax-checkpoint-tmp*"):
        shutil.rmtree(leftover)
  except OSError as error:
    raise Refused(f"cannot write checkpoints to {folder}: {error.strerror}.") from error
  policies = ocp.checkpoint_managers
  keep, best = [policies.LatestN(1)], None
  if metric:
    best = lambda metrics: metrics[metric]
    # without a measured metric a checkpoint is no candidate for the best
    order = dict(reverse=mode == "min", keep_checkpoints_without_metrics=False)
    keep.append(policies.BestN(get_metric_fn=best, n=1, **order))
  options = ocp.CheckpointManagerOptions(
    preservation_policy=policies.preservation_policy.AnyPreservationPolicy(keep),
    best_fn=best,  # without it orbax does not store the metrics
    best_mode=mode,
  )
  handlers = {"state": ocp.StandardCheckpointHandler(), "extra": ocp.JsonCheckpointHandler()}
  manager = ocp.CheckpointManager(folder, options=options, item_handlers=handlers)
  return Keeper(manager, folder, metric, mode)


def _unless_loop_is_closed(unraisable):
  """Where one array of a checkpoint fails, orbax closes its event loop under the others.

  Their threads (of tensorstore, in C++) then tell `sys.unraisablehook` that it is closed.
  """
  if str(unraisable.exc_value) != "Event loop is closed":
    _HOOKS[-1](unraisable)


def _worth_saying(record) -> bool:
  """Not that a save between two evaluations has no metric, nor failures that orbax raises too."""
  text = record.getMessage()
  raised = record.exc_info and "orbax" in record.pathname
  return not (raised or "exception was never retrieved" in text or "tracked_metric" in text)


def save(keeper: Keeper, step: int, state, extra: dict, metrics: dict) -> None:
  """Starts a save of `state` and of a JSON-able `extra`; returns before it is written.

  A random key is saved as its data. A step that is already there is left as it is.

  Raises:
    Refused: the disk is full or the folder cannot be written (also for the save before this one).
  """
  ocp = _orbax()
  if step in keeper.manager.all_steps():
    return
  args = ocp.args.Composite(
    state=ocp.args.StandardSave(_raw(state)), extra=ocp.args.JsonSave(extra)
  )
  metrics = {keeper.metric: metrics[keeper.metric]} if keeper.metric in metrics else None
  with _told(keeper, step):
    keeper.manager.save(step, args=args, metrics=metrics)


def wait(keeper: Keeper) -> None:
  """Returns when everything that was saved is on disk.

  Raises:
    Refused: a save in the background failed.
  """
  with _told(keeper, "that was being written"):
    keeper.manager.wait_until_finished()


@contextlib.contextmanager
def _told(keeper, step):
  """Turns a failure to write into a sentence."""
  try:
    yield
  except Exception as error:
    text = str(error)
    full = any(word in text for word in ("No space left", "ENOSPC", "RESOURCE_EXHAUSTED"))
    if isinstance(error, Refused) or not (full or isinstance(error, OSError)):
      raise
    free = shutil.disk_usage(keeper.folder).free / 2**20
    remedy = f"the disk is full ({free:.1f} MiB free); free some space" if full else "see to it"
    raise Refused(
      f"could not save the checkpoint of step {step} to {keeper.folder}: {_short(error)}; "
      f"{remedy} and run the same command again: it resumes from the last whole checkpoint."
    ) from error


def _raw(tree):
  key = lambda x: jax.random.key_data(x) if _is_key(x) else x
  return jax.tree.map(key, tree)


def _is_key(x):
  return jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key)


def steps(keeper: Keeper) -> tuple[int, ...]:
  """Steps that are whole on disk, ascending."""
  return tuple(sorted(keeper.manager.all_steps()))


def pick(keeper: Keeper, which: str) -> int:
  """The step that `last`, `best` or a number stands for.

  Raises:
    Refused: there is none; lists what there is.
  """
  there = steps(keeper)
  if which == "last" and there:
    return there[-1]
  if which == "best" and keeper.metric:
    found = {s: (keeper.manager.metrics(s) or {}).get(keeper.metric) for s in there}
    found = {s: v if keeper.mode == "max" else -v for s, v in found.items() if v is not None}
    if found:
      return max(found, key=found.get)
  if which.isdigit() and int(which) in there:
    return int(which)
  raise Refused(
    f"{keeper.folder} has no checkpoint {which!r}; it has the steps {list(there)}. "
    "Use 'last', 'best' (where config.checkpoint.metric is set) or one of these."
  )


def restore(keeper: Keeper, step: int, abstract, shardings) -> tuple[Any, dict]:
  """State and extra of a step, placed as this run wants them.

  Args:
    keeper: an opened folder.
    step: one of `steps(keeper)`.
    abstract: pytree of ShapeDtypeStructs of the state.
    shardings: pytree of shardings of the same structure.

  Raises:
    Refused: the checkpoint is damaged, or holds other parameters than this run has.
  """
  ocp = _orbax()
  raw = jax.eval_shape(_raw, abstract)
  target = jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), raw, shardings
  )
  _compare(keeper, step, target)
  args = ocp.args.Composite(state=ocp.args.StandardRestore(target), extra=ocp.args.JsonRestore())
  try:
    found = keeper.manager.restore(step, args=args)
  except (ValueError, KeyError, OSError, TypeError) as error:
    raise Refused(_damaged(keeper, step, error)) from error
  wrap = lambda x, a: jax.random.wrap_key_data(x) if _is_key(a) else x
  return jax.tree.map(wrap, found["state"], abstract), found["extra"]


def _damaged(keeper, step, error):
  others = [s for s in steps(keeper) if s != step]
  resume = f"resume from step {others[-1]}" if others else "start afresh"
  return (
    f"the checkpoint {keeper.folder / str(step)} cannot be read ({_short(error)}): it is truncated "
    f"or was not written by jaxpref; remove that folder to {resume}."
  )


def _short(error):
  text = (str(error) or type(error).__name__).splitlines()[0]
  return text if len(text) <= 200 else text[:197] + "..."


def _stored(keeper, step):
  """Paths and shapes that a checkpoint holds."""
  try:
    tree = keeper.manager.item_metadata(step)["state"]
    tree = getattr(tree, "tree", tree)
  except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
    raise Refused(_damaged(keeper, step, error)) from error
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {sharding.path_name(p): tuple(m.shape) for p, m in leaves}


def _compare(keeper, step, target):
  there = _stored(keeper, step)
  leaves = jax.tree_util.tree_leaves_with_path(target)
  here = {sharding.path_name(p): tuple(m.shape) for p, m in leaves}
  if there == here:
    return
  wrong = sorted(k for k in here | there if here.get(k) != there.get(k))
  first = wrong[0]
  raise Refused(
    f"the checkpoint {keeper.folder / str(step)} does not fit this run: {first} is "
    f"{there.get(first, 'absent')} there and {here.get(first, 'absent')} here "
    f"({len(wrong)} of {len(here | there)} arrays differ). Use the config of the run that wrote it."
  )


def load_params(workdir, which: str, abstract, shardings, *, metric: str = "", mode: str = "max"):
  """Parameters alone, of another run, e.g. to start from it.

  Arrays that the checkpoint lacks (a new head) come back as None; the caller keeps its own.

  Args:
    workdir: the folder of the run that wrote them.
    which: `last`, `best` or a step.
    abstract: pytree of ShapeDtypeStructs of this run's parameters.
    shardings: where they go.
    metric: of that run, for `best`.
    mode: of that run, for `best`.

  Returns:
    (params, names of the arrays that were not there, step).

  Raises:
    Refused: no checkpoint, another shape, or nothing in common.
  """
  if not (pathlib.Path(workdir) / "checkpoints").is_dir():
    raise Refused(f"{workdir} holds no checkpoints; give the folder of a run of jaxpref train.")
  ocp = _orbax()
  keeper = open_folder(workdir, metric=metric, mode=mode, reading=True)
  step = pick(keeper, which)
  there = _stored(keeper, step)
  missing, target = [], {}
  for (path, leaf), where in zip(
    jax.tree_util.tree_leaves_with_path(abstract), jax.tree.leaves(shardings), strict=True
  ):
    name = sharding.path_name(path)
    shape = there.get(f"params/{name}")
    if shape is None:
      missing.append(name)
    elif shape != tuple(leaf.shape):
      raise Refused(
        f"{workdir} step {step}: {name} is {shape} there and {tuple(leaf.shape)} here; "
        "the model (or the tokenizer's vocabulary) is another one."
      )
    else:
      target[name] = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)
  if not target:
    raise Refused(f"{workdir} step {step} has no parameter in common with this model.")
  item = {"params": _nested(target)}
  restore = ocp.args.PyTreeRestore(
    item=item,
    restore_args=ocp.checkpoint_utils.construct_restore_args(item),
    partial_restore=True,
  )
  try:
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
      found = reader.restore(keeper.folder / str(step) / "state", args=restore)["params"]
  except (ValueError, KeyError, OSError, TypeError) as error:
    raise Refused(_damaged(keeper, step, error)) from error
  flat = {sharding.path_name(p): x for p, x in jax.tree_util.tree_leaves_with_path(found)}
  params = jax.tree_util.tree_map_with_path(
    lambda path, _: flat.get(sharding.path_name(path)), abstract
  )
  return params, missing, step


def _nested(flat):
  tree: dict = {}
  for name, leaf in flat.items():
    *folders, last = name.split("/")
    node = tree
    for folder in folders:
      node = node.setdefault(folder, {})
    node[last] = leaf
  return tree


def bytes_needed(abstract) -> int:
  """Bytes that one checkpoint of such a state takes, before compression."""
  sizes = [np.prod(x.shape, dtype=np.int64) * 4 for x in jax.tree.leaves(abstract)]
  return int(sum(sizes))


def check_writable(workdir) -> None:
  """Refuses a workdir that cannot be made or written.

  Raises:
    Refused: says why.
  """
  folder = pathlib.Path(workdir).resolve()
  try:
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".probe.{os.getpid()}"
    probe.write_text("x")
    probe.unlink()
  except OSError as error:
    raise Refused(
      f"the workdir {folder} cannot be written: {error.strerror}; give another --workdir."
    ) from error


def check_space(workdir, abstract) -> None:
  """Refuses a workdir that has no room for two checkpoints of such a state.

  Raises:
    Refused: before anything is compiled.
  """
  folder = pathlib.Path(workdir).resolve()
  need, free = 2 * bytes_needed(abstract), shutil.disk_usage(folder).free
  if need > free:
    raise Refused(
      f"the workdir {folder} has {free / 2**20:.1f} MiB free; two checkpoints of this run take "
      f"{need / 2**20:.1f} MiB. Free some space or give another --workdir."
    )
