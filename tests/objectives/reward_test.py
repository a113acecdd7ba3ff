"""Bradley-Terry against its definition, worked values and identities."""

import definitions
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpref import call
from jaxpref.objectives import bradley_terry, dpo
from jaxpref.types import Refused


def _scores(seed):
  return np.random.default_rng(seed).normal(0.0, 2.0, (6, 2)).astype(np.float32)


@pytest.mark.parametrize("center", [0.0, 0.01, 0.5])
def test_equals_the_definition(center):
  wanted = definitions.bradley_terry(_scores(0), center)
  np.testing.assert_allclose(bradley_terry(_scores(0), center=center)[0], wanted, rtol=1e-5)


def test_worked_values_of_the_catalogue():
  score = jnp.asarray([[1.0, 0.2]])
  assert f"{bradley_terry(score)[0][0]:.6f}" == "0.371101"
  assert f"{bradley_terry(score, center=0.01)[0][0]:.6f}" == "0.385501"


def test_a_tie_gives_log_two_and_is_not_right():
  loss, metrics = bradley_terry(jnp.ones((1, 2)))
  np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
  assert metrics["rewards/accuracies"][0] == 0


def test_a_constant_changes_the_loss_only_where_scores_are_centred():
  score = jnp.asarray([[1.0, 0.25]])
  assert bradley_terry(score + 4)[0] == bradley_terry(score)[0]
  assert bradley_terry(score + 4, center=0.01)[0] > bradley_terry(score, center=0.01)[0]


def test_is_dpo_of_scores_at_beta_one():
  score = _scores(1)
  np.testing.assert_array_equal(bradley_terry(score)[0], dpo(score, jnp.zeros((6, 2)), beta=1.0)[0])


def test_gradient_raises_the_preferred_score():
  grad = jax.grad(lambda s: bradley_terry(s)[0].sum())(jnp.asarray(_scores(2)))
  assert (grad[:, 0] < 0).all()
  np.testing.assert_allclose(grad[:, 0], -grad[:, 1])


def test_wrong_knobs_and_candidates_are_refused():
  with pytest.raises(Refused, match="no hyperparameter 'centre'. Did you mean 'center'"):
    call.bind(bradley_terry, centre=0.1)
  with pytest.raises(Refused, match="center >= 0; it is -1"):
    bradley_terry(_scores(0), center=-1.0)
  with pytest.raises(Refused, match="bradley_terry reads 2 candidates"):
    bradley_terry(jnp.zeros((3, 4)))
