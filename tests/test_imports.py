"""The floors of docs/design.md: a module imports only from its own package and those above it."""

import ast
from pathlib import Path

import pytest

import depthwise

ROOT = Path(depthwise.__file__).parent

FLOORS = (
    "errors", "escaping", "console", "files", "progress", "memory", "layers", "families", "weights",
    "graph", "sources", "analysis", "kernels", "runtime", "compiler", "hardware", "latency",
    "bench", "report", "shipping", "cli",
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
