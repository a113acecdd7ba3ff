"""Runs a case of a golden file of policy losses: the terms of its row, reduced as it says.

Files hold rows of tokens [N, T]; here every row is one response of a situation of its own,
[N, 1, T]. A row of the table holds, besides `fn` and `knobs`, `reduce` (`constant`: a number, the
name of an array, or `T`), `arrays` (which of the file's arrays are read as what), `keep`, and
`also`, further terms with a `weight`.
"""

import golden_files
import jax.numpy as jnp
import numpy as np

from jaxpref import call, numerics, objectives, reduce


def rows(x, length):
  """f32[N, 1, T]; a number per row is spread over its tokens."""
  x = jnp.asarray(x, jnp.float32)
  x = x[:, None] if x.ndim == 1 else x
  return jnp.broadcast_to(x, (x.shape[0], length))[:, None]


def arrays(z, row, logp):
  """What objectives read, by the row's `arrays`; `self` is the policy itself, without gradient."""
  length = logp.shape[1]
  pick = lambda source: logp if source == "self" else z[source]
  found = {name: rows(pick(source), length) for name, source in row["arrays"].items()}
  return found | {"token_logp": rows(logp, length)}


def total(z, row, found):
  """The loss of a case, and means over counted tokens of every metric of its terms."""
  loss, metrics = 0.0, {}
  for term in (row, *row.get("also", ())):
    fn = call.bind(getattr(objectives, term["fn"]), **term["knobs"])
    value, more = call.feed(fn, found)
    keep = rows(z[row["keep"]], value.shape[2]) if "keep" in row and term is row else None
    w = reduce.weights(
      term["reduce"], 3, mask=found["mask"], constant=constant(z, term, value), keep=keep
    )
    loss += term.get("weight", 1.0) * (w * value).sum()
    metrics |= {k: numerics.masked_mean(v, found["mask"]) for k, v in more.items()}
  return loss, metrics


def losses(row, found):
  """The unreduced loss of a row's own function."""
  fn = call.bind(getattr(objectives, row["fn"]), **row["knobs"])
  return call.feed(fn, found)[0]


def constant(z, term, value):
  """What `reduce` divides by."""
  given = term.get("constant")
  if given == "T":
    return float(value.shape[2])
  return float(z[given]) if isinstance(given, str) else given


def compare(file, case, ours, skip=(), where=None):
  """Every array of the case, `where` it counts; tolerances of the folder's README."""
  wanted = golden_files.outputs(file, case)
  assert wanted, f"{file} has no array of case {case}"
  missing = set(wanted) - set(ours) - set(skip)
  assert not missing, f"{file}:{case} holds {missing}, which this test does not compare"
  for what in set(wanted) - set(skip):
    rtol = 1e-4 if what.startswith("g") else 2e-5
    counted = (where or {}).get(what, 1.0)
    left, right = np.asarray(ours[what]) * counted, wanted[what] * counted
    np.testing.assert_allclose(left, right, rtol=rtol, atol=2e-6, err_msg=f"{file}:{case}:{what}")
