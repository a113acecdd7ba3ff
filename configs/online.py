"""Online preference learning: the policy's own responses, judged by a reward model.

  jaxpref train --config=configs/online.py:objective=online_dpo,scale=tiny --workdir=runs/online

Three stages in one run: a supervised warm start on the preferred responses, a reward model from the
same pairs (in the folder `judge`), then online steps: two responses of each prompt, the judge's
scores, a pair objective. `reward/mean` is the judge's score of the policy's responses; it should
rise from its value at the first line. Argument: `objective`: online_dpo (best against worst of two
samples), online_ipo, xpo (policy against reference), nash_md (policy against the mixture of policy
and reference); `scale` (tiny: two CPU cores, about three minutes; small: one GPU).
"""

from jaxpref import config as cfg
from jaxpref import objectives, recipe
from jaxpref.types import Refused

OBJECTIVES = {
  "online_dpo": ("dpo", dict(order="best_worst")),
  "online_ipo": ("ipo_sum", dict(order="best_worst")),
  "xpo": ("xpo", dict(opponent="reference")),
  "nash_md": ("nash_md", dict(opponent="mixture", order="first")),
}


def get_config(arg=""):
  arg = cfg.parse_arg(arg, objective="online_dpo", scale="tiny")
  tiny = {"tiny": True, "small": False}[arg.scale]
  if arg.objective not in OBJECTIVES:
    raise Refused(f"online.py has no objective {arg.objective!r}. It has: {', '.join(OBJECTIVES)}.")
  fn, options = OBJECTIVES[arg.objective]
  c = recipe.base()
  c.title = f"Online preference learning: {arg.objective} with a reward model as judge"
  c.steps = 60 if tiny else 500
  c.batch = 32 if tiny else 128
  c.model = recipe.model("nano", depth=1) if tiny else recipe.model("small")
  c.tokenizer.vocab = 2048 if tiny else 8192
  c.objectives = dict(main=cfg.term(objectives, fn, beta=0.1))
  c.optim.lr = 5e-4 if tiny else 5e-5
  c.data.sets = dict(main=recipe.data_set("personas"))
  c.data.max_length, c.data.buckets, c.data.group = 96, (16, 40, 96), 20
  c.rollout.update(count=2, max_new=32, missing_eos_penalty=1.0, **options)
  test = recipe.data_set("personas", split="test")
  c.evals = dict(heldout=recipe.evaluation("pair_accuracy", data=test, every=c.steps))
  c.samples.count = 1
  c.log.every = 5
  c.warm = dict(
    steps=200 if tiny else 1000,
    batch=48 if tiny else 128,
    objectives=dict(main=cfg.term(objectives, "nll")),
    optim=c.optim.copy_and_resolve_references(),
    evals={},
    samples=c.samples.to_dict() | {"count": 0},
  )
  c.warm.optim.lr = 2e-3 if tiny else 3e-4
  c.judge = dict(
    steps=150 if tiny else 1000,
    batch=48 if tiny else 128,
    model=recipe.model("nano", depth=1, kind="reward")
    if tiny
    else recipe.model("small", kind="reward"),
    objectives=dict(main=cfg.term(objectives, "bradley_terry", center=0.01)),
    optim=c.warm.optim.copy_and_resolve_references(),
    evals=dict(heldout=recipe.evaluation("score_accuracy", data=test)),
    samples=c.samples.to_dict() | {"count": 0},
  )
  return c
