"""The floors of docs/design.md: a module imports only from its own package and those above it."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import depthwise

ROOT = Path(depthwise.__file__).parent

FLOORS = (
    "errors", "escaping", "users_code", "console", "files", "progress", "memory", "cores", "layers",
    "families", "weights", "graph", "calibration", "quantization", "sources", "analysis", "kernels",
    "runtime", "toolchain", "hardware", "compiler", "latency", "training", "bench", "report",
    "precision", "slimming", "shipping", "cli",
)  # fmt: skip

MODULES = sorted(ROOT.rglob("*.py"))


def floor(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> list[str]:
    modules = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the floor"
            modules += [f"{node.module}.{alias.name}" for alias in node.names]
    return [module for module in modules if module.split(".")[0] == "depthwise"]


def test_every_package_has_a_floor():
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages <= set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_come_from_above(path):
    own = path.relative_to(ROOT).with_suffix("").parts[0]
    if own not in FLOORS:
        return  # depthwise/__init__.py and __main__.py show and start what stands on the floors
    allowed = {*FLOORS[: FLOORS.index(own) + 1], "__version__"}
    below = [module for module in imported(path) if floor(module) not in allowed]
    assert not below, f"{own} imports {below[0]}, which stands below it"


def test_files_stay_readable():
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 400, f"{path} is over 400 lines: split it"


# Names of classes that may stand in several modules, for they mean the same in each.
SHARED = {
    "DeformRoIPool": "the layer and the operator that it becomes",
    "Importer": "each front end's: what turns its format into a graph",
    "Refusal": "each front end's: why a rule does not take an operator",
    "Inception": "a row of the table in each paper on such networks",
}


def named(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the names that a module gives to classes and types, and whether it is to a class."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name, True
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and not target.id.isupper():
                    yield target.id, False


def test_a_class_does_not_share_its_name_with_another_type():
    """One name, one meaning: a reader who finds `Stage` must not have to ask which."""
    homes = defaultdict(list)
    classes = set()
    for path in MODULES:
        for name, is_class in named(path):
            homes[name].append(str(path.relative_to(ROOT)))
            classes |= {name} if is_class else set()
    shared = {name: homes[name] for name in sorted(classes) if len(homes[name]) > 1}
    assert shared.keys() == SHARED.keys(), shared


def loaded(path: Path) -> set[str]:
    """Return the modules that one needs before it, for types alone too; not what calls import."""
    tree = ast.parse(path.read_text())
    for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
        function.body = []
    names = {module_name(path): path for path in MODULES}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in names else str(node.module) for name in full}
    return {name for name in found if name in names and "." in name}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def test_modules_import_each_other_in_no_circle():
    """Not for annotations either: what two modules share belongs to a third."""
    needed = {module_name(path): loaded(path) for path in MODULES if path.parent != ROOT}
    try:
        TopologicalSorter(needed).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))
