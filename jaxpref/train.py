"""The training loop: one file, read from top to bottom.

A run is a config in a folder. Run the same command again and it resumes; when it is finished it
only prints its metrics. Order of a step: batch (data) -> prepare (no gradient) -> update ->
metrics; every so many steps it logs, evaluates, saves.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib
import signal
from types import SimpleNamespace

import jax
import numpy as np
from absl import flags
from ml_collections import config_flags

from jaxpref import (
  about,
  assemble,
  call,
  checkpoint,
  estimate,
  folder,
  heldout,
  optim,
  page,
  prepare,
  recipe,
  reference,
  rollout,
  samples,
  sharding,
  source,
  speed,
  update,
  writer,
)
from jaxpref import config as cfg
from jaxpref.data import tokenize
from jaxpref.types import Refused


def run(config, workdir, *, recipe_config=None, proceed=False, corpus=None) -> dict[str, float]:
  """Trains a config in a folder, from wherever that folder stands.

  Args:
    config: a config with the keys of `jaxpref.recipe.base`.
    workdir: the run's folder; made if absent.
    recipe_config: the recipe before command-line overrides, for the record.
    proceed: continue a folder whose config was another one.
    corpus: encoded data, where the caller has them already.

  Returns:
    The final metrics: the last value of each in `metrics.jsonl`.

  Raises:
    Refused: anything that the user has to put right, with a sentence.
    SystemExit: after SIGTERM, when the state is saved; code 0.
  """
  recipe.check(config)
  workdir = pathlib.Path(workdir)
  checkpoint.check_writable(workdir)
  said = about.about(config, recipe_config)
  folder.check(workdir, said, proceed=proceed)
  done = folder.finished(workdir, config.steps)
  if done is not None:
    print(f"{workdir} is finished.", flush=True)
    if not (workdir / "page.html").exists():  # killed between the two
      page.write(workdir)
    return done
  corpus = corpus or assemble.corpus(config, workdir)
  parts = assemble.parts(config, corpus)
  assemble.check_source(parts)
  _check(parts, workdir)
  said |= {"tokenizer": corpus.tokenizer.fingerprint, "data": corpus.digest}
  folder.claim(workdir, said, proceed=proceed)
  if not (workdir / "tokenizer.json").exists():
    tokenize.save(corpus.tokenizer, workdir / "tokenizer.json")
  if config.warm:
    stage = recipe.warm(config)
    if stage.evals or "data" in config.warm:
      shared = assemble.corpus(stage, workdir / "warm", tokenizer=corpus.tokenizer)
    else:
      shared = assemble.preferred(corpus)
    run(stage, workdir / "warm", proceed=proceed, corpus=shared)
  if config.judge:
    stage = recipe.judge(config)
    shared = assemble.corpus(stage, workdir / "judge", tokenizer=corpus.tokenizer)
    run(stage, workdir / "judge", proceed=proceed, corpus=shared)
  with jax.set_mesh(parts.mesh), _sigterm() as stop:
    return _train(parts, workdir, stop)


def _check(parts, workdir) -> None:
  """Builds what is built from the config alone, so that it is refused before anything is written.

  Raises:
    Refused: optimizer, update rule, a mesh that the parameters do not divide, too small a disk.
  """
  config = parts.config
  shapes = jax.eval_shape(lambda: parts.module.init(jax.random.key(0), parts.model))
  tx = optim.make(config.optim, config.steps, shapes)
  sharding.params_shardings(shapes, parts.module.rules(parts.model), parts.mesh)
  _step(parts, tx, None)
  checkpoint.check_space(workdir, (shapes, jax.eval_shape(tx.init, shapes)))


def _train(parts, workdir, stop) -> dict[str, float]:
  """Everything that compiles: state, frozen parameters, the loop, the end."""
  config = parts.config
  key = jax.random.key(config.seed)
  shapes = jax.eval_shape(lambda: parts.module.init(key, parts.model))
  tx = optim.make(config.optim, config.steps, shapes)
  init, abstract, shardings = assemble.initial(parts, tx, key)
  state = init()
  state = state.replace(params=assemble.start(parts, workdir, state.params, shardings.params))
  frozen = assemble.frozen(parts, state.params, workdir)
  # a reference that moves is in the state; evaluations keep the first one
  state = state.replace(reference=assemble.moving(parts, state.params))
  keeper = checkpoint.open_folder(
    workdir, metric=config.checkpoint.metric, mode=config.checkpoint.mode
  )
  extra = {"told": [], "latest": {}}
  if checkpoint.steps(keeper):
    last = checkpoint.pick(keeper, "last")
    state, extra = checkpoint.restore(keeper, last, abstract, shardings)
  first = int(state.step)
  log = writer.open_writer(
    workdir,
    start_step=first,
    total_steps=config.steps,
    backends=[name for name in ("tensorboard", "wandb") if config.log[name]],
    primary=jax.process_index() == 0,
  )
  about.announce(log, parts, abstract, first, workdir)
  cached = reference.for_run(parts, workdir, frozen, key)
  ready, step = _step(parts, tx, shardings)
  rate = optim.schedule(config.optim, config.steps)
  job = SimpleNamespace(
    parts=parts, rate=rate, frozen=frozen, key=key, log=log, keeper=keeper, stop=stop
  )
  job.take = source.make(parts, frozen, cached, key, ready, first)
  try:
    state, each = _loop(job, state, extra, step)
    checkpoint.wait(keeper)
    log.wrong(samples.wrong_pairs(parts, each or _look(job, state, config.steps, {}, write=False)))
  finally:
    with contextlib.closing(log):
      checkpoint.wait(keeper)  # also after an error: a save under way is a good one
  final = folder.finish(workdir, config.steps)
  print(f"page: {page.write(workdir)}", flush=True)
  return final


def _step(parts, tx, shardings):
  """The two compiled stages of a step: prepare and update."""
  config = parts.config
  names = [n for t in parts.terms + parts.inner for n in call.needs(t.fn)]
  want = frozenset(names) & frozenset(parts.module.MEASURES)
  made = {
    "tx": tx,
    "grad_fn": update.make_grad_fn(parts.terms, parts.measure, want, config.microbatches),
  }
  if parts.inner:
    made["inner_grad_fn"] = update.make_grad_fn(
      parts.inner, parts.measure, want, config.microbatches
    )
  rule = update.make(cfg.resolve(update, config.rule), made, parts.terms, config.reference.sync)
  before = [*names, *estimate.reads(parts.plan)]
  if config.rollout.count:  # how far trainer and sampler are apart is always told
    before.append("old_token_logp")
  finish = functools.partial(estimate.apply, parts.plan)
  ready = jax.jit(prepare.make(parts.measure, before, assemble.taught(parts), finish))
  return ready, jax.jit(rule, donate_argnums=0, out_shardings=(shardings, None))


def _loop(job, state, extra, step):
  """Steps until the end, or until SIGTERM.

  `told` are the metrics of steps since the last log line that are on the host, `fresh` those still
  on the device; a checkpoint holds `told`, so that a resumed run writes the same lines.
  """
  config, log = job.parts.config, job.log
  told, fresh, latest, each = extra["told"], [], extra["latest"], {}
  now = int(state.step)
  clock = speed.start(now)
  if now == 0:
    each = _look(job, state, now, latest)
  every = rollout.per_batch(config.rollout) if config.rollout.count else 1
  while now < config.steps:
    batch, host, made = job.take(state, now)
    state, metrics = step(state, batch)
    metrics |= made
    now += 1
    last = now == config.steps
    fresh.append((now, metrics, host["index"]))
    speed.count(clock, host)
    log.progress(now)
    if now % config.log.every == 0 or last:
      told, fresh = told + _fetch(job, fresh), []
      log.write(now, _mean(told) | {"lr": _f32(job.rate(now - 1))})
      log.speed(now, speed.read(clock, now))
      told = []
    with speed.paused(clock):
      asked = [*job.parts.evals.values(), *config.trials.values()]
      due = last or any(e.every and now % e.every == 0 for e in asked)
      each = _look(job, state, now, latest) if due else {}
      stop = job.stop and now % every == 0  # a run goes on where new rollouts begin
      if now % config.checkpoint.every == 0 or last or stop:
        told, fresh = told + _fetch(job, fresh), []
        log.flush()
        own = {k: v for k, v in latest.items() if k.partition("/")[0] in each}
        checkpoint.save(job.keeper, now, state, {"told": told, "latest": latest}, own)
    if stop and not last:
      checkpoint.wait(job.keeper)
      log.announce(f"SIGTERM: saved at step {now}. Run the same command again to go on.")
      raise SystemExit(0)
  return state, each


def _fetch(job, fresh) -> list[dict[str, float]]:
  """Metrics of steps as floats on the host.

  Raises:
    Refused: a loss or gradient was not finite; names the step and the examples.
  """
  out = []
  for (now, _, index), metrics in zip(fresh, jax.device_get([m for _, m, _ in fresh]), strict=True):
    bad = metrics.pop("nonfinite")
    out.append({k: _f32(v) for k, v in metrics.items()})
    if bad.any() or not np.isfinite([metrics["loss"], metrics["grad_norm"]]).all():
      raise Refused(_not_finite(job, now, metrics, index[: len(bad)][bad[: len(index)]]))
  return out


def _not_finite(job, now, metrics, index):
  where = [job.parts.stream.rows[i].source for i in index[:5]]
  rows = f"; the examples: {', '.join(where)}" if where else "; no single example made it so"
  checkpoint.wait(job.keeper)
  kept = checkpoint.steps(job.keeper)
  back = f"the checkpoint of step {kept[-1]} is kept" if kept else "there is no checkpoint yet"
  return (
    f"step {now}: loss {metrics['loss']}, gradient norm {metrics['grad_norm']} is not finite"
    f"{rows}; {back}. Lower config.optim.lr or config.optim.clip, or look at these examples."
  )


def _f32(x) -> float:
  return float(np.float32(x))


def _mean(steps) -> dict[str, float]:
  names = dict.fromkeys(k for s in steps for k in s)  # rollouts are told where they were made
  return {k: _f32(np.mean([s[k] for s in steps if k in s], dtype=np.float64)) for k in names}


def _look(job, state, now, latest, write=True) -> dict:
  """Runs the evaluations that are due and, at both ends, the samples; `latest` learns of them.

  Returns:
    `{evaluation: {metric: value of each record}}`.
  """
  config, parts, ends = job.parts.config, job.parts, now in (0, job.parts.config.steps)
  found, each = {}, {}
  for name, evaluation in sorted(parts.evals.items()):
    if ends or (evaluation.every and now % evaluation.every == 0):
      found[name], each[name] = heldout.run(evaluation, state.params, job.frozen, job.key, parts)
  for name, section in sorted(config.trials.items()):
    if ends or (section.every and now % section.every == 0):
      rows, key = parts.corpus.evals[name], update.fold(job.key, "trial", now)
      found[name] = rollout.trial(parts, state.params, section, rows, key)
      each[name] = {}
  if not write:
    return each
  if ends and config.samples.count:
    said, found["samples"] = samples.report(
      parts, state.params, job.frozen, config.samples, job.key, now
    )
    for one in said:
      job.log.sample(**one)
  for name, metrics in found.items():
    job.log.write(now, metrics, evaluation=name)
    latest |= {f"{name}/{k}": v for k, v in metrics.items()}
  return each


@contextlib.contextmanager
def _sigterm():
  """A list that is no longer empty once SIGTERM has come."""
  stop: list[int] = []
  before = signal.signal(signal.SIGTERM, lambda number, _: stop.append(number))
  try:
    yield stop
  finally:
    signal.signal(signal.SIGTERM, before)


def define_flags() -> None:
  """The flags of the command; called once, by `jaxpref train`."""
  config_flags.DEFINE_config_file("config", None, "recipe: configs/FILE.py or configs/FILE.py:ARG")
  flags.DEFINE_string("workdir", None, "folder of the run; run again to resume", required=True)
  flags.DEFINE_bool("proceed", False, "continue a folder whose config was another one")


def main(argv) -> None:
  """`jaxpref train --config=configs/quickstart.py --workdir=runs/quickstart`."""
  if len(argv) > 1:
    raise Refused(f"train takes flags only; it does not know {' '.join(argv[1:])!r}.")
  if not flags.FLAGS["config"].config_filename:
    raise Refused("train needs --config=configs/FILE.py.")
  recipe_config = recipe.load(flags.FLAGS["config"].config_filename)
  final = run(
    flags.FLAGS.config,
    flags.FLAGS.workdir,
    recipe_config=recipe_config,
    proceed=flags.FLAGS.proceed,
  )
  width = max(map(len, final))
  for name, value in sorted(final.items()):
    print(f"{name:{width}s} {value:.4g}")
