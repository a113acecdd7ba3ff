"""Every key that a training run reads, with its default: what recipes start from.

A recipe in `configs/` is `get_config(arg)`: it takes `base()`, sets what differs and adds its
objectives, data and evaluations, each made from the signature of its function.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import pathlib

from ml_collections import config_dict

from jaxpref import (
  advantages,
  call,
  data,
  envs,
  folder,
  metrics,
  optim,
  rewards,
  rollout,
  rollout_correction,
  selectors,
)
from jaxpref import config as cfg
from jaxpref.models import presets
from jaxpref.models.transformer import Config
from jaxpref.types import Refused

FREE = ("objectives", "inner_objectives", "evals", "data.sets", "model", "rule", "warm", "judge")
FREE += ("rollout.env", "rewards", "advantages", "selectors", "trials")


def base() -> config_dict.ConfigDict:
  """A config with every key of a run; objectives, data sets and evaluations are still empty."""
  c = config_dict.ConfigDict()
  c.title = ""
  c.seed = 0
  c.steps = 100  # optimizer steps
  c.batch = 32  # situations in one optimizer step, over all devices and micro-batches
  c.microbatches = 1  # parts of a batch, one after another: less memory, the same numbers
  c.objectives = {}  # terms of the loss by name: cfg.term(objectives, "dpo")
  c.inner_objectives = {}  # terms of the inner step, for update rules that have one
  c.rule = {"fn": "gradient"}
  c.model = model("nano")
  c.init_from = ""  # folder of the run whose parameters this one starts from (and refers to)
  c.init_step = "last"  # last, best or a step
  c.teacher = dict(init_from="", init_step="last")  # the run whose model teaches, where one is read
  c.tokenizer = {"kind": "bpe", "vocab": 2048, "path": ""}  # bytes, bpe or file (tokenizer.json)
  c.data = dict(
    sets={},  # data sets by name: data_set("personas"), mixed by mix_weight
    template="plain",  # how turns become tokens
    max_length=64,  # tokens of prompt and response together
    truncate="error",  # error, prompt, response or drop
    on_error="error",  # bad lines of files: error, or skip, which counts and lists them
    buckets=(64,),  # lengths that batches are padded to; a compilation or two each
    group=0,  # rows of like length come together within so many batches; 0: not
  )
  c.optim = optim.section()
  c.mesh = dict(data=-1, fsdp=1, tensor=1, sequence=1)  # data=-1: all devices that are left
  c.rollout = rollout.section()  # responses that the policy samples; count=0: those of the data
  c.rewards = {}  # reward functions by name, added up: reward("countdown")
  c.advantages = {}  # estimators by name, added up: advantage("grpo")
  c.selectors = {}  # what of the rollouts counts: selector("dynamic_sampling")
  c.reference = dict(
    cache="",  # file in the workdir; empty: the reference model runs in each step
    sync=dict(every=0, rate=0.6),  # every so many steps it moves to the policy by rate; 0: never
  )
  c.evals = {}  # evaluations by name: evaluation("pair_accuracy", "personas", split="test")
  c.trials = {}  # responses to held-out prompts, rewarded: trial(data_set("countdown"))
  c.samples = dict(
    count=0,  # samples of each prompt, before and after; 0: none
    prompts=12,  # prompts, from the first evaluation's data
    max_new=32,
    temperature=1.0,
    top_k=0,
    top_p=1.0,
  )
  c.checkpoint = dict(every=100, metric="", mode="max")  # metric: which one decides the best
  c.log = dict(every=10, tensorboard=False, wandb="")  # wandb: project, empty for none
  c.warm = {}  # sections of an earlier stage whose end this run starts from
  c.judge = {}  # sections of an earlier stage that trains the reward model of the rollouts
  return c


def model(preset: str, *, kind: str = "language", **fields) -> dict:
  """The section of a model: every field of its `Config` can be set, None leaves it to the preset.

  Args:
    preset: a shape of `jaxpref.models.presets`.
    kind: in the room `models`.
    **fields: of `transformer.Config`, such as `depth`, `dtype`, `remat`.
  """
  presets.language(preset, vocab=1, **fields)  # refuses unknown names
  types = {"int": int, "float": float, "bool": bool, "str": str}
  section = {
    f.name: config_dict.placeholder(types[f.type])
    for f in dataclasses.fields(Config)
    if f.name != "vocab"  # the tokenizer's
  }
  return {"kind": kind, "preset": preset} | section | fields


def data_set(name: str, *, split="train", mix_weight=1.0, limit=0, shape="", **knobs) -> dict:
  """The section of a data set.

  Args:
    name: in the room `data`.
    split: which part of it.
    mix_weight: its share where several sets are mixed.
    limit: how many records at most; 0 takes all.
    shape: `best` keeps the preferred response alone, `single` makes two labelled records of a
      pair, `pairs` and `list` change lists; empty leaves records as they are.
    **knobs: of the data set.
  """
  section = cfg.defaults(data, name, **knobs)
  return section | {"split": split, "mix_weight": mix_weight, "limit": limit, "shape": shape}


def evaluation(metric: str, *, data: dict, every: int = 0, batch: int = 128, **knobs) -> dict:
  """The section of an evaluation: a metric on a data set, every so many steps and at both ends."""
  return {
    "metric": cfg.defaults(metrics, metric, **knobs),
    "data": data,
    "every": every,
    "batch": batch,
  }


def trial(data: dict, *, every: int = 0, temperature: float = 0.0) -> dict:
  """The section of a trial: one response to each prompt of a data set, rewarded.

  Every so many steps and at both ends; greedy at temperature 0.
  """
  return {"data": data, "every": every, "temperature": temperature}


def reward(name: str, *, weight: float = 1.0, **knobs) -> dict:
  """The section of a reward function: its knobs, and its weight in the sum."""
  return cfg.defaults(rewards, name, **knobs) | {"weight": weight}


def environment(name: str, **knobs) -> dict:
  """The section of an environment, `config.rollout.env`."""
  return cfg.defaults(envs, name, **knobs)


def advantage(name: str, *, weight: float = 1.0, **knobs) -> dict:
  """The section of an estimator: its knobs, and its weight in the sum."""
  return cfg.defaults(advantages, name, **knobs) | {"weight": weight}


def selector(name: str, **knobs) -> dict:
  """The section of a selector or of a rollout correction."""
  corrects = name in call.functions(rollout_correction)
  return cfg.defaults(rollout_correction if corrects else selectors, name, **knobs)


def check(config) -> None:
  """Refuses keys that no run reads and values that cannot be.

  Raises:
    Refused: names the key, the nearest one and those of its level.
  """
  _check_keys(base(), config, "")
  if not config.objectives:
    raise Refused("config.objectives is empty: a run needs at least one term.")
  if not config.data.sets:
    raise Refused("config.data.sets is empty: a run needs at least one data set.")
  for name in ("steps", "batch", "microbatches"):
    if config[name] < 1:
      raise Refused(f"config.{name}={config[name]} must be at least 1.")
  for name, value in (
    ("log.every", config.log.every),
    ("checkpoint.every", config.checkpoint.every),
  ):
    if value < 1:
      raise Refused(f"config.{name}={value} must be at least 1.")
  if config.rollout.count:
    _check_rollout(config)
  elif config.judge:
    raise Refused("config.judge scores rollouts, and there are none: set config.rollout.count.")
  if config.trials and not (config.rewards or config.rollout.env):
    raise Refused("config.trials needs config.rewards (or config.rollout.env) to score responses.")
  _check_sync(config)
  if config.checkpoint.mode not in ("max", "min"):
    raise Refused(f"config.checkpoint.mode={config.checkpoint.mode!r} must be 'max' or 'min'.")


def _check_rollout(config):
  rollout.check(config.rollout, bool(config.rewards or config.judge))
  steps = rollout.per_batch(config.rollout)
  for name, value in (("steps", config.steps), ("checkpoint.every", config.checkpoint.every)):
    if value % steps:
      raise Refused(
        f"config.{name}={value} must be a multiple of {steps} (rollout.epochs * "
        "rollout.minibatches): a run can stop only where new rollouts begin."
      )


def _check_sync(config):
  every, rate = config.reference.sync.every, config.reference.sync.rate
  if every < 0 or not 0 < rate <= 1:
    raise Refused(
      f"config.reference.sync needs every >= 0 (0: never) and rate above 0, at most 1; they are "
      f"{every} and {rate}."
    )
  if every and config.reference.cache:
    raise Refused("config.reference.cache is of a frozen reference; with reference.sync leave it.")


def _check_keys(expected, config, where):
  for key, value in config.items():
    path = f"{where}{key}"
    if key not in expected:
      raise Refused(
        f"config has no key {path!r}. {call.nearest(key, expected.keys())}"
        f"{where.rstrip('.') or 'It'} has: {', '.join(expected.keys())}."
      )
    if isinstance(value, config_dict.ConfigDict) and path not in FREE:
      _check_keys(expected[key], value, f"{path}.")


def warm(config):
  """The config of the earlier supervised stage: it trains on the preferred responses alone."""
  made = _stage(config, config.warm)
  with made.unlocked():
    for section in made.data.sets.values():
      section.shape = "best"
  return made


def judge(config):
  """The config of the earlier stage that trains a reward model, on the same data."""
  return _stage(config, config.judge)


def _stage(config, sections):
  """The config of an earlier stage: this one, with these sections in place."""
  made = config.copy_and_resolve_references()
  with made.unlocked():
    made.rollout.count = 0
    for key in ("warm", "judge", "rewards", "advantages", "selectors", "trials"):
      made[key] = {}
    made.reference.sync.every = 0
    made.init_from = ""
    made.checkpoint.metric = ""  # its end is what counts; and it may not have the metric
    for key, value in sections.items():
      made[key] = value
  return made


def load(text: str) -> config_dict.ConfigDict:
  """The config of `file.py` or `file.py:argument`, as the recipe makes it.

  Raises:
    Refused: no such file, or no `get_config` in it.
  """
  name, _, arg = text.partition(":")
  path = pathlib.Path(name)
  if path.suffix != ".py" or not path.is_file():
    there = [str(p) for p in sorted(pathlib.Path("configs").glob("*.py"))]
    raise Refused(
      f"there is no config file {name!r}. {call.nearest(name, there)}"
      f"configs/ has: {', '.join(there) or 'none (run from the project folder)'}."
    )
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise Refused(f"{name} has no get_config(arg); a recipe is a file with that function.")
  config = module.get_config(arg) if arg else module.get_config()
  return config.lock()


def unknown_key(argv) -> Refused | None:
  """The sentence for the first `--config.x.y=` of a command line that names no key, if any."""
  files = [a.partition("=")[2] for a in argv if a.startswith("--config=")]
  for dotted in [a[9:].partition("=")[0] for a in argv if a.startswith("--config.")]:
    node, where = load(files[-1]), "config"
    for key in dotted.split("."):
      if not isinstance(node, config_dict.ConfigDict) or key not in node:
        options = list(node.keys()) if isinstance(node, config_dict.ConfigDict) else []
        return Refused(
          f"{where} has no {key!r}. {call.nearest(key, options)}"
          f"It has: {', '.join(options) or 'no keys, it is a value'}."
        )
      node, where = node[key], f"{where}.{key}"
  return None


def stored(workdir) -> config_dict.ConfigDict:
  """The config of the run in a folder.

  Raises:
    Refused: nothing has run there.
  """
  return config_dict.ConfigDict(folder.about(workdir)["config"])
