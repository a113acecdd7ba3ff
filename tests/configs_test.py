"""Every recipe builds with every argument that makes sense, and a run can be assembled from it."""

import dataclasses
import importlib.util
import json
import pathlib

import jax
import pytest

from jaxpref import (
  assemble,
  call,
  catalogue,
  config,
  data,
  metrics,
  models,
  objectives,
  prepare,
  recipe,
  recipes_rl,
  rollout,
  vocabulary,
)
from jaxpref.models import presets
from jaxpref.types import Refused

ROOT = pathlib.Path(__file__).parent.parent
RECIPES = sorted(p.stem for p in (ROOT / "configs").glob("*.py"))
DATA = ("mask", "relevance", "weight", "strength", "label", "aspects", "baseline")


def _on(module):
  """Objectives that such a model and the data of a recipe can serve."""
  can = lambda name: vocabulary.plain(name) in (*module.MEASURES, *DATA)
  return [n for n, f in catalogue.functions("objectives").items() if all(map(can, call.needs(f)))]


ON_SCORES = _on(models.reward)
ON_TEXT = [n for n in _on(models.language) if n not in ON_SCORES]
ARGUMENTS = {
  "quickstart": [""],
  "offline": [f"objective={name}" for name in ON_TEXT] + ["scale=small", "path=mine.jsonl"],
  "reward": [f"objective={name}" for name in ON_SCORES] + ["scale=small", "path=mine.jsonl"],
  "sft": ["", "scale=small", "path=mine.jsonl"],
  "online": [f"objective={name}" for name in ("online_dpo", "online_ipo", "xpo", "nash_md")],
  "group_rl": [f"estimator={name}" for name in sorted(recipes_rl.RECIPES)]
  + ["task=gsm8k", "scale=small", "task=gsm8k,scale=paper"],
}
WITH_TEXT = [(name, arg) for name in RECIPES for arg in ARGUMENTS.get(name, [""])]
every_config = pytest.mark.parametrize(("name", "arg"), WITH_TEXT)


def _load(name, arg):
  return recipe.load(f"{ROOT}/configs/{name}.py" + (f":{arg}" if arg else ""))


def _stages(found):
  """The run and, where it has them, its warm start and its judge."""
  warm = [recipe.warm(found)] if found.warm else []
  return [found, *warm] + ([recipe.judge(found)] if found.judge else [])


def test_every_recipe_is_listed_with_its_arguments():
  assert sorted(ARGUMENTS) == RECIPES


@every_config
def test_it_builds_and_has_only_keys_that_a_run_reads(name, arg):
  for stage in _stages(_load(name, arg)):
    recipe.check(stage)
    assert json.loads(json.dumps(config.plain(stage))) == config.plain(stage)
  assert _load(name, arg).title


@every_config
def test_sections_hold_exactly_the_knobs_of_their_functions(name, arg):
  found = _load(name, arg)
  for stage in _stages(found):
    told = [(objectives, s) for s in stage.objectives.values()]
    told += [(metrics, e.metric) for e in stage.evals.values()]
    sets = [*stage.data.sets.values(), *(e.data for e in stage.evals.values())]
    for room, section in told + [(data, s) for s in sets]:
      fn = call.find(room, section.fn)
      own = set(section) - {"split", "limit", "shape", *config.RESERVED}
      assert own == set(call.knobs(fn)), section.fn


@pytest.mark.parametrize("fn", ON_TEXT)
def test_an_objective_starts_with_the_defaults_of_its_signature(fn):
  section = _load("offline", f"objective={fn}").objectives.main
  assert {k: section[k] for k in call.knobs(objectives.__dict__[fn])} == call.knobs(
    objectives.__dict__[fn]
  )


@every_config
def test_the_best_checkpoint_is_chosen_by_a_metric_that_an_evaluation_makes(name, arg):
  found = _load(name, arg)
  evaluation, _, metric = found.checkpoint.metric.partition("/")
  if not metric:
    return
  if evaluation in found.trials:
    assert f"`{metric}`" in rollout.trial.__doc__
    return
  section = found.evals[evaluation].metric
  doc = call.find(metrics, section.fn).__doc__
  assert metric.rpartition("/")[2] in doc, f"{section.fn} does not tell {metric}"


@every_config
def test_its_model_can_be_made_and_measures_what_its_objectives_read(name, arg):
  for stage in _stages(_load(name, arg)):
    module, model = assemble.model(stage, stage.tokenizer.vocab)
    shapes = jax.eval_shape(lambda m=module, c=model: m.init(jax.random.key(0), c))
    assert jax.tree.leaves(shapes)
    for term in assemble.terms(stage.objectives):
      for needed in call.needs(term.fn):
        base = vocabulary.plain(needed)
        if stage.rollout.count and needed in (*rollout.MADE, "advantage", "keep", "returns"):
          continue
        prepared = prepare.made([needed]) and base == needed  # baseline
        assert base in module.MEASURES or base in DATA or prepared


@pytest.mark.parametrize("name", RECIPES)
def test_every_field_of_the_model_can_be_set_and_unset_ones_are_the_presets(name):
  found = _load(name, "")
  preset = presets.language(found.model.preset, vocab=300)
  found.model.dtype, found.model.depth, found.model.rope_theta = "bfloat16", 3, 500.0
  _, model = assemble.model(found, 300)
  wanted = dataclasses.replace(preset, dtype="bfloat16", depth=3, rope_theta=500.0)
  assert model == wanted
  with pytest.raises(TypeError):
    found.model.depth = "deep"


@every_config
def test_batches_divide_over_the_devices_of_one_node(name, arg):
  found = _load(name, arg)
  assert found.batch % (8 * found.microbatches) == 0


@pytest.mark.parametrize("name", RECIPES)
def test_the_docstring_has_a_command_that_names_the_recipe(name):
  spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  assert f"jaxpref train --config=configs/{name}.py" in module.__doc__


@pytest.mark.parametrize("name", [n for n in RECIPES if n != "quickstart"])
def test_an_argument_that_it_does_not_take_is_refused(name):
  with pytest.raises(Refused, match="Did you mean 'scale'"):
    _load(name, "scal=tiny")
