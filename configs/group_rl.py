"""Group RL: K responses of every prompt are rewarded and compared with each other.

  jaxpref train --config=configs/group_rl.py:task=countdown,estimator=grpo,scale=tiny \
      --workdir=runs/grpo

A supervised warm start on solutions comes first, then rollouts. `reward/mean` is the mean reward of
the policy's own responses (for countdown 1 where the target is reached, 0.1 for a well-formed
expression), `heldout/reward/solved` the share of held-out problems that a greedy response
solves.

`task=keydoor` is of many turns: the policy walks in a grid told in text and must pick up a key
before it can open a door; only that is rewarded. `reward/solved` is the share of episodes that do,
`heldout/reward/solved` that in unseen grids, sampled at temperature 1. `estimator=gigpo` compares
steps taken in the same state; all others compare episodes.

Argument: `task` (countdown, gsm8k, keydoor), `estimator` (a preset: grpo, dr_grpo, rloo, dapo,
gspo, cispo, gigpo and the others of `jaxpref.recipes_rl`), `scale` (tiny: two CPU cores, about four
minutes; small: one GPU; paper: the published sizes, for a pod).
"""

from jaxpref import config as cfg
from jaxpref import objectives, recipe, recipes_rl

OPTIONS = {"tiny": dict(steps=220, batch=32, count=16, lr=6e-4, warm=500, warm_lr=3e-3)}
OPTIONS["small"] = dict(steps=1000, batch=64, count=8, lr=1e-5, warm=2000, warm_lr=3e-4)
OPTIONS["paper"] = dict(steps=5000, batch=512, count=16, lr=1e-6, warm=0, warm_lr=1e-5)


def get_config(arg=""):
  arg = cfg.parse_arg(arg, task="countdown", estimator="grpo", scale="tiny")
  o = {k: OPTIONS[k] for k in ("tiny", "small", "paper")}[arg.scale]
  c = recipe.base()
  c.title = f"Group RL: {arg.estimator} on {arg.task}"
  c.steps, c.batch = o["steps"], o["batch"]
  c.tokenizer.kind = "bytes"
  c.optim.lr = o["lr"]
  c.optim.clip = 1.0
  c.rollout.count = o["count"]
  c.samples.count = 1
  if arg.task == "keydoor" and arg.scale == "tiny":
    o = o | dict(steps=60, batch=8, warm=200, count=8, lr=1e-3)
    c.steps, c.batch, c.rollout.count, c.optim.lr = o["steps"], o["batch"], o["count"], o["lr"]
  {"countdown": _countdown, "gsm8k": _gsm8k, "keydoor": _keydoor}[arg.task](c, arg.scale)
  recipes_rl.fill(c, arg.estimator)
  if arg.task == "keydoor":
    c.rollout.overlong_buffer = 0  # it is of responses of one turn
  c.log.every = 10
  c.checkpoint.metric = "heldout/reward/solved"
  if o["warm"]:
    c.warm = dict(
      steps=o["warm"],
      batch=64,
      objectives=dict(main=cfg.term(objectives, "nll")),
      optim=c.optim.copy_and_resolve_references(),
      evals={},
      samples=c.samples.to_dict() | {"count": 0},
    )
    c.warm.optim.lr = o["warm_lr"]
  return c


def _countdown(c, scale):
  c.model = recipe.model("nano", depth=2) if scale == "tiny" else recipe.model("small")
  c.data.sets = dict(main=recipe.data_set("countdown", count=4000))
  c.data.max_length, c.data.buckets = 32, (16, 32)
  c.rollout.max_new = 12
  c.rewards = dict(countdown=recipe.reward("countdown"))
  held_out = recipe.data_set("countdown", split="test", count=256)
  c.trials = dict(heldout=recipe.trial(held_out, every=c.steps // 4))


def _gsm8k(c, scale):
  c.model = recipe.model("nano" if scale == "tiny" else "qwen2.5-1.5b")
  c.data.sets = dict(main=recipe.data_set("gsm8k"))
  c.data.max_length, c.data.buckets = 1024, (256, 512, 1024)
  c.data.truncate = "drop"
  c.rollout.max_new = 64 if scale == "tiny" else 512
  c.rewards = dict(answer=recipe.reward("exact_answer"))
  held_out = recipe.data_set("gsm8k", split="test", limit=256 if scale == "tiny" else 0)
  c.trials = dict(heldout=recipe.trial(held_out, every=c.steps // 4))


def _keydoor(c, scale):
  tiny = scale == "tiny"
  c.model = recipe.model("nano", depth=2, width=64, heads=2, kv_heads=2, hidden=128)
  if not tiny:
    c.model = recipe.model("small" if scale == "small" else "qwen2.5-1.5b")
  size, turns, wording = (3, 10, "short") if tiny else (5, 30, "full")
  grids = dict(size=size, turns=turns, wording=wording)
  c.data.sets = dict(main=recipe.data_set("keydoor", slips=0.5, **grids))
  c.data.max_length, c.data.buckets = (160, (40, 80, 160)) if tiny else (2816, (704, 1408, 2816))
  c.rollout.env = recipe.environment("keydoor", wording=wording)
  c.rollout.turns, c.rollout.max_new = turns, 6 if tiny else 16
  c.samples.count = 0  # samples are of one turn
  held_out = recipe.data_set("keydoor", split="test", count=128, **grids)
  c.trials = dict(heldout=recipe.trial(held_out, every=c.steps // 3, temperature=1.0))
