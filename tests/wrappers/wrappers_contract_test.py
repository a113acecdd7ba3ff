"""What every wrapper must keep, around several bases: signature, values, gradients, extremes."""

import inspect

import contract_test as contract
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call, catalogue, objectives, vocabulary, wrappers
from jaxpref.types import Refused

K = {"without_gold": 3}
BASES = {
  "f_divergence": ("dpo", "cdpo", "ipo"),
  "humanline": ("dpo", "simpo", "ipo"),
  "length_desensitized": ("dpo", "cpo", "ipo"),
}
PAIRS = [
  (name, base)
  for name in sorted(call.functions(wrappers))
  for base in BASES.get(name, ("dpo", "simpo", "tdpo2"))
]
every_pair = pytest.mark.parametrize(("name", "base"), PAIRS)


def _made(name, base):
  return call.find(wrappers, name)(call.bind(call.find(objectives, base), beta=0.3))


def _inputs(name, fn, seed=0, b=contract.B):
  rng = np.random.default_rng(seed)
  return [
    fn.init_carry() if array == "carry" else contract._draw(array, rng, b, K.get(name, 2))
    for array in call.needs(fn)
  ]


def test_every_wrapper_of_the_room_is_tested_here():
  assert {name for name, _ in PAIRS} == set(wrappers.__all__)


@every_pair
def test_the_result_has_the_name_the_knobs_and_the_module_of_its_base(name, base):
  inside, fn = call.find(objectives, base), _made(name, base)
  assert fn.__name__ == base and fn.__module__ == inside.__module__
  assert call.knobs(fn) == call.knobs(inside) | {"beta": 0.3}
  assert all(vocabulary.known(n) for n in call.needs(fn)) and len(set(call.needs(fn))) == len(
    call.needs(fn)
  )
  again = call.bind(fn, beta=0.7)
  assert call.knobs(again)["beta"] == 0.7 and call.needs(again) == call.needs(fn)
  with pytest.raises(Refused, match="no hyperparameter 'betta'. Did you mean 'beta'"):
    call.bind(fn, betta=0.1)


@every_pair
def test_a_knob_given_later_counts_as_one_given_before(name, base):
  fn = _made(name, base)
  arrays = _inputs(name, fn)
  late, early = fn(*arrays, beta=0.9)[0], call.bind(fn, beta=0.9)(*arrays)[0]
  np.testing.assert_array_equal(late, early)
  assert (late != fn(*arrays)[0]).any()


@every_pair
def test_values_are_finite_unreduced_and_the_same_when_compiled(name, base):
  fn = _made(name, base)
  arrays = _inputs(name, fn, 1)
  loss, metrics = fn(*arrays)
  assert loss.shape == (contract.B,) and loss.dtype == jnp.float32
  for what, array in contract._leaves(metrics):
    assert array.shape[0] == contract.B and jnp.isfinite(array).all(), what
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    (loss, metrics),
    jax.jit(fn)(*arrays),
  )


@every_pair
def test_an_example_changes_only_its_own_loss(name, base):
  fn = _made(name, base)
  arrays, others = _inputs(name, fn, 2), _inputs(name, fn, 3)
  named = zip(call.needs(fn), arrays, others, strict=True)
  changed = [x if n == "carry" else x.at[2].set(y[2]) for n, x, y in named]
  before, after = fn(*arrays)[0], fn(*changed)[0]
  assert before[2] != after[2]
  np.testing.assert_array_equal(before[jnp.asarray([0, 1, 3])], after[jnp.asarray([0, 1, 3])])


@every_pair
def test_gradients_reach_what_the_policy_makes_and_nothing_else(name, base):
  fn = _made(name, base)
  arrays = _inputs(name, fn, 4)
  grads = jax.grad(lambda xs: fn(*xs)[0].sum())(arrays)
  for array, grad in zip(call.needs(fn), grads, strict=True):
    if array.startswith(contract.FIXED) or array == "carry":
      np.testing.assert_array_equal(grad, 0.0, err_msg=array)
  learned = [g for n, g in zip(call.needs(fn), grads, strict=True) if n in vocabulary.MEASURED]
  assert any((g != 0).any() for g in learned)
  total = lambda xs: sum(a.sum() for _, a in contract._leaves(fn(*xs)[1]))
  for grad in jax.tree.leaves(jax.grad(total)(arrays)):
    np.testing.assert_array_equal(grad, 0.0)


@every_pair
@pytest.mark.parametrize("size", [-1e6, 1e6])
def test_extremes_are_finite(name, base, size):
  fn = _made(name, base)
  if name == "f_divergence":  # a base that squares needs a lower cap
    fn = wrappers.f_divergence(call.find(objectives, base), divergence="alpha", alpha=2.0, cap=40.0)
  arrays = _inputs(name, fn, 5)
  for i, array in enumerate(call.needs(fn)):
    if vocabulary.plain(array) not in ("logp", "token_logp", "logits"):
      continue
    if (name, array) == ("wpo", "token_logp") and size > 0:
      continue  # a weight of e^1e6: no log-probability is so large
    wild = [*arrays[:i], arrays[i].at[:, -1].set(size), *arrays[i + 1 :]]
    loss, grads = fn(*wild)[0], jax.grad(lambda xs: fn(*xs)[0].sum())(wild)
    for found in (loss, *jax.tree.leaves(grads)):
      assert jnp.isfinite(found).all(), (array, size)


@pytest.mark.parametrize("name", sorted(wrappers.__all__))
def test_the_docstring_has_formula_arguments_example_and_reference(name):
  fn = call.find(wrappers, name)
  parts = catalogue.sections(inspect.getdoc(fn))
  assert ".. math::" in parts[""] and ">>>" in parts["Example"] and parts["Reference"]
  assert list(catalogue.entries(parts["Args"])) == ["base", *call.knobs(fn)]
  assert parts["Returns"].startswith("The objective; it reads")


@pytest.mark.parametrize("name", ["f_divergence", "humanline", "length_desensitized"])
def test_a_base_that_reads_no_log_probability_is_refused(name):
  with pytest.raises(Refused, match=f"{name} needs a base that reads logp"):
    call.find(wrappers, name)(objectives.bradley_terry)
