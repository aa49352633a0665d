"""Specialised kernels keep their sums in registers: no inner loop moves vectors to the stack."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import depthwise as dw
from depthwise.compiler.build import find_compiler
from depthwise.compiler.emit import emit
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan, make_plan
from depthwise.compiler.target import find_target
from depthwise.graph import capture, export

MULTIPLY_ADD = re.compile(r"\b(vfmadd\w+|fmla)\b")
ON_STACK = {
    "x86_64": re.compile(r"%[yz]mm\d+.*\(%r[sb]p|\(%r[sb]p.*%[yz]mm\d+"),
    "aarch64": re.compile(r"\b(ldr|str|ldp|stp|ldur|stur)\s+q.*\[(sp|x29)"),
}
KERNELS = ("f32_conv", "f32_depthwise", "f32_winograd")
ENOUGH = 8  # multiply-adds in a loop that is a register tile's


def assembly(plan: Plan, folder: Path) -> str:
    compiler = find_compiler()
    (folder / "net.c").write_text(emit(plan))
    command = [*compiler.command, *compiler.flags(plan.target), "-S", "net.c", "-o", "net.s"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "net.s").read_text()


def functions(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each kernel's name and its lines."""
    name, lines = "", []
    for line in text.splitlines():
        if found := re.match(r"_?(\w+):", line):
            name, lines = found[1], []
        lines.append(line)
        if name.startswith(KERNELS) and line.strip().startswith(".cfi_endproc"):
            yield name, lines


def inner_loops(lines: list[str]) -> Iterator[list[str]]:
    """Yield the lines from a label to the last jump back to it, where no other loop is inside."""
    labels = {line[:-1].split(":")[0]: i for i, line in enumerate(lines) if line.startswith(".L")}
    loops = {}
    for i, line in enumerate(lines):
        words = line.split()
        if (
            words
            and words[-1] in labels
            and labels[words[-1]] <= i
            and re.match(r"[jbct]", words[0])
        ):
            loops[labels[words[-1]]] = i
    for start, stop in loops.items():
        if not any(start < other and end <= stop for other, end in loops.items()):
            yield lines[start : stop + 1]


def spills(plan: Plan, folder: Path) -> tuple[int, list[str]]:
    """Return how many register tiles there are, and those that spill."""
    pattern = ON_STACK[plan.target.architecture]
    tiles, found = 0, []
    for name, lines in functions(assembly(plan, folder)):
        for loop in inner_loops(lines):
            if sum(bool(MULTIPLY_ADD.search(line)) for line in loop) < ENOUGH:
                continue
            tiles += 1
            moved = [line.strip() for line in loop if pattern.search(line)]
            found += [f"{name}: {line}" for line in moved[:1]]
    return tiles, found


def plan_for(network: str, target: str) -> Plan:
    torch.manual_seed(0)
    graph = rewrite(capture(export(dw.build(network).eval(), [(1, 3, 224, 224)])))
    return make_plan(graph, find_target(target))


CASES = [
    ("mobilenet_v3_small", "x86-64-v4"),
    *(
        pytest.param(network, target, marks=pytest.mark.slow)
        for network in ("mobilenet_v2", "ghostnet", "resnet50")
        for target in ("x86-64-v4", "x86-64-v3", "aarch64")
    ),
]


@pytest.mark.parametrize(("network", "target"), CASES)
def test_no_inner_loop_moves_vectors_to_the_stack(network: str, target: str, tmp_path: Path):
    tiles, found = spills(plan_for(network, target), tmp_path)
    assert tiles >= 20
    assert found == []


def test_a_tile_that_is_too_large_is_found(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("depthwise.compiler.algorithms.default_tile", lambda *_: (8, 6))
    _, found = spills(plan_for("mobilenet_v3_small", "x86-64-v4"), tmp_path)
    assert found
