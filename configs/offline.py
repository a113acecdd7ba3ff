"""Offline preference training: any objective or mix on pairs, lists or single responses.

  jaxpref train --config=configs/offline.py:objective=simpo,scale=tiny \
      --config.objectives.main.beta=2.0 --workdir=runs/simpo

A supervised warm start comes first (on the preferred responses), then the objective; the
reference, where one is read, is the end of the warm start. Argument: `objective` (see `jaxpref
catalogue objectives` and `jaxpref catalogue mixes`), `around` (a wrapper around the term `main`,
see `jaxpref catalogue wrappers`; its knobs are `--config.objectives.main.around.rate=0.2`),
`scale` (tiny: two CPU cores, about two minutes; small: one GPU), `path` (your own JSONL or parquet
files instead of the bundled personas, with `{split}` where their names say train and test).
"""

from jaxpref import config as cfg
from jaxpref import mixes, objectives, recipe


def get_config(arg=""):
  arg = cfg.parse_arg(arg, objective="dpo", around="", scale="tiny", path="")
  tiny = {"tiny": True, "small": False}[arg.scale]
  c = recipe.base()
  c.title = (
    f"{arg.objective}{arg.around and f' in {arg.around}'} on {arg.path or 'the bundled personas'}"
  )
  c.steps = 120 if tiny else 1000
  c.batch = 32 if tiny else 128
  c.model = recipe.model("nano" if tiny else "small")
  c.tokenizer.vocab = 2048 if tiny else 8192
  terms = mixes.terms(arg.objective, arg.around)
  c.objectives = terms
  c.optim.lr = 5e-4 if tiny else 5e-5
  single = mixes.single(terms)
  pairs = _pairs(arg.path)
  c.data.sets = dict(main=recipe.data_set(**pairs, split="train", shape="single" if single else ""))
  c.data.max_length, c.data.buckets = 96, (32, 48, 96)
  if arg.path:
    c.data.max_length, c.data.buckets = 512, (64, 128, 256, 512)
  c.evals = dict(
    heldout=recipe.evaluation(
      "pair_accuracy", data=recipe.data_set(**pairs, split="test"), every=c.steps // 2
    )
  )
  c.samples.count = 1
  c.checkpoint.metric = "heldout/rewards/accuracies"
  c.warm = dict(
    steps=120 if tiny else 1000,
    objectives=dict(main=cfg.term(objectives, "nll")),
    optim=c.optim.copy_and_resolve_references(),
    evals=dict(
      heldout=recipe.evaluation("ranking_accuracy", data=recipe.data_set(**pairs, split="test"))
    ),
  )
  c.warm.optim.lr = 3e-3 if tiny else 3e-4
  return c


def _pairs(path):
  return {"name": "files", "path": path} if path else {"name": "personas"}
