"""The stage without gradients: what a batch gets once, before the optimizer steps that use it.

Names are read by their prefix: `ref_logp` is `logp` under the frozen reference, `old_logp` under
the policy as it is when the batch arrives, `teacher_logits` is `logits` under another frozen model,
`baseline` is KTO's z0 from mismatched pairs. Whatever couples the situations of a batch belongs
here.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxpref import vocabulary
from jaxpref.numerics import masked_mean
from jaxpref.types import Refused


def reads_reference(names) -> bool:
  """Whether making these names needs the reference parameters."""
  return any(n.startswith("ref_") for n in names) or "baseline" in names


def reads_teacher(names) -> bool:
  """Whether making these names needs a teacher."""
  return any(n.startswith("teacher_") for n in names)


def made(names) -> frozenset[str]:
  """Those of the names that this stage makes; the others come from data or the model."""
  prefixed = {n for n in names if n.startswith(("ref_", "old_", "teacher_"))}
  return frozenset(prefixed | ({"baseline"} & set(names)))


def check(names, of: str) -> None:
  """Refuses names that nobody can make.

  Args:
    names: positional parameters of a function.
    of: its name, for the message.

  Raises:
    Refused: says which name, and which exist.
  """
  for name in names:
    if not vocabulary.known(name):
      raise Refused(
        f"{of} reads {name}, which jaxpref.vocabulary does not list. It lists: "
        f"{', '.join(vocabulary.NAMES)}; ref_, old_ and teacher_ go before what the model measures."
      )
    if name != vocabulary.plain(name) and vocabulary.plain(name) not in vocabulary.MEASURED:
      raise Refused(f"{of} reads {name}: {vocabulary.plain(name)} is not measured by a model.")


def make(measure, names, teacher=None, finish=None):
  """`prepare(params, frozen, batch, key) -> batch` with the wanted names added.

  A name that the batch already has (a cached reference log-probability) is not made again. The
  `mismatch_*` arrays are used up.

  Args:
    measure: `f(params, batch, want, key) -> arrays`, the model.
    names: what the terms read; see `made`.
    teacher: the same of the teacher, where one is read; its parameters are `frozen["teacher"]`.
    finish: `f(batch) -> arrays`, what is made of all the rest, such as advantages.

  Raises:
    Refused: a teacher is read and there is none.
  """
  names = made(names)
  if reads_teacher(names) and teacher is None:
    read = ", ".join(sorted(n for n in names if reads_teacher([n])))
    raise Refused(
      f"this run reads {read} but has no teacher: set config.teacher.init_from to the folder of a "
      "finished run of the same kind of model."
    )

  def prepare(params, frozen, batch, key):
    out = {k: v for k, v in batch.items() if not k.startswith("mismatch_")}
    todo = names - set(batch)
    out |= _under(measure, "ref_", frozen.get("ref"), todo, out, key)
    out |= _under(measure, "old_", params, todo, out, key)
    out |= _under(teacher, "teacher_", frozen.get("teacher"), todo, out, key)
    if "baseline" in todo:
      mismatched = {k[9:]: v for k, v in batch.items() if k.startswith("mismatch_")}
      out["baseline"] = baseline(measure, params, frozen["ref"], mismatched, batch["weight"], key)
    if finish is not None:
      out |= finish(out)
    return jax.lax.stop_gradient(out)

  return prepare


def _under(measure, prefix, params, names, batch, key):
  want = frozenset(n.removeprefix(prefix) for n in names if n.startswith(prefix))
  if not want:
    return {}
  return {prefix + k: v for k, v in measure(params, batch, want, key).items()}


def baseline(measure, params, reference, mismatched, weight, key):
  r"""KTO's z0: how far the policy is from the reference on responses to other prompts.

  .. math:: z_0 = \max(0, \mathrm{mean}_i [\log \pi(y'_i | x_i) - \log \pi_{ref}(y'_i | x_i)])

  where `y'_i` is the response of the next example of the whole batch. One number for the batch,
  whatever its micro-batches and devices; no gradient.

  Args:
    measure: the model.
    params: the policy.
    reference: the frozen reference.
    mismatched: batch of the pairs (x_i, y'_i), K = 1.
    weight: f32[B]; examples of weight 0 do not count.
    key: random key.

  Returns:
    f32[B], nats, the same number in every row.

  Reference: Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization" (2024),
  section 4.1. Catalogue 1, section 4.
  """
  want = frozenset({"logp"})
  ratio = measure(params, mismatched, want, key)["logp"]
  ratio -= measure(reference, mismatched, want, key)["logp"]
  mean = masked_mean(ratio[:, 0], weight)
  return jnp.full(weight.shape, jnp.maximum(mean, 0.0))
