"""Text from a checkpoint."""

from __future__ import annotations

from types import SimpleNamespace

import jax
from absl import flags

from jaxpref import assemble, best, recipe, samples, update
from jaxpref.data import chat
from jaxpref.types import Refused


def run(
  workdir, prompts, step: str = "last", seed: int = 0, best_of: int = 0, reward="", **options
) -> list[dict]:
  """Samples responses to prompts from one checkpoint of a run.

  Args:
    workdir: the run's folder.
    prompts: texts, each a user turn of the run's chat template.
    step: `last`, `best` or a number.
    seed: of the samples.
    best_of: of so many samples of each prompt only the best is returned; 0: all are.
    reward: folder of the reward model's run that says which one is the best.
    **options: `count`, `max_new`, `temperature`, `top_k`, `top_p`; the run's own where not given.

  Returns:
    One object per sample, the samples of a prompt together: `prompt`, `response`, `logp` (nats),
    `length` (tokens); with `best_of` also `score` and the prompt's `mean_score` (reward units).

  Raises:
    Refused: no run there, no such checkpoint, a model that does not generate, an unknown option.
  """
  if (best_of > 0) != bool(reward) or best_of < 0:
    raise Refused(
      f"best of n needs both --best_of of at least 1 and --reward, the folder of a reward model's "
      f"run; got best_of={best_of} and reward={str(reward)!r}."
    )
  options |= {"count": best_of} if best_of else {}
  config = recipe.stored(workdir)
  known = {k: config.samples[k] for k in ("max_new", "temperature", "top_k", "top_p")}
  known |= {"count": config.samples.count or 1}
  for name in options:
    if name not in known:
      raise Refused(f"generate has no option {name!r}; it has: {', '.join(known)}.")
  if config.model.kind != "language":
    raise Refused(f"{workdir} holds a {config.model.kind} model, which does not generate text.")
  config.evals = {}  # no data are read: the folder may be on another machine than the data
  with jax.set_mesh(assemble.mesh(config)):
    loaded = assemble.restore(config, workdir, step)
    corpus = loaded.parts.corpus
    ids = [chat.prompt_ids(p, corpus.tokenizer, corpus.template) for p in prompts]
    key = update.fold(jax.random.key(seed), "generate")
    drawn = samples.draw(loaded.parts, loaded.params, ids, SimpleNamespace(**known | options), key)
  found = samples.texts(loaded.parts, drawn)
  return best.pick(reward, prompts, found) if best_of else found


def define_flags() -> None:
  """The flags of the command; called once, by `jaxpref generate`."""
  flags.DEFINE_string("workdir", None, "folder of the run", required=True)
  flags.DEFINE_multi_string("prompt", None, "a prompt; may be given more than once", required=True)
  flags.DEFINE_integer("samples", 1, "samples of each prompt")
  flags.DEFINE_integer("best_of", 0, "print only the best of so many samples; needs --reward")
  flags.DEFINE_string("reward", "", "folder of the reward model's run that picks the best")
  flags.DEFINE_string("step", "last", "last, best or a step")
  flags.DEFINE_integer("seed", 0, "of the samples")
  flags.DEFINE_float("temperature", 1.0, "0 is greedy")
  flags.DEFINE_integer("top_k", 0, "keep the likeliest k tokens; 0 keeps all")
  flags.DEFINE_float("top_p", 1.0, "keep the likeliest tokens of this probability; 1 keeps all")
  flags.DEFINE_integer("max_new", 32, "tokens at most")


def main(argv) -> None:
  """`jaxpref generate --workdir=runs/quickstart --prompt='interest in art:' --samples=4`."""
  if len(argv) > 1:
    raise Refused(f"generate takes flags only; it does not know {' '.join(argv[1:])!r}.")
  f = flags.FLAGS
  found = run(
    f.workdir,
    f.prompt,
    f.step,
    f.seed,
    f.best_of,
    f.reward,
    count=f.samples,
    max_new=f.max_new,
    temperature=f.temperature,
    top_k=f.top_k,
    top_p=f.top_p,
  )
  for one in found:
    score = f", score {one['score']:.3f}" if "score" in one else ""
    told = f"{one['length']} tokens, {one['logp']:.2f} nats{score}"
    print(f"{one['prompt']} | {one['response']}   ({told})")
