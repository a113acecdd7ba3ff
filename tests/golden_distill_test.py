"""Distillation losses give the values and gradients that TRL, Liger and LLaMA-Factory gave."""

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import objectives, reduce

GRADIENTS = ("grad", "gx", "gw")


def _fn(file, case):
  fn = getattr(objectives, golden_files.parameters(file)[case]["fn"])
  knobs = golden_files.knobs(file, case)
  return lambda *arrays: fn(*arrays, **knobs)[0]


def _compare(file, case, ours):
  wanted = golden_files.outputs(file, case)
  assert set(wanted) == set(ours), f"{file}:{case} holds {sorted(wanted)}"
  for what, value in wanted.items():
    rtol = 1e-4 if what in GRADIENTS else 2e-5
    name = f"{file}:{case}:{what}"
    np.testing.assert_allclose(ours[what], value, rtol=rtol, atol=2e-6, err_msg=name)


def _one(x):
  """[B, ...] as [B, 1, ...]."""
  return jnp.asarray(x)[:, None]


def _mean(loss, mask):
  """The mean over all tokens of the batch, as the loop takes it."""
  return (reduce.weights("token", 3, mask=mask) * loss).sum()


def _picked(logits, ids):
  ids = jnp.maximum(jnp.asarray(ids), 0)
  return jnp.take_along_axis(jax.nn.log_softmax(logits, -1), ids[..., None], -1)[..., 0]


@pytest.mark.parametrize("case", golden_files.covered("trl_distill"))
def test_trl_distill(case):
  z, fn = golden_files.load("trl_distill"), _fn("trl_distill", case)
  student, teacher = _one(z["student_logits"]), _one(z["teacher_logits"])
  mask = jnp.asarray(_one(z["labels"]) != -100, jnp.float32)
  if case.startswith("div"):  # recorded at every place
    return _compare("trl_distill", case, {"value": fn(student, teacher, jnp.ones_like(mask))[:, 0]})
  if case == "sampled_token_rkl":
    return _sampled(z, case, fn, student, jnp.ones_like(mask))
  if case == "iw_opd":
    fixed = _one(z["rollout_token_logp"]), _one(z["teacher_token_logp"]), mask
    total = lambda x: _mean(fn(_picked(x, _one(z["completion_ids"])), *fixed), mask)
  else:
    total = lambda x: _mean(fn(x, teacher, mask), mask)
  loss, grad = jax.value_and_grad(total)(student)
  _compare("trl_distill", case, {"loss": loss, "grad": grad[:, 0]})


def _sampled(z, case, fn, student, mask):
  """The bare array and its gradient share a name, so both are read here."""
  ids, arrays = _one(z["completion_ids"]), golden_files.load("trl_distill")
  teacher = _picked(_one(z["teacher_logits"]), ids)
  losses = lambda x: fn(_picked(x, ids), teacher, mask)
  grad = jax.grad(lambda x: losses(x).sum())(student)[:, 0]
  np.testing.assert_allclose(losses(student)[:, 0], arrays[case], rtol=2e-5, atol=2e-6)
  np.testing.assert_allclose(grad, arrays[f"{case}__grad"], rtol=1e-4, atol=2e-6)


def test_teacher_token_logps_of_the_trl_file_are_those_of_its_logits():
  z = golden_files.load("trl_distill")
  ours = _picked(jnp.asarray(z["teacher_logits"]), z["completion_ids"])
  np.testing.assert_allclose(ours, z["teacher_token_logp"], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("case", golden_files.covered("liger_distill"))
def test_liger_distill(case):
  z, fn = golden_files.load("liger_distill"), _fn("liger_distill", case)
  row = golden_files.parameters("liger_distill")[case]
  labels = jnp.asarray(z["labels"])[None, None]
  mask = jnp.asarray(labels != -100, jnp.float32)
  teacher = jnp.asarray(z["tx"] @ z["tw"].T)[None, None]

  def total(x, w):
    student = (x @ w.T)[None, None]
    hard = _mean(objectives.nll(_picked(student, labels), mask)[0], mask)
    return row["hard"] * hard + row["soft"] * _mean(fn(student, teacher, mask), mask)

  loss, (gx, gw) = jax.value_and_grad(total, (0, 1))(jnp.asarray(z["sx"]), jnp.asarray(z["sw"]))
  _compare("liger_distill", case, {"loss": loss, "gx": gx, "gw": gw})


@pytest.mark.parametrize("case", ["dft", "asft"])
def test_paper_offline_supervised(case):
  z, fn = golden_files.load("paper_offline"), _fn("paper_offline", case)
  labels = jnp.asarray(z["sft_labels"])[None, None]
  mask = jnp.asarray(labels != -100, jnp.float32)
  ref = jnp.asarray(z["sft_ref_logits"])[None, None]

  def total(x):
    x = x[None, None]
    token_logp = jnp.where(mask > 0, _picked(x, labels), 0.0)
    return _mean(fn(*((token_logp, mask) if case == "dft" else (token_logp, x, ref, mask))), mask)

  loss, grad = jax.value_and_grad(total)(jnp.asarray(z["sft_logits"]))
  ours = {"loss": loss, "grad": grad}
  _compare("paper_offline", case, {k: ours[k] for k in golden_files.outputs("paper_offline", case)})
