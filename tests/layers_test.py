"""Who may import whom: an import goes down the layers, never up or sideways."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LAYERS = (
  "types vocabulary numerics call config sharding folder allocator groups kl",
  "kernels envs",
  "objectives wrappers metrics analysis advantages selectors rewards rollout_correction adaptive "
  "reduce",
  "models data",
  "optim checkpoint writer console curves sample samples heldout prepare update reference recipe "
  "assemble speed mixes teacher best rollout source scoring recipes_rl estimate about episodes",
  "train evaluate generate page run_files page_sections table experiment report catalogue __main__",
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names.split()}
ROOMS = (
  *("kernels", "objectives", "wrappers", "metrics", "advantages", "selectors", "rewards"),
  *("analysis", "rollout_correction", "models", "data", "envs"),
)
SIDEWAYS = {  # imports between modules of the last layer, all that there are
  ("train", "page"),
  ("page", "page_sections"),
  ("page", "run_files"),
  ("page_sections", "run_files"),
  ("experiment", "train"),
  ("experiment", "table"),
  ("report", "experiment"),
  ("report", "table"),
}
PURE = ("flax", "optax", "orbax", "pathlib", "os", "io", "json", "gzip", "subprocess", "tempfile")
OPTIONAL = (
  *("tensorflow", "tensorflow_datasets", "torch", "transformers", "safetensors", "sentencepiece"),
  *("wandb", "tensorboard", "pyarrow", "tokenizers", "grain", "sklearn", "scipy", "selenium"),
)
FILES = sorted((ROOT / "jaxpref").rglob("*.py"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))


def imported(tree, name=""):
  """Dotted names that a tree imports; `from a import b` gives `a.b`."""
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{name}:{node.lineno} imports relatively"
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_module_level(tree):
  """The tree without the bodies of its functions."""
  kept = [n for n in tree.body if not isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
  return ast.Module(body=kept, type_ignores=[])


def part(dotted):
  """`jaxpref.data.read` -> `data`: the module or room of the package, or nothing."""
  words = dotted.split(".")
  return words[1] if words[0] == "jaxpref" and len(words) > 1 else ""


def wrong(own, other):
  """Why `own` may not import `other`; empty where it may."""
  if LAYER[other] > LAYER[own]:
    return f"{own} imports {other}, which stands above it"
  if own == other or own == "__main__":
    return ""
  if LAYER[own] == 5 == LAYER[other] and (own, other) not in SIDEWAYS:
    return f"{own} imports {other}, another command's module"
  if own in ROOMS and other in ROOMS and other not in ("kernels", "envs"):
    return f"the rooms {own} and {other} know each other"
  return ""


def _tree(path):
  return ast.parse(path.read_text(encoding="utf-8"))


def _own(path):
  return path.relative_to(ROOT / "jaxpref").with_suffix("").parts[0]


def test_every_module_has_a_layer():
  assert {_own(p) for p in FILES} - {"__init__"} <= set(LAYER)


@every_file
def test_imports_go_down_the_layers_only(path):
  own = _own(path)
  others = {part(name) for name in imported(_tree(path), path.name)} - {"", "__version__"}
  if own == "__init__":
    assert not others
    return
  assert [w for other in sorted(others) if (w := wrong(own, other))] == []


@every_file
def test_functions_on_arrays_do_no_input_or_output_and_know_no_framework(path):
  if LAYER.get(_own(path)) != 2:
    return
  used = {name.split(".")[0] for name in imported(_tree(path))}
  assert used.isdisjoint(PURE) and "open" not in _called(_tree(path))


def _called(tree):
  calls = (n.func for n in ast.walk(tree) if isinstance(n, ast.Call))
  return {f.id for f in calls if isinstance(f, ast.Name)}


@every_file
def test_data_do_not_import_jax(path):
  if _own(path) == "data":
    used = {name.split(".")[0] for name in imported(_tree(path))}
    assert used.isdisjoint({"jax", "flax", "optax", "chex", "orbax"})


@every_file
def test_optional_and_slow_packages_are_imported_where_they_are_used(path):
  used = {name.split(".")[0] for name in imported(at_module_level(_tree(path)))}
  assert used.isdisjoint((*OPTIONAL, "orbax"))


@every_file
def test_nothing_is_unpickled_or_evaluated(path):
  used = {name.split(".")[0] for name in imported(_tree(path))}
  assert used.isdisjoint({"pickle", "dill", "cloudpickle", "marshal", "shelve"})
  assert _called(_tree(path)).isdisjoint({"eval", "exec"})
  assert "allow_pickle=True" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["configs", "experiments"])
def test_the_package_does_not_import_what_uses_it(folder):
  for path in FILES:
    assert folder not in {name.split(".")[0] for name in imported(_tree(path))}, path


@pytest.mark.parametrize(
  ("own", "other"),
  [("kernels", "models"), ("objectives", "optim"), ("metrics", "objectives"), ("models", "data")]
  + [("update", "train"), ("evaluate", "train"), ("numerics", "reduce"), ("data", "metrics")],
)
def test_the_rule_itself_refuses(own, other):
  assert wrong(own, other)
