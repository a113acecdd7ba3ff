"""The parts of the persuasion experiment against the card's definitions."""

import importlib
import pathlib
import sys

import numpy as np
import pytest
from definitions_ordinal import coding

from jaxpref.data import debates

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
fits = importlib.import_module("experiments.persuasion.fits")
comparisons = importlib.import_module("experiments.persuasion.comparisons")
resample = importlib.import_module("experiments.persuasion.resample")


def test_the_bundled_ratings_are_as_their_readme_says():
  table = debates.debate_ratings()
  assert {len(v) for v in table.values()} == {750}
  assert len(np.unique(table["debate"])) == 600 and len(np.unique(table["topic"])) == 30
  np.testing.assert_array_equal(np.bincount(table["arm"]), [300, 150, 150, 150])
  np.testing.assert_array_equal(np.bincount(table["cluster"]), [250, 250, 250])
  for name in ("before", "after"):
    assert set(table[name]) == set(range(5))
  assert table["perceived_ai"].sum() == 441


def test_the_bundled_ratings_have_licence_and_readme():
  folder = pathlib.Path(debates.__file__).parent / "bundled" / "debategpt_ratings"
  assert "MIT License" in (folder / "LICENSE").read_text()
  assert "Licence" in (folder / "README.md").read_text(encoding="utf-8")


def test_the_coding_is_the_cards():
  card = [(-0.8, 0.2, 0.2, 0.2, 0.2), (-0.6, -0.6, 0.4, 0.4, 0.4), (-0.4, -0.4, -0.4, 0.6, 0.6)]
  card.append((-0.2, -0.2, -0.2, -0.2, 0.8))
  np.testing.assert_allclose(fits.coding().T, card, atol=1e-12)
  np.testing.assert_allclose(coding(5).T, card, atol=1e-12)


def test_each_arm_has_its_dummy():
  arms = {name: fits.treatments(np.asarray([i]))[0] for i, name in enumerate(debates.ARMS)}
  np.testing.assert_array_equal(arms["Human-Human"], 0)
  for name, effect in (
    ("Human-AI", "AI"),
    ("Human-Human, personalized", "human personalised"),
    ("Human-AI, personalized", "AI personalised"),
  ):
    np.testing.assert_array_equal(arms[name], np.eye(3)[fits.EFFECTS.index(effect)])


def test_wins_count_pairs_of_a_topic_with_ties_as_halves():
  arm, shift, topic = np.asarray([0, 1, 1, 3, 0]), np.asarray([1, 0, 1, 5, 2]), [0, 0, 0, 0, 1]
  wanted = np.zeros((4, 4))
  for i in range(5):
    for j in range(5):
      if arm[i] != arm[j] and topic[i] == topic[j]:
        wanted[arm[i], arm[j]] += (shift[i] > shift[j]) + 0.5 * (shift[i] == shift[j])
  np.testing.assert_array_equal(comparisons.wins(arm, shift, np.asarray(topic)), wanted)


def test_strengths_solve_the_equations_of_bradley_and_terry():
  won = np.random.default_rng(0).integers(1, 9, (4, 4)) * (1.0 - np.eye(4))
  score = comparisons.strengths(won)
  expected = 1 / (1 + np.exp(score[None, :] - score[:, None]))
  np.testing.assert_allclose((expected * (won + won.T)).sum(1), won.sum(1), rtol=1e-9)
  assert score[0] == 0


def test_a_permutation_stays_in_its_group():
  group = np.random.default_rng(1).integers(0, 4, 50)
  order = resample._within(group, np.random.default_rng(2))
  np.testing.assert_array_equal(np.sort(order), np.arange(50))
  np.testing.assert_array_equal(group[order], group)
  assert (order != np.arange(50)).any()


def test_simulated_studies_follow_the_model():
  beta = np.asarray([0.0, 0.0, 1.5])
  thresholds = np.concatenate([np.asarray([[-2.0], [-0.5], [0.5], [2.0]]), np.zeros((4, 4))], 1)
  arm, before, after = resample.simulate(
    np.random.default_rng(0),
    per_arm=2000,
    beta=beta,
    thresholds=thresholds,
    before=np.asarray([1, 2, 3]),
    repetitions=3,
  )
  assert arm.shape == before.shape == after.shape == (3, 8000) and set(before.ravel()) == {1, 2, 3}
  treated = debates.ARMS.index("Human-AI, personalized")
  for number in range(4):
    effect = 1.5 if number == treated else 0.0
    below = 1 / (1 + np.exp(-(thresholds[:, 0] - effect)))
    found = [(after[arm == number] <= j).mean() for j in range(4)]
    assert np.abs(found - below).max() < 4 * np.sqrt(0.25 / 6000)


@pytest.mark.parametrize("effect", [0.0, 3.0])
def test_power_is_the_size_of_the_test_at_no_effect_and_1_at_a_huge_one(effect):
  config = type("Config", (), dict(seed=0, per_arm=60, effect=effect, steps=40))
  found = resample.power(config)
  if effect:
    assert found["power"] == 1.0 and abs(found["mean estimate"] - effect) < 0.6
  else:
    assert found["power"] < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 40)
  assert found["false alarms"] < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 40)
