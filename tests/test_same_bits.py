"""Networks in reduced precisions give the simulator's bits on every kind of CPU.

`python tests/same_bits.py` takes ten thousand inputs; here are fewer.
"""

import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from precisions import Case
from same_bits import (
    NETWORKS,
    TARGETS,
    compiled,
    differing,
    made,
    photographs,
    plan_for,
    random_images,
    simulated,
)
from tiers import slow_where

SOME = 24  # inputs
CASES = [Case(precision, target) for precision, targets in TARGETS.items() for target in targets]

SOON = (  # checked: each type on the CPUs that have it, and bytes on all others as well
    *(case for case in CASES if case.precision == "int8"),
    Case("bfloat16", "x86-64-amx"), Case("bfloat16", "portable"),
    Case("float16", "x86-64-avx512-fp16"), Case("float16", "portable"), Case("float16", "aarch64"),
)  # fmt: skip


def check(name: str, case: Case, images: np.ndarray, folder: Path) -> None:
    """Hold what a network's library gives to the simulator's bits."""
    target = case.target
    if not target.runs_here and not target.runner:
        pytest.skip(f"this CPU does not run {target.name}: NOT TESTED")
    if target.runner and target.runner.startswith("qemu") and not shutil.which(target.runner):
        pytest.skip(f"NOT TESTED for {target.name}: no {target.runner}, apt-get install qemu-user")
    reduced = made(name, case)
    if not reduced.exact:
        pytest.skip(f"some sums of {name} are in no order that is defined")
    found = compiled(plan_for(reduced, target), folder)(images)
    assert differing(found, simulated(reduced, images)) == 0


@pytest.mark.parametrize("case", slow_where(lambda case: case not in SOON, CASES), ids=str)
def test_every_kernel_gives_the_same_bits(case: Case, tmp_path):
    name = "every kernel" if case.precision == "int8" else "block"
    assert made(name, case).exact
    side = NETWORKS[name].side
    check(name, case, random_images(SOME, side, case.precision == "int8"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_give_the_same_bits(name: str, case: Case, tmp_path):
    side = NETWORKS[name].side
    noise = random_images(SOME, side, case.precision == "int8")
    bundled = photographs(Path(str(files("depthwise") / "data")), side, SOME)
    check(name, case, np.concatenate([noise, bundled]), tmp_path)


def test_a_bit_that_differs_is_counted():
    one = np.zeros((3, 4), np.float32)
    other = one.copy()
    other[1, 2] = -0.0
    other[2, :2] = np.nan
    assert differing(one, other) == 2
    assert differing(other, other) == 0
