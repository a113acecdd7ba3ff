"""From a config to the parts of a run, all on the host: what can be refused is refused here.

`train`, `evaluate` and `generate` build on the same parts. Nothing here compiles.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any, NamedTuple

import jax

from jaxpref import call, folder, heldout, models, objectives, prepare, sharding, update
from jaxpref import config as cfg
from jaxpref.data import batches, chat, encode, tokenize
from jaxpref.types import Refused, TrainState


class Corpus(NamedTuple):
  """Tokenizer, template and encoded records: what a warm start and its main stage share."""

  tokenizer: Any
  template: Any
  sets: dict[str, list]  # encoded rows by data set
  evals: dict[str, list]  # encoded rows by evaluation
  digest: str  # of the encoded rows


class Parts(NamedTuple):
  """Everything of a run but its state."""

  config: Any
  corpus: Corpus
  mesh: Any
  module: Any
  model: Any  # the model's own frozen config
  measure: Any  # f(params, batch, want, key) -> arrays
  terms: tuple
  inner: tuple
  stream: Any
  evals: dict[str, heldout.Evaluation]
  names: frozenset[str]  # all that terms and evaluations read


def corpus(config, workdir) -> Corpus:
  """Reads and encodes all data of a config; the tokenizer is kept in the workdir.

  Raises:
    Refused: any bad record, a tokenizer that is not the folder's.
  """
  records = batches.read(config.data.sets)
  heldouts = {k: batches.read({k: e.data})[k] for k, e in config.evals.items()}
  template = chat.find(config.data.template)
  tokenizer = _tokenizer(config, workdir, records, template)
  rows = functools.partial(
    encode.encode_all,
    tokenizer=tokenizer,
    template=template,
    max_length=config.data.max_length,
    truncate=config.data.truncate,
  )
  sets = {k: rows(v) for k, v in records.items()}
  evals = {k: rows(v) for k, v in heldouts.items()}
  return Corpus(tokenizer, template, sets, evals, _digest(sets))


def _digest(sets) -> str:
  digest = hashlib.sha256()
  for name in sorted(sets):
    for row in sets[name]:
      for ids in row.ids:
        digest.update(ids.tobytes() + b"|")
  return digest.hexdigest()[:16]


def _tokenizer(config, workdir, records, template):
  path = folder.inside(workdir, "tokenizer.json")
  t = config.tokenizer
  kinds = ("bytes", "bpe", "file")
  if t.kind not in kinds:
    raise Refused(
      f"tokenizer.kind has no {t.kind!r}. {call.nearest(t.kind, kinds)}It has: {', '.join(kinds)}."
    )
  if path.exists():
    return tokenize.load(path)
  if t.kind == "file":
    made = tokenize.from_file(t.path)
  elif t.kind == "bytes":
    made = tokenize.byte_tokenizer(template.specials)
  else:
    texts = (text for name in sorted(records) for r in records[name] for text in encode.texts(r))
    made = tokenize.train_bpe(texts, t.vocab, template.specials)
  path.parent.mkdir(parents=True, exist_ok=True)
  tokenize.save(made, path)
  return made


def terms(section) -> tuple[update.Term, ...]:
  """The terms of a loss, in the order of their names.

  Raises:
    Refused: an unknown objective, knob or reduction.
  """
  out = []
  for name in sorted(section):
    s = section[name]
    fn = cfg.resolve(objectives, s)
    prepare.check(call.needs(fn), fn.__name__)
    weight, mode = s.get("term_weight", 1.0), s.get("reduce", "")
    out.append(update.Term(name, fn, weight, mode, s.get("reduce_constant", 0.0)))
  return tuple(out)


def model(config, vocab: int):
  """The model's module and its frozen config.

  Raises:
    Refused: an unknown kind, preset or field.
  """
  values = dict(config.model)
  module = models.find(values.pop("kind"))
  return module, models.presets.language(values.pop("preset"), vocab=vocab, **values)


def parts(config, shared: Corpus) -> Parts:
  """All parts of a run.

  Raises:
    Refused: objectives that read what the run does not make, a batch that does not divide, ...
  """
  mesh = sharding.make_mesh(**config.mesh)
  sharding.check_batch(config.batch, mesh, config.microbatches)
  module, model_config = model(config, shared.tokenizer.vocab)
  measure = lambda params, batch, want, key: module.measure(params, batch, model_config, want, key)
  main, inner = terms(config.objectives), terms(config.inner_objectives)
  names = frozenset(n for t in main + inner for n in call.needs(t.fn))
  stream = batches.make_stream(
    shared.sets,
    mix={k: s.mix_weight for k, s in config.data.sets.items()},
    seed=config.seed,
    batch=config.batch,
    buckets=tuple(config.data.buckets),
    pad=shared.tokenizer.pad,
    mismatch="baseline" in names,
  )
  _check_made(names, stream, module, "this run")
  evals = {
    k: heldout.make(k, e, shared.evals[k], measure, module.MEASURES, mesh)
    for k, e in config.evals.items()
  }
  read = names.union(*(call.needs(e.fn) for e in evals.values()))
  return Parts(
    config, shared, mesh, module, model_config, measure, main, inner, stream, evals, read
  )


def _check_made(names, stream, module, who):
  """Refuses names that neither data, model nor prepare make, before anything is compiled."""
  made = set(batches.batch_at(stream, 0)) | set(module.MEASURES) | prepare.made(names) | {"carry"}
  base = {n: n.removeprefix("ref_").removeprefix("old_") for n in names}
  for name in sorted(names):
    if name not in made or (base[name] != name and base[name] not in module.MEASURES):
      raise Refused(
        f"the objectives read {name}, which {who} does not make. It makes: "
        f"{', '.join(sorted(made - set(names) | set(module.MEASURES)))}."
      )


def initial(parts: Parts, tx, key):
  """A function that makes the first state, the state's shapes, and its shardings."""

  def init():
    params = parts.module.init(update.fold(key, "init"), parts.model)
    carry = update.init_carry(parts.terms)
    return TrainState(jax.numpy.int32(0), params, tx.init(params), key, carry)

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
  )
  return jax.jit(init, out_shardings=shardings), abstract, shardings
