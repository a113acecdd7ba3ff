"""Best of n: the response that a reward model likes most among those of one prompt."""

from __future__ import annotations

import jax
import numpy as np

from jaxpref import assemble, recipe, sharding
from jaxpref.data import batches, encode
from jaxpref.numerics import skew
from jaxpref.types import Record, Refused

LONG = 1 << 20  # tokens; responses are not cut for the reward model


def scores(workdir, prompts, responses, step: str = "last") -> np.ndarray:
  """Scores of responses under a reward model, which has its own tokenizer and template.

  A model of several attributes gives their mean; a preference model the mean of its scores against
  the other responses to the same prompt.

  Args:
    workdir: folder of the reward model's run.
    prompts: N prompts.
    responses: N lists of texts, of the same length K.
    step: `last`, `best` or a number.

  Returns:
    f32[N, K].

  Raises:
    Refused: no run there, or not one of a reward model.
  """
  config = recipe.stored(workdir)
  if config.model.kind != "reward":
    raise Refused(
      f"{workdir} holds a {config.model.kind} model; best of n needs the folder of a reward model."
    )
  config.evals = {}
  both = zip(prompts, responses, strict=True)
  records = [Record(p, tuple(r), source=f"prompt {i}") for i, (p, r) in enumerate(both)]
  with jax.set_mesh(assemble.mesh(config)):
    loaded = assemble.restore(config, workdir, step)
    corpus = loaded.parts.corpus
    rows, _ = encode.encode_all(records, corpus.tokenizer, corpus.template, max_length=LONG)
    parts = sharding.batch_parts(loaded.parts.mesh)
    found = [
      _measured(loaded, sharding.put(host, loaded.parts.mesh))[host["weight"] > 0]
      for host in batches.passes(
        rows,
        batch=-(-min(len(rows), 32) // parts) * parts,
        buckets=(max(len(ids) for row in rows for ids in row.ids),),
        pad=corpus.tokenizer.pad,
      )
    ]
  return np.concatenate(found)


def _measured(loaded, batch):
  """f32[B, K]: one number per response, from what the run's objectives trained."""
  names = loaded.parts.names
  order = ("score", "token_score", "score_parts", "embedding")
  name = next((n for n in order if n in names), "score").replace("token_score", "score")
  measure = jax.jit(lambda p, b: loaded.parts.measure(p, b, frozenset({name}), loaded.key)[name])
  found = np.asarray(measure(loaded.params, batch))
  if name == "score_parts":
    return found.mean(-1)
  if name == "embedding":
    return np.asarray(skew(found[:, :, None], found[:, None, :]).mean(-1))
  return found


def pick(workdir, prompts, samples: list[dict], step: str = "last") -> list[dict]:
  """The sample of each prompt with the highest score; the first of those that share it.

  Args:
    workdir: folder of the reward model's run.
    prompts: N prompts.
    samples: objects with `response`, the samples of a prompt together, as many for each.
    step: `last`, `best` or a number.

  Returns:
    N of these objects, with `score` (reward units) and `mean_score` (of the prompt's samples).

  Raises:
    Refused: as `scores`.
  """
  count = len(samples) // len(prompts)
  grouped = [samples[i * count : (i + 1) * count] for i in range(len(prompts))]
  found = scores(workdir, prompts, [[s["response"] for s in group] for group in grouped], step)
  return [
    group[int(np.argmax(row))] | {"score": float(row.max()), "mean_score": float(row.mean())}
    for group, row in zip(grouped, found, strict=True)
  ]


def weights(n: int, total: int) -> np.ndarray:
  """How likely the response of each rank is the best of `n` drawn from `total` without replacement.

  With responses sorted by score, worst first, `sum(weights * true_reward)` estimates without bias
  what best of n gives.

  Args:
    n: responses drawn, between 1 and `total`.
    total: responses there are.

  Returns:
    f64[total], summing to 1.

  Raises:
    Refused: `n` out of its range.

  >>> print(np.round(6 * weights(2, 4), 6))
  [0. 1. 2. 3.]
  """
  if not 1 <= n <= total:
    raise Refused(f"best of n needs n in 1..{total}, the responses there are; it is {n}.")
  # C(i - 1, n - 1) / C(total, n) by the ratio of neighbours, from the top down
  out = np.zeros(total)
  out[-1] = n / total
  for i in range(total - 1, n - 1, -1):  # rank i from rank i + 1
    out[i - 1] = out[i] * (i - n + 1) / i
  return out
