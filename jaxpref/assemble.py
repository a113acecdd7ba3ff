"""From a config to the parts of a run, all on the host: what can be refused is refused here.

`train`, `evaluate` and `generate` build on the same parts. Nothing here compiles.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from typing import Any, NamedTuple

import jax

from jaxpref import (
  call,
  checkpoint,
  estimate,
  folder,
  heldout,
  metrics,
  models,
  objectives,
  prepare,
  recipe,
  reduce,
  rewards,
  rollout,
  scoring,
  sharding,
  teacher,
  update,
  vocabulary,
  wrappers,
)
from jaxpref import config as cfg
from jaxpref.data import batches, chat, encode, pairs, read, tokenize
from jaxpref.models import presets
from jaxpref.types import Refused, TrainState


class Corpus(NamedTuple):
  """Tokenizer, template and encoded records: what a warm start and its main stage share."""

  tokenizer: Any
  template: Any
  sets: dict[str, list]  # encoded rows by data set
  evals: dict[str, list]  # encoded rows by evaluation
  digest: str  # of the encoded rows


class Parts(NamedTuple):
  """Everything of a run but its state; `stream` is None where there are no training data."""

  config: Any
  corpus: Corpus
  mesh: Any
  module: Any
  model: Any  # the model's own frozen config
  measure: Any  # f(params, batch, want, key) -> arrays
  terms: tuple
  inner: tuple
  stream: Any
  passes: Any  # f(rows, batch) -> host batches, each row once
  evals: dict[str, heldout.Evaluation]
  names: frozenset[str]  # all that terms and evaluations read
  teacher: Any  # `teacher.Teacher`, where one is read
  rewards: tuple  # of rollouts, `scoring.Reward`
  judge: Any  # f(params, batch, key) -> f32[B, K], where there is a reward model
  plan: estimate.Plan  # advantages and selections of rollouts


def corpus(config, workdir, *, training: bool = True, tokenizer=None) -> Corpus:
  """Reads and encodes all data of a config; a tokenizer that is in the workdir is taken.

  Args:
    config: of the run.
    workdir: its folder.
    training: also the training sets, not only those of the evaluations.
    tokenizer: the one to use where the workdir has none.

  Raises:
    Refused: any bad record.
  """
  template = chat.template(config.data.template)
  policy = config.data.on_error
  records = _records(config.data.sets, policy) if training else {}
  asked = config.evals.items() + config.trials.items()
  heldouts = _records({k: e.data for k, e in asked}, policy)
  tokenizer = _tokenizer(config, workdir, records, template, tokenizer)

  def rows(found):
    data = config.data
    encoded, _ = encode.encode_all(
      found, tokenizer, template, max_length=data.max_length, truncate=data.truncate
    )
    return encoded

  sets = {k: rows(v) for k, v in records.items()}
  return Corpus(tokenizer, template, sets, {k: rows(v) for k, v in heldouts.items()}, _digest(sets))


def preferred(main: Corpus) -> Corpus:
  """The preferred responses of training data, without evaluations: what a warm start trains on."""
  first = lambda row: dataclasses.replace(
    row,
    ids=row.ids[:1],
    counted=row.counted[:1],
    relevance=None if row.relevance is None else row.relevance[:1],
  )
  good = lambda row: row.relevance is None or row.relevance[0] > 0
  sets = {k: [first(row) for row in rows if good(row)] for k, rows in main.sets.items()}
  return Corpus(main.tokenizer, main.template, sets, {}, _digest(sets))


SHAPES = {
  "": lambda records: records,
  "pairs": pairs.to_pairs,
  "single": pairs.to_single,
  "list": pairs.to_list,
  "best": pairs.to_best,
}


def _records(sections, on_error):
  """Records by set, in the shape that the section asks for.

  A policy other than `error` is that of all sets which have one.

  Raises:
    Refused: an unknown set, knob or shape, a bad record.
  """
  for name, section in sections.items():
    if section["shape"] not in SHAPES:
      raise Refused(
        f"data set {name}: shape has no {section['shape']!r}. "
        f"{call.nearest(section['shape'], SHAPES)}It has: {', '.join(map(repr, SHAPES))}."
      )
  plain = {k: {n: v for n, v in s.items() if n != "shape"} for k, s in sections.items()}
  if on_error != "error":
    plain = {k: s | ({"on_error": on_error} if "on_error" in s else {}) for k, s in plain.items()}
  return {k: SHAPES[sections[k]["shape"]](found) for k, found in read.read(plain).items()}


def _digest(sets) -> str:
  digest = hashlib.sha256()
  for name in sorted(sets):
    for row in sets[name]:
      for ids in row.ids:
        digest.update(ids.tobytes() + b"|")
  return digest.hexdigest()[:16]


def _tokenizer(config, workdir, records, template, given):
  """The tokenizer of the workdir, or the one given, or a new one."""
  path = folder.inside(workdir, "tokenizer.json")
  t = config.tokenizer
  kinds = ("bytes", "bpe", "file")
  if t.kind not in kinds:
    raise Refused(
      f"tokenizer.kind has no {t.kind!r}. {call.nearest(t.kind, kinds)}It has: {', '.join(kinds)}."
    )
  if path.exists():
    return tokenize.load(path)
  if given is not None:
    return given
  if t.kind == "file":
    return tokenize.from_file(t.path)
  if t.kind == "bytes":
    return tokenize.byte_tokenizer(template.specials)
  if config.init_from:  # its parameters know its ids
    return tokenize.load(pathlib.Path(config.init_from) / "tokenizer.json")
  texts = (text for name in sorted(records) for r in records[name] for text in _texts(r))
  return tokenize.train_bpe(texts, t.vocab, template.specials)


def _texts(record):
  return [turn["content"] for turn in chat.turns(record.prompt)] + list(record.responses)


def terms(section) -> tuple[update.Term, ...]:
  """The terms of a loss, in the order of their names.

  Raises:
    Refused: an unknown objective, knob or reduction.
  """
  out = []
  for name in sorted(section):
    s = section[name]
    fn = cfg.resolve(objectives, s, wrappers)
    prepare.check(call.needs(fn), fn.__name__)
    weight, mode = s.get("term_weight", 1.0), s.get("reduce", "")
    if mode and mode not in reduce.MODES:
      raise Refused(
        f"objectives.{name}.reduce has no {mode!r}. {call.nearest(mode, reduce.MODES)}"
        f"It has: {', '.join(reduce.MODES)}."
      )
    out.append(update.Term(name, fn, weight, mode, s.get("reduce_constant", 0.0)))
  return tuple(out)


def model(config, vocab: int):
  """The model's module and its frozen config.

  Raises:
    Refused: an unknown kind, preset or field.
  """
  values = {k: v for k, v in dict(config.model).items() if v is not None}
  module = models.find(values.pop("kind"))
  return module, presets.language(values.pop("preset"), vocab=vocab, **values)


def mesh(config):
  """The mesh of a config.

  Raises:
    Refused: sizes that the devices do not have.
  """
  return sharding.make_mesh(**config.mesh)


def parts(config, shared: Corpus) -> Parts:
  """All parts of a run.

  Raises:
    Refused: objectives that read what the run does not make, a batch that does not divide, ...
  """
  devices = mesh(config)
  sharding.check_batch(config.batch, devices, config.microbatches)
  module, model_config = model(config, shared.tokenizer.vocab)
  measure = lambda params, batch, want, key: module.measure(params, batch, model_config, want, key)
  main, inner = terms(config.objectives), terms(config.inner_objectives)
  names = frozenset(n for t in main + inner for n in call.needs(t.fn))
  plan = estimate.plan(config)
  _check_read(config, plan, names)
  shape = {"buckets": tuple(config.data.buckets), "pad": shared.tokenizer.pad}
  passes = lambda rows, batch: batches.passes(rows, batch=batch, **shape)
  stream = None
  if shared.sets:
    stream = batches.make_stream(
      shared.sets,
      mix=read.shares(config.data.sets),
      seed=config.seed,
      batch=config.batch * (config.rollout.minibatches if config.rollout.count else 1),
      mismatch="baseline" in names,
      group=config.data.group,
      **shape,
    )
    own = rollout.made(config.rollout) if config.rollout.count else batches.batch_at(stream, 0)
    before = (names | estimate.reads(plan)) - estimate.made(plan)
    _check_made(before, set(own), module)
  told = {n for e in config.evals.values() for n in call.needs(cfg.resolve(metrics, e["metric"]))}
  guide = None
  if prepare.reads_teacher(told | (names if stream else set())):
    guide = teacher.find(config.get("teacher"), shared.tokenizer, module, model)
  evals = {
    k: heldout.make(
      k, e, shared.evals[k], measure, module.MEASURES, devices, guide and guide.measure
    )
    for k, e in config.evals.items()
  }
  return Parts(
    config,
    shared,
    devices,
    module,
    model_config,
    measure,
    main,
    inner,
    stream,
    passes,
    evals,
    names | told | estimate.reads(plan),
    guide,
    reward_terms(config.rewards),
    _judge(config, shared) if config.judge else None,
    plan,
  )


def reward_terms(section) -> tuple[scoring.Reward, ...]:
  """The rewards of a config, in the order of their names.

  Raises:
    Refused: an unknown function or knob.
  """
  out = []
  for name in sorted(section):
    fn = cfg.resolve(rewards, {k: v for k, v in section[name].items() if k != "weight"})
    if call.needs(fn) != ("record", "response"):
      raise Refused(
        f"config.rewards.{name}: {section[name]['fn']} reads {', '.join(call.needs(fn))}; a reward "
        "of responses is f(record, response, *, knobs)."
      )
    out.append(scoring.Reward(name, fn, section[name]["weight"]))
  return tuple(out)


def _judge(config, shared):
  module, model_config = model(recipe.judge(config), shared.tokenizer.vocab)

  @jax.jit
  def score(params, batch, key):
    return module.measure(params, batch, model_config, frozenset({"score"}), key)["score"]

  return score


def taught(parts: Parts):
  """`measure` of the teacher, or None."""
  return parts.teacher and parts.teacher.measure


def check_source(parts: Parts) -> None:
  """Refuses an `init_from` whose tokenizer is another one.

  Raises:
    Refused: with both; or no run there.
  """
  source = parts.config.init_from
  if source and not parts.config.warm:
    stored = folder.about(source).get("tokenizer")
    if stored:
      tokenize.check_same(parts.corpus.tokenizer, stored, source)


def _check_read(config, plan, names):
  """Refuses what would be made of rollouts and then read by no term."""
  if estimate.made(plan) and "advantage" not in names:
    raise Refused(
      "config.advantages or config.selectors is set, but no term of config.objectives reads "
      "advantage: take a policy objective, or leave them out."
    )
  if config.rollout.count and plan.beta and not plan.advantages:
    raise Refused("config.rollout.kl_in_reward is set, but config.advantages is empty.")
  if config.rollout.count and jax.process_count() > 1:
    raise Refused("rollouts run in one process only; this run has several.")


def _check_made(names, own, module):
  """Refuses names that neither source, model nor prepare make, before anything is compiled."""
  made = own | set(module.MEASURES) | prepare.made(names) | {"carry"}
  base = {n: vocabulary.plain(n) for n in names}
  for name in sorted(names):
    if name not in made or (base[name] != name and base[name] not in module.MEASURES):
      raise Refused(
        f"the objectives read {name}, which this run does not make. It makes: "
        f"{', '.join(sorted(made - set(names) | set(module.MEASURES)))}."
      )


def initial(parts: Parts, tx, key):
  """A function that makes the first state, the state's shapes, and its shardings."""

  def init():
    params = parts.module.init(update.fold(key, "init"), parts.model)
    carry = update.init_carry(parts.terms)
    return TrainState(
      jax.numpy.int32(0), params, tx.init(params), key, carry, moving(parts, params)
    )

  abstract = jax.eval_shape(init)
  rules = parts.module.rules(parts.model)
  params = sharding.params_shardings(abstract.params, rules, parts.mesh)
  whole = sharding.whole(parts.mesh)
  shardings = TrainState(
    whole,
    params,
    sharding.like_params(abstract.opt_state, abstract.params, params, parts.mesh),
    whole,
    jax.tree.map(lambda _: whole, abstract.carry),
    {name: params for name in abstract.reference},
  )
  return jax.jit(init, out_shardings=shardings), abstract, shardings


class Restored(NamedTuple):
  """A checkpoint of a run with all that is needed to use it."""

  parts: Parts
  params: Any
  frozen: dict
  key: Any
  step: int


def restore(config, workdir, which="last") -> Restored:
  """Parameters of a checkpoint, with the parts of its run.

  Args:
    config: of the run, as stored in its folder.
    workdir: its folder.
    which: `last`, `best` or a step.

  Raises:
    Refused: no such checkpoint.
  """
  workdir = pathlib.Path(workdir)
  made = parts(config, corpus(config, workdir, training=False))
  key = jax.random.key(config.seed)
  shapes = jax.eval_shape(lambda: made.module.init(key, made.model))
  shardings = sharding.params_shardings(shapes, made.module.rules(made.model), made.mesh)
  metric = {"metric": config.checkpoint.metric, "mode": config.checkpoint.mode}
  params, missing, step = checkpoint.load_params(workdir, which, shapes, shardings, **metric)
  if missing:
    raise Refused(f"the checkpoint of {workdir} lacks {', '.join(missing)}.")
  first = jax.jit(
    lambda: made.module.init(update.fold(key, "init"), made.model), out_shardings=shardings
  )
  reference = {}
  if prepare.reads_reference(made.names):
    reference = {"ref": start(made, workdir, first(), shardings)}
  if made.teacher:
    reference["teacher"] = teacher.load(made.teacher, made.mesh)
  return Restored(made, params, reference, key, step)


def start(parts: Parts, workdir, params, shardings):
  """The parameters that a run starts from: those given, or of `init_from` or its warm start.

  What the other run lacks (a new head) keeps the values given; that is said.

  Raises:
    Refused: no checkpoint there, or of another model.
  """
  config = parts.config
  source = pathlib.Path(workdir) / "warm" if config.warm else config.init_from
  if not source:
    return params
  about = folder.about(source)["config"]["checkpoint"]
  loaded, missing, _ = checkpoint.load_params(
    source,
    "last" if config.warm else config.init_step,
    params,
    shardings,
    metric=about["metric"],
    mode=about["mode"],
  )
  if missing:
    print(f"{source} has no {', '.join(missing)}: these start afresh.", flush=True)
  keep = lambda new, old: old if new is None else new
  return jax.tree.map(keep, loaded, params, is_leaf=lambda x: x is None)


def frozen(parts: Parts, params, workdir) -> dict:
  """Parameters that do not change, by who reads them.

  `ref`: a copy of `params`, where anything in the run reads a reference; `teacher`, where one is
  read; `judge`: the reward model of the rollouts, from `workdir/judge`.
  """
  out = {}
  opponent = parts.config.rollout.count and parts.config.rollout.opponent != "policy"
  if prepare.reads_reference(parts.names) or opponent:
    out["ref"] = jax.tree.map(jax.numpy.copy, params)
  if parts.judge is not None and parts.stream is not None:
    out["judge"] = _judge_params(parts, pathlib.Path(workdir) / "judge")
  if parts.teacher:
    out["teacher"] = teacher.load(parts.teacher, parts.mesh)
  return out


def moving(parts: Parts, params) -> dict:
  """`ref`, a copy of params, where `config.reference.sync` moves it."""
  if not parts.config.reference.sync.every or not prepare.reads_reference(parts.names):
    return {}
  return {"ref": jax.tree.map(jax.numpy.copy, params)}


def _judge_params(parts, source):
  config = recipe.judge(parts.config)
  module, model_config = model(config, parts.corpus.tokenizer.vocab)
  shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), model_config))
  shardings = sharding.params_shardings(shapes, module.rules(model_config), parts.mesh)
  params, missing, _ = checkpoint.load_params(source, "last", shapes, shardings)
  if missing:
    raise Refused(f"the checkpoint of {source} lacks {', '.join(missing)}.")
  return params
