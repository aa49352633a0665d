"""Which core a plan is made for: the table, what this machine is taken for, what follows."""

import hashlib
from dataclasses import replace
from math import isclose

import pytest
from kernel_harness import compile_kernel
from machines import MACHINE, spread
from terminal import run
from torch import nn

import depthwise as dw
from depthwise.compiler.codegen.emit import emit
from depthwise.compiler.constants import constants_of
from depthwise.compiler.lowering.algorithms import ConvWorkload, Direct, Winograd, choose
from depthwise.compiler.options import CompileOptions
from depthwise.compiler.pipeline import rewrite, show_stage
from depthwise.compiler.plan import Plan
from depthwise.compiler.planning import make_plan
from depthwise.graph import Graph, capture
from depthwise.hardware import choice
from depthwise.hardware.core import Neighbours, ReadRates, core_of_machine
from depthwise.hardware.detection import as_cpuinfo, detect_core
from depthwise.hardware.known_cores import CORES, KNOWN, generic_core, names_for
from depthwise.runtime.target import TARGETS, find_target, host_architecture

K, M = 2**10, 2**20
V4, AARCH64 = find_target("x86-64-v4"), find_target("aarch64")


# ----------------------------------------------------------------------------------- the table


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.core.name)
def test_a_row_is_of_a_core_that_can_be(row):
    caches, reads, speed = row.core.caches, row.core.reads, row.core.arithmetic
    assert caches.l1 < caches.l2
    assert caches.l3 == 0 or caches.l2 < caches.l3
    assert caches.l1 % (16 * K) == caches.l2 % (128 * K) == 0
    assert reads.l2 > reads.l3 >= reads.memory > 0
    assert (reads.l3 == reads.memory) == (caches.l3 == 0)
    assert 1 <= speed.lane <= 4 * 5.8  # 4 units at the highest clock that is sold
    assert speed.most / speed.lane in (4, 8, 16)  # floats of the widest vectors
    assert 50 <= row.core.neighbours.meeting <= 500
    assert row.core.architecture in {target.architecture for target in TARGETS}


def test_each_cpu_is_in_one_row():
    places = [(c.vendor, c.family, m) for row in KNOWN for c in row.cpus for m in c.models]
    assert len(places) == len(set(places))
    assert len(CORES) == len(KNOWN)


@pytest.mark.parametrize(
    ("name", "l1", "l2"),
    [  # the makers' manuals
        ("zen2", 32, 512), ("zen3", 32, 512), ("zen4", 32, 1024), ("zen5", 48, 1024),
        ("skylake-server", 32, 1024), ("icelake-server", 48, 1280), ("sapphirerapids", 48, 2048),
        ("alderlake", 48, 1280), ("cortex-a76", 64, 512),
    ],
)  # fmt: skip
def test_private_caches_have_the_sizes_of_the_manuals(name, l1, l2):
    assert (CORES[name].caches.l1, CORES[name].caches.l2) == (l1 * K, l2 * K)


# ----------------------------------------------------------------------------------- detection

X86 = """processor : {}
vendor_id : {}
cpu family : {}
model : {}
model name : made up
flags : fpu fma {}
"""
ARM = """processor : {}
BogoMIPS : 108.00
Features : fp asimd evtstrm {}
CPU implementer : {}
CPU architecture: 8
CPU part : {}
CPU revision : 1
"""
BOARD = "Revision : d04170\nModel : Raspberry Pi 5 Model B Rev 1.0\n"

EXACT, NEAREST = "this machine's CPU", "nearest to this machine's CPU"


@pytest.mark.parametrize(
    ("text", "name", "origin"),
    [
        (X86.format(0, "AuthenticAMD", 26, 2, "avx512f avx_vnni"), "zen5", EXACT),
        (X86.format(0, "AuthenticAMD", 25, 17, "avx512f"), "zen4", EXACT),
        (X86.format(0, "AuthenticAMD", 25, 1, "avx2 vaes"), "zen3", EXACT),
        (X86.format(0, "AuthenticAMD", 23, 49, "avx2"), "zen2", EXACT),
        (X86.format(0, "GenuineIntel", 6, 143, "avx512f amx_tile"), "sapphirerapids", EXACT),
        (X86.format(0, "GenuineIntel", 6, 85, "avx512f"), "skylake-server", EXACT),
        (X86.format(0, "GenuineIntel", 6, 154, "avx2 avx_vnni"), "alderlake", EXACT),
        # a hypervisor's number, Rocket Lake's, on a CPU with AMX
        (X86.format(0, "GenuineIntel", 6, 167, "avx512f amx_tile"), "sapphirerapids", NEAREST),
        (X86.format(0, "AuthenticAMD", 27, 0, "avx512f avx_vnni"), "zen5", NEAREST),
        (ARM.format(0, "asimddp", "0x41", "0xd0b") + "\n" + BOARD, "cortex-a76", EXACT),
        (ARM.format(0, "", "0x41", "0xd08"), "cortex-a72", EXACT),
        (ARM.format(0, "asimddp", "0x41", "0xd4f"), "cortex-a76", NEAREST),  # Neoverse V2
        # small cores first, as in a telephone
        (ARM.format(0, "", "0x41", "0xd03") + "\n" + ARM.format(4, "", "0x41", "0xd08"),
         "cortex-a72", EXACT),
        (ARM.format(0, "", "0x61", "0x23"), "apple-m1", EXACT),
    ],
)  # fmt: skip
def test_a_cpu_is_known_by_what_the_system_says(text, name, origin):
    found = detect_core(text)
    assert found is not None
    assert (found.name, found.origin) == (name, origin)
    assert found == CORES[name]  # the origin is no part of the value


@pytest.mark.parametrize("text", [
    "", "processor : 0\n", X86.format(0, "GenuineIntel", 6, 60, "avx2"),  # Haswell
    X86.format(0, "CentaurHauls", 7, 27, "avx2"), X86.format(0, "AuthenticAMD", 23, 1, "avx2"),
    ARM.format(0, "", "0x51", "0x800"), "vendor_id : IBM/S390\n", X86.format(0, "?", "x", "y", ""),
])  # fmt: skip
def test_a_cpu_that_no_row_has_is_unknown(text):
    assert detect_core(text) is None


APPLE = {"vendor": "", "family": "", "model": "", "features": "", "leaf7_features": ""}


@pytest.mark.parametrize(
    ("told", "name"),
    [
        ({**APPLE, "brand_string": "Apple M1 Pro"}, ("apple-m1", EXACT)),
        ({**APPLE, "brand_string": "Apple M3"}, ("apple-m1", NEAREST)),
        ({"brand_string": "Intel(R) Xeon(R) W-2150B", "vendor": "GenuineIntel", "family": "6",
          "model": "85", "features": "FPU AVX1.0", "leaf7_features": "AVX512F"},
         ("skylake-server", EXACT)),
    ],
)  # fmt: skip
def test_macos_says_the_same_in_other_words(told, name):
    found = detect_core(as_cpuinfo(told))
    assert found
    assert (found.name, found.origin) == name


# ---------------------------------------------------------------------------------- the choice


@pytest.fixture
def unknown(monkeypatch):
    """Let this machine be of a CPU that no row has, never calibrated."""
    monkeypatch.setattr(choice, "cpu_text", lambda: "")
    monkeypatch.setattr(choice, "find", lambda: None)


def test_native_is_the_row_then_the_calibration_then_generic(unknown, monkeypatch):  # noqa: ARG001
    native = CompileOptions()
    assert native.core == generic_core(native.chosen)
    assert str(native.core) == f"generic (any CPU of {native.chosen.name})"
    monkeypatch.setattr(choice, "find", lambda: MACHINE)
    assert str(native.core) == "calibrated (this machine, calibrated 2026-01-01)"
    row = next(r for r in KNOWN if r.core.architecture == native.chosen.architecture)
    monkeypatch.setattr(choice, "cpu_text", lambda: "anything")
    monkeypatch.setattr(choice, "detect_core", lambda text: text and row.core)
    assert native.core == row.core


def test_a_named_target_never_asks_which_machine_it_is(monkeypatch):
    monkeypatch.setattr(choice, "native_core", lambda _: CORES["zen2"])
    for target in TARGETS:
        assert CompileOptions(target.name).core == generic_core(target)
    assert CompileOptions("x86-64-v3", tune_for="alderlake").core == CORES["alderlake"]
    assert str(CompileOptions("aarch64", tune_for="Cortex-A53").core) == "cortex-a53 (as asked for)"
    assert CompileOptions("wasm32", tune_for="Generic").core.architecture == "wasm32"


def test_this_machine_is_taken_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(choice, "native_core", lambda _: CORES["zen2"])
    assert CompileOptions(find_target("native").name, tune_for="native").core == CORES["zen2"]
    with pytest.raises(ValueError, match="that is this machine, which cannot run code for wasm32"):
        CompileOptions("wasm32", tune_for="native")


def test_a_calibration_is_taken_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(choice, "find", lambda: MACHINE)
    core = CompileOptions(tune_for="calibrated").core
    assert (core.name, core.caches.l2) == ("calibrated", M)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "aarch64", "tune_for": "zen9"},
         "tune_for='zen9': no core is known by that name: take one of apple-m1, cortex-a53, "
         f"cortex-a72, cortex-a76, {'calibrated, ' * find_target('aarch64').runs_here}generic$"),
        ({"tune_for": "zen9"}, "tune_for='zen9': .*, calibrated, generic$"),
        ({"target": "aarch64", "tune_for": "zen5"},
         "tune_for='zen5' is a core of x86_64, and the target is aarch64: take one of apple-m1, "),
        ({"target": "wasm32", "tune_for": "calibrated"},
         "tune_for='calibrated': the calibration is of this machine, which cannot run code for "
         "wasm32: take one of generic$"),
        ({"tune_for": "calibrated"},
         "tune_for='calibrated': this machine was not calibrated, or by another version: run "
         "`depthwise calibrate` first$"),
        ({"tune_for": 5}, "tune_for=5: the name of a core, as text$"),
    ],
)  # fmt: skip
def test_a_core_that_cannot_be_taken_is_refused(options, message, unknown):  # noqa: ARG001
    with pytest.raises(ValueError, match=f"^{message}"):
        CompileOptions(**options)


def test_a_calibrated_core_has_what_was_measured():
    core = core_of_machine(MACHINE, "x86_64")
    assert (core.caches.l1, core.caches.l2, core.caches.l3) == (32 * K, M, 0)
    assert (core.reads.l2, core.reads.l3, core.reads.memory) == (200, 10, 10)
    assert isclose(core.arithmetic.rate(8), 50)  # 100 GFLOP/s
    assert isclose(core.arithmetic.rate(4), 25)
    assert core.neighbours.meeting == 80
    assert core.neighbours.rate == 10  # five times 8 GB/s, but no more than memory's
    alone = core_of_machine(MACHINE.model_copy(update={"second": None, "caches": ()}), "x86_64")
    assert (alone.caches.l2, alone.neighbours.meeting) == (512 * K, 400)
    slow = MACHINE.second.model_copy(update={"barrier": spread(800)})
    apart = core_of_machine(MACHINE.model_copy(update={"second": slow}), "x86_64")
    assert apart.neighbours.rate == 4


# ----------------------------------------------------------------------------------- the plans


@pytest.mark.parametrize(
    ("target", "fetch", "rate"),
    [("x86-64-v4", 6.0, 128), ("x86-64-v3", 3.0, 64), ("x86-64-v2", 1.5, 32)],
)
def test_a_zen_5_has_the_constants_that_were_found_on_it(target, fetch, rate):
    found = constants_of(find_target(target), CORES["zen5"])
    assert (found.near, found.large, found.ahead) == (8192 * 4, 256 * K, 256 * K)
    assert (found.cold, found.windows, found.chain) == (512 * K, 640 * K, 256 * K)
    assert (found.fetch, found.multiply_add) == (fetch, 1 / rate)
    assert (found.meeting, found.foreign, found.element) == (400, 1 / 8, 1 / 10)


@pytest.mark.parametrize(
    ("name", "target", "cold", "windows", "chain", "fetch"),
    [  # KB; what the slow third cache of a Xeon gives is cold sooner
        ("sapphirerapids", "x86-64-v4", 256, 896, 256, 12.75),
        ("zen2", "x86-64-v3", 256, 320, 128, 3.5),
        ("cortex-a53", "aarch64", 64, 80, 32, 5.75),
    ],
)
def test_other_cores_have_constants_of_their_own(name, target, cold, windows, chain, fetch):
    found = constants_of(find_target(target), CORES[name])
    assert (found.cold, found.windows, found.chain) == (cold * K, windows * K, chain * K)
    assert found.fetch == fetch


@pytest.fixture(scope="module")
def mobilenet() -> Graph:
    return rewrite(capture(dw.create_model("mobilenet_v2").eval(), (1, 3, 224, 224)))


def decisions(graph: Graph, target: str, core: str) -> str:
    """Return a digest of what was decided: a line a layer, a line a group of steps."""
    plan = make_plan(graph, find_target(target), core=CORES[core])
    lines = [f"{layer} {way}" for layer, way in plan.algorithms.items()]
    lines += [f"{g.first} {g.last} {g.height}" for g in plan.groups]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_plans_for_a_zen_5_are_what_they_were(mobilenet):
    """Digests of what was decided; a change here is meant, as of tiles over rows for AVX2."""
    assert decisions(mobilenet, "x86-64-v4", "zen5") == "1f49f8d2268907cb"
    assert decisions(mobilenet, "x86-64-v3", "zen5") == "b3ab165ad18abb64"


def heights(plan: Plan) -> list[int]:
    return [group.height for group in plan.groups if group.height]


def test_another_core_gets_another_plan(mobilenet):
    large, small = (
        make_plan(mobilenet, AARCH64, core=CORES[name]) for name in ("apple-m1", "cortex-a53")
    )
    assert heights(small) != heights(large)
    for plan in (large, small):
        check = constants_of(AARCH64, plan.constants.core)
        windows = [b.bytes for b in plan.buffers if b.space == "arena" and b.frame is None]
        assert max(windows) <= check.windows


def test_a_slow_third_cache_makes_large_transformed_weights_dear():
    layer = ConvWorkload(1, 7, 7, 7, 9, (3, 3), 512, 512, 1)
    assert isinstance(choose(layer, constants_of(V4, CORES["zen5"])), Winograd)
    core = replace(CORES["zen5"], reads=ReadRates(270, 5, 5))
    assert isinstance(choose(layer, constants_of(V4, core)), Direct)


def test_threads_that_meet_slowly_divide_less():
    graph = rewrite(capture(nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU()).eval(), (1, 16, 32, 32)))
    quick, slow = (
        make_plan(graph, V4, threads=2, core=replace(CORES["zen5"], neighbours=Neighbours(m, 8)))
        for m in (100, 5000)
    )
    assert max(map(len, quick.regions)) == 2
    assert max(map(len, slow.regions)) == 1


# ---------------------------------------------------------------------------------- who says it


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()


def test_a_plan_and_a_manifest_say_whom_they_were_made_for():
    foreign = AARCH64 if V4.architecture == host_architecture() else V4
    name = names_for(foreign)[0]
    said = f"{name} (as asked for)"
    options = CompileOptions(foreign.name, tune_for=name)
    text = show_stage(capture(net(), (1, 3, 9, 9)), "plan", options)
    assert text.splitlines()[1] == f"tuned for {said}"
    made = dw.compile(net(), (1, 3, 9, 9), target=foreign.name, tune_for=name)
    assert made.manifest.build.tuned_for == said
    text = show_stage(capture(net(), (1, 3, 9, 9)), "plan", CompileOptions(foreign.name))
    assert text.splitlines()[1] == f"tuned for generic (any CPU of {foreign.name})"


NETS = "from torch import nn\ndef tiny():\n    return nn.Conv2d(3, 8, 3)\n"


@pytest.mark.parametrize("verb", ["compile", "ship", "bench"])
def test_every_verb_that_compiles_takes_a_core(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    code, _, err = run(
        verb, f"{tmp_path}/nets.py:tiny", "--shape", "1,3,9,9", "--tune-for", "zen9", capsys=capsys
    )
    assert code == 2
    assert "tune_for='zen9': no core is known by that name: take one of " in err


def test_the_layers_of_a_bench_are_those_of_the_core(tmp_path, monkeypatch, capsys):
    (tmp_path / "nets.py").write_text(NETS)
    seen = []

    def profile(plan: Plan) -> None:
        seen.append(plan.constants.core)
        raise ValueError("seen")

    monkeypatch.setattr("depthwise.bench.layers.profile", profile)
    name = names_for(find_target("native"))[-1]
    run(
        "bench", f"{tmp_path}/nets.py:tiny", "--shape", "1,3,9,9", "--layers", "--tune-for", name,
        capsys=capsys,
    )  # fmt: skip
    assert seen == [CORES[name]]


STRIPS = """
#include "depthwise.h"
int strips(void) {
    const struct depthwise a = {.rows = 28, .width = 96, .channels = 64, .R = 3, .S = 3,
                                .in_pixel = 64, .stride_y = 1, .stride_x = 1};
    return f32_depthwise_strips(&a);
}
"""


@pytest.mark.parametrize(("l1", "strips"), [(48, 1), (128, 0)])
def test_rows_that_the_first_cache_holds_are_not_done_in_strips(l1, strips):
    """Three or four rows of 96 pixels, 32 channels at a time: 36 or 48 KB of 24 or 64."""
    text = f"#define L1_BYTES ({l1} * 1024)\n{STRIPS}"
    assert compile_kernel(text, vector=4, naive=False).strips() == strips


@pytest.mark.parametrize(("core", "fetches"), [("sapphirerapids", 0), ("zen5", 1)])
def test_the_c_says_whether_depthwise_convolutions_fetch_rows(mobilenet, core, fetches):
    text = emit(make_plan(mobilenet, V4, core=CORES[core]))
    assert f"#define DEPTHWISE_FETCHES {fetches}\n" in text


def test_the_c_says_how_large_the_first_cache_is(mobilenet):
    assert "#define L1_BYTES 131072\n" in emit(
        make_plan(mobilenet, AARCH64, core=CORES["apple-m1"])
    )
