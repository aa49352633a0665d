"""Reads the assembly of convolutions: no sum goes to the stack while a loop multiplies and adds."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import depthwise as dw
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.lowering.algorithms import direct_only
from depthwise.compiler.lowering.calls import KernelCall
from depthwise.compiler.pipeline import rewrite
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.compiler.work import conv_runs
from depthwise.graph import Graph, capture, export
from depthwise.hardware.known_cores import CORES
from depthwise.runtime.target import find_target
from depthwise.toolchain.build import Compiler, find_compiler

TARGETS = ("x86-64-v4", "x86-64-v3", "aarch64")
KERNELS = ("f32_conv", "f32_depthwise")  # transforms of Winograd keep theirs in arrays on purpose
LEAST = 8  # multiply-adds of a loop that counts
# the compiler that is installed with us for every target, gcc for what it makes by itself
BUILDS = [
    *(pytest.param(None, target, id=target) for target in TARGETS),
    *(pytest.param("gcc", target, id=f"gcc-{target}") for target in TARGETS),
]

LABEL = re.compile(r"^([.\w]+):")
JUMP = re.compile(r"^\s(?:j\w+|b(?:\.\w+)?|cbn?z\s+\w+,|tbn?z\s+\w+,\s*#\d+,)\s+(\.L\w+)")
MULTIPLY_ADD = re.compile(r"^\s(?:vfn?m(?:add|sub)\d+ps|fml[as])\s")
FRAME = re.compile(r"^\smovq\s+%rsp, %rbp$")  # gcc's, where it aligns the stack
ON_STACK = re.compile(r"\(%rsp\b.*%[xyz]mm|%[xyz]mm.*\(%rsp\b|\b[qv]\d+\b.*\[sp\b")


def inner_loops(assembly: str) -> Iterator[tuple[str, list[str]]]:
    """Return the function and the lines of each loop without another in it that multiplies.

    What lies on the stack is addressed by its pointer there, whatever the function does it by.
    """
    function, framed, labels, lines = "", False, {}, assembly.splitlines()
    starts: list[int] = []  # of the loops that are closed, the last one last
    for number, line in enumerate(lines):
        if found := LABEL.match(line):
            labels[found[1]] = number
            if not found[1].startswith("."):
                function, framed, starts = found[1], False, []
        framed = framed or bool(FRAME.match(line))
        jump = JUMP.match(line)
        start = labels.get(jump[1]) if jump else None
        if start is None:
            continue
        body = lines[start : number + 1]
        multiplies = sum(bool(MULTIPLY_ADD.match(line)) for line in body)
        if multiplies >= LEAST and not any(start <= inner for inner in starts):
            yield function, [line.replace("(%rbp", "(%rsp") for line in body] if framed else body
        if multiplies:
            starts.append(start)


def spills(assembly: str) -> list[str]:
    """Return the vector moves from and to the stack in inner loops, with their function."""
    return [
        f"{function}: {line.strip()}"
        for function, body in inner_loops(assembly)
        for line in body
        if ON_STACK.search(line)
    ]


@cache
def graph_of(network: str) -> Graph:
    torch.manual_seed(0)
    return rewrite(capture(export(dw.create_model(network).eval(), [(1, 3, 224, 224)])))


@cache
def plan_of(network: str, target: str) -> Plan:
    """Return a plan in which f32_conv computes each dense convolution."""
    graph, cpu = graph_of(network), find_target(target)
    plan = make_plan(graph, cpu, optimize=None)
    direct = direct_only(plan.algorithms, plan.constants)
    return make_plan(graph, cpu, optimize=None, algorithms=direct)


def compiler_for(cc: str | None, target: str) -> Compiler:
    """Return the compiler; skips where it is missing, or compiles for another architecture."""
    if cc and not shutil.which(cc):
        pytest.skip(f"no {cc} on this machine: what it spills is NOT TESTED")
    compiler = find_compiler(cc)
    if not compiler.compiles_for(find_target(target)):
        pytest.skip(f"{cc} compiles for {compiler.machine} here, not for {target}")
    return compiler


def assemble(plan: Plan, steps: Sequence[KernelCall], directory: Path, compiler: Compiler) -> str:
    """Return the assembly of the steps' kernels, specialised as the plan's network has them."""
    code, made = directory / "net.c", directory / "net.s"
    code.write_text(emit(replace(plan, regions=((tuple(steps),),))))
    command = [*compiler.command, *compiler.flags(plan.target), "-S", str(code), "-o", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    return made.read_text()


def shape_of(step: KernelCall) -> tuple:
    """Return what decides a kernel's registers: its tile, its taps and what is left over."""
    a = step.arguments
    if step.kernel == "f32_conv":
        tile = a["tile_pixels"], a["tile_vectors"], a["tile_depth"], a["over_rows"]
        return *tile, conv_runs(a)[1] % a["tile_pixels"], a["outs"] % 16, a["taps"]
    return a["R"], a["stride_y"], a["width"] % 7, a["channels"] % 16


def check_steps(
    plan: Plan, steps: Sequence[KernelCall], directory: Path, compiler: Compiler
) -> None:
    assembly = assemble(plan, steps, directory, compiler)
    looping = {function.rsplit("_", 1)[0] for function, _ in inner_loops(assembly)}
    assert looping == {step.kernel for step in steps}
    assert not spills(assembly)


@pytest.mark.parametrize(("cc", "target"), BUILDS)
def test_nothing_spills(cc, target, tmp_path):
    """One layer of each tile and kernel of MobileNetV3-Small."""
    compiler, plan = compiler_for(cc, target), plan_of("mobilenet_v3_small", target)
    shapes = {shape_of(step): step for step in plan.steps if step.kernel in KERNELS}
    check_steps(plan, list(shapes.values()), tmp_path, compiler)


def test_nothing_spills_where_lines_are_asked_for_along_the_loops(tmp_path):
    target, core = find_target("x86-64-v4"), CORES["sapphirerapids"]
    plan = make_plan(graph_of("mobilenet_v3_small"), target, optimize=None, core=core)
    asking = [step for step in plan.steps if step.arguments.get("prefetch_steps")]
    shapes = {shape_of(step): step for step in asking if step.arguments["near_steps"]}
    check_steps(plan, list(shapes.values())[:2], tmp_path, find_compiler())


@pytest.mark.slow
@pytest.mark.parametrize(("cc", "target"), BUILDS)
@pytest.mark.parametrize("network", ["mobilenet_v2", "ghostnet", "resnet50"])
def test_nothing_spills_in(network, cc, target, tmp_path):
    compiler, plan = compiler_for(cc, target), plan_of(network, target)
    steps = [step for step in plan.steps if step.kernel in KERNELS]
    check_steps(plan, steps, tmp_path, compiler)


@pytest.mark.parametrize(("cc", "target"), BUILDS)
def test_a_tile_too_large_spills(cc, target, tmp_path):
    """The tests above would see it: as many sums as there are registers."""
    compiler = compiler_for(cc, target)
    plan = plan_of("mobilenet_v3_small", target)
    step = next(s for s in plan.steps if s.kernel == "f32_conv" and s.arguments["outs"] == 288)
    pixels = plan.target.registers // 4 + 1
    steps = [step.with_arguments(tile_pixels=pixels, tile_vectors=4)]
    assert spills(assemble(plan, steps, tmp_path, compiler))


@pytest.mark.parametrize("target", TARGETS)
def test_weights_to_come_are_asked_for(target, tmp_path):
    plan = plan_of("mobilenet_v3_small", target)
    step = next(s for s in plan.steps if s.kernel == "f32_conv" and s.arguments["prefetch_lines"])
    assembly = assemble(plan, [step], tmp_path, find_compiler())
    assert re.search(r"^\s+(prefetcht0|prfm)\b", assembly, re.MULTILINE)
