"""The teacher of a distillation: another run's model, frozen, of its own size."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from ml_collections import config_dict

from jaxpref import checkpoint, folder, sharding
from jaxpref.data import tokenize
from jaxpref.types import Refused


class Teacher(NamedTuple):
  """Where a teacher is and what it can measure; `load` reads its parameters."""

  source: pathlib.Path
  which: str  # last, best or a step
  module: Any
  model: Any  # its own frozen config
  measure: Callable  # f(params, batch, want, key) -> arrays


def find(section, tokenizer, module, make_model) -> Teacher | None:
  """The teacher that a config names, from what its folder tells; reads no parameters.

  Args:
    section: `init_from`, the folder of its run, and `init_step`.
    tokenizer: of this run.
    module: kind of this run's model; the teacher is of the same.
    make_model: `f(config, vocab) -> (module, frozen config)`.

  Returns:
    None where no folder is named.

  Raises:
    Refused: no run there, another tokenizer, or a model of another kind.
  """
  if not section or not section["init_from"]:
    return None
  source = pathlib.Path(section["init_from"])
  about = folder.about(source)
  if about.get("tokenizer"):
    tokenize.check_same(tokenizer, about["tokenizer"], str(source))
  own, model = make_model(config_dict.ConfigDict(about["config"]), tokenizer.vocab)
  if own is not module:
    kind = about["config"]["model"]["kind"]
    raise Refused(
      f"the teacher {source} is a {kind} model, this run's is another kind; give a teacher of the "
      "same kind, which may have another size."
    )
  measure = lambda params, batch, want, key: own.measure(params, batch, model, want, key)
  return Teacher(source, section["init_step"], own, model, measure)


def load(teacher: Teacher, mesh) -> Any:
  """The teacher's parameters, placed on the mesh.

  Raises:
    Refused: no such checkpoint, or it lacks parameters.
  """
  shapes = jax.eval_shape(lambda: teacher.module.init(jax.random.key(0), teacher.model))
  shardings = sharding.params_shardings(shapes, teacher.module.rules(teacher.model), mesh)
  told = folder.about(teacher.source)["config"]["checkpoint"]
  params, missing, _ = checkpoint.load_params(
    teacher.source, teacher.which, shapes, shardings, metric=told["metric"], mode=told["mode"]
  )
  if missing:
    raise Refused(f"the teacher {teacher.source} lacks {', '.join(missing)}.")
  return params
