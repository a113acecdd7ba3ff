"""Signatures as contracts: find, needs, knobs, bind, feed and their refusals."""

import types

import jax.numpy as jnp
import pytest

from jaxpref import call, objectives
from jaxpref.types import Refused


def loss(logp, length, *, beta: float = 0.1, target=None):
  return logp * beta, {"length": length, "target": target}


def test_positional_parameters_are_needs_and_keyword_only_ones_are_knobs():
  assert call.needs(loss) == ("logp", "length")
  assert call.knobs(loss) == {"beta": 0.1, "target": None}


def test_find_takes_a_name_of_a_room_or_of_any_module():
  assert call.find(objectives, "dpo") is objectives.dpo
  assert call.find(objectives, "jaxpref.objectives.ipo:ipo_sum") is objectives.ipo_sum


def test_functions_leaves_out_private_names_and_modules():
  room = types.ModuleType("jaxpref.room")
  room.loss, room._private, room.other, room.SIZE = loss, loss, types, 3
  assert call.functions(room) == {"loss": loss}


@pytest.mark.parametrize(
  ("name", "sentence"),
  [
    (
      "dop",
      r"objectives has no 'dop'. Did you mean 'dpo'\? It has: .*cdpo, .*dpo",
    ),
    ("zzzz", r"objectives has no 'zzzz'. It has: "),
    ("no_such_module_here:f", "cannot import 'no_such_module_here' of fn=.*PYTHONPATH"),
    ("jaxpref.call:fid", r"jaxpref.call has no function 'fid'. Did you mean 'find'\?"),
  ],
)
def test_find_refuses_with_the_nearest_name(name, sentence):
  with pytest.raises(Refused, match=sentence):
    call.find(objectives, name)


def test_a_module_that_fails_while_it_is_imported_keeps_its_own_error(tmp_path, monkeypatch):
  (tmp_path / "broken_module_of_call_test.py").write_text("1 / 0\n")
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(ZeroDivisionError):
    call.find(objectives, "broken_module_of_call_test:f")


def test_bind_fixes_knobs_keeps_the_needs_and_does_not_touch_the_function():
  bound = call.bind(loss, beta=2.0)
  assert bound(3.0, 1.0)[0] == 6.0 and loss(3.0, 1.0)[0] == pytest.approx(0.3)
  assert call.needs(bound) == ("logp", "length") and bound.__name__ == "loss"
  assert call.knobs(bound) == {"beta": 2.0, "target": None}
  assert call.bind(bound, target=1.0)(1.0, 1.0)[1]["target"] == 1.0


def test_bind_refuses_arrays_and_unknown_names():
  with pytest.raises(Refused, match=r"no hyperparameter 'betta'. Did you mean 'beta'\?"):
    call.bind(loss, betta=1.0)
  with pytest.raises(Refused, match="no hyperparameter 'logp'. It has: beta, target"):
    call.bind(loss, logp=1.0)


def test_feed_gives_the_arrays_by_name_and_ignores_the_rest():
  out, metrics = call.feed(loss, {"length": 5, "score": 0, "logp": 10.0})
  assert out == 1.0 and metrics["length"] == 5


def test_feed_names_the_array_that_is_missing_and_those_that_there_are():
  with pytest.raises(Refused, match="loss reads length, which this run does not make. .*: logp"):
    call.feed(loss, {"logp": 1.0})


@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_positive_refuses_what_is_not_above_zero(value):
  call.positive("dpo", beta=1e-9)
  with pytest.raises(Refused, match="dpo needs beta > 0; it is"):
    call.positive("dpo", beta=value)


def test_candidates_refuses_another_number_of_them():
  call.candidates("dpo", 2, logp=jnp.zeros((3, 2)))
  for shape in ((3, 1), (3,)):
    with pytest.raises(Refused, match=r"dpo reads 2 candidates per situation; logp has shape \(3,"):
      call.candidates("dpo", 2, logp=jnp.zeros(shape))
