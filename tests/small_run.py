"""A run of a second or two, with all that a run can have: the recipe of the tests of the loop.

  jaxpref train --config=tests/small_run.py --workdir=/tmp/run

Arguments: `objective` (or a mix), `around` (a wrapper), `warm` (a supervised stage first), `path`
(a file of one's own), `evals` (and samples; without them it compiles only half).
"""

from jaxpref import config as cfg
from jaxpref import mixes, objectives, recipe

SCORES = {"score", "score_parts", "token_score", "embedding"}
MODEL = dict(width=32, depth=1, heads=2, kv_heads=1, head_width=16, hidden=64)


def get_config(arg=""):
  arg = cfg.parse_arg(arg, objective="dpo", around="", warm=False, path="", evals=True)
  terms = mixes.terms(arg.objective, arg.around)
  needs = mixes.reads(terms)
  c = recipe.base()
  c.title = f"small run: {arg.objective}"
  c.steps, c.batch = 8, 8
  c.objectives = terms
  c.model = dict(kind="reward" if SCORES & set(needs) else "language", preset="nano", **MODEL)
  c.tokenizer.vocab = 320
  c.optim.lr = 1e-2
  c.mesh.data = 1
  where = dict(name="files", path=arg.path) if arg.path else dict(name="personas")
  shape = "single" if "baseline" in needs else ""
  c.data.sets = dict(main=recipe.data_set(**where, shape=shape, limit=64))
  c.data.max_length, c.data.buckets = 128, (128,)
  c.checkpoint.every, c.log.every = 4, 2
  if c.model.kind == "language" and arg.evals:
    test = recipe.data_set(**(where | ({} if arg.path else {"split": "test"})), limit=16)
    c.evals = dict(heldout=recipe.evaluation("pair_accuracy", data=test, every=4, batch=16))
    c.checkpoint.metric = "heldout/rewards/accuracies"
    c.samples.update(count=1, prompts=2, max_new=8)
  if arg.warm:
    c.warm = dict(steps=4, objectives=dict(main=cfg.term(objectives, "nll")))
  return c
