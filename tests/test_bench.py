"""The comparison: who takes which turn, who is left out and why, and what the file says."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from machines import MACHINE
from terminal import run
from torch import nn

from depthwise.analysis.tables import render
from depthwise.bench import exported_model as cases
from depthwise.bench import peak
from depthwise.bench.exported_model import Question, settle
from depthwise.bench.holding import hold
from depthwise.bench.peers import OURS, PEERS, BatchWay, Runtime, compiled_by, find_peers, ways
from depthwise.bench.record import BenchRecord, NetworkResult, RuntimeRecord
from depthwise.bench.rounds import TOLERANCE, Participant, compare, take_turns
from depthwise.bench.tables import network_table
from depthwise.bench.worker import error_of, together
from depthwise.cli import main
from depthwise.compiler import pipeline
from depthwise.compiler.lowering.algorithms import Winograd
from depthwise.compiler.planning import make_plan
from depthwise.errors import CannotRun
from depthwise.graph import capture
from depthwise.runtime.target import cpu_features, find_target
from depthwise.toolchain.build import find_compiler


def tiny():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


def ask(net=None):
    return Question("tiny", {}, "", net or tiny(), (1, 3, 9, 9))


@pytest.fixture
def fake(monkeypatch):
    """Return a runtime that behaves as the fake of that name does."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parents[1]}")

    def named(name):
        monkeypatch.setenv("FAKE_PEER", name)
        return Runtime(name, "fake_peers", ("numpy",), ("library",))

    return named


# --------------------------------------------------------------------------------------- turns


class Fake:
    """A runtime in this process that takes `seconds`, and fails at its run number `last`."""

    def __init__(self, name, seconds, log, last=None):
        self.name, self.seconds, self.log, self.last = name, seconds, log, last
        self.pid = os.getpid()

    def run(self, count):
        self.log.append((self.name, count))
        if self.last is not None and len([n for n, _ in self.log if n == self.name]) > self.last:
            raise CannotRun("lost")
        return [self.seconds] * count


def entries(log, **last):
    seconds = {"a": 0.025, "b": 0.05, "c": 10.0}
    return [
        Participant(Runtime(name, "", (), ("onnx",)), worker=Fake(name, s, log, last.get(name)))
        for name, s in seconds.items()
    ]


def test_everyone_gets_a_turn_in_every_round_and_the_order_turns():
    log, measured = [], []
    found = entries(log)
    turns = take_turns(found, 4, lambda: measured.append(len(log)) or 1e9)
    assert log[:5] == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 1)]  # how long each takes
    order = "".join(name for name, _ in log[5:])
    assert order == "abc" + "bca" + "cab" + "abc"
    assert measured == [5, 8, 11, 14]  # before each round
    assert [turn.peak for turn in turns] == [1e9] * 4
    assert all(0 <= (turn.foreign or 0) <= 1 for turn in turns)
    assert all(len(entry.rounds) == 4 for entry in found)


def test_turns_last_alike_and_hold_a_few_runs_but_of_what_takes_longer_than_a_turn():
    log = []
    take_turns(entries(log), 1, lambda: 1.0)
    assert dict(log[5:]) == {"a": 10, "b": 5, "c": 1}


def test_one_that_fails_is_out_and_the_others_go_on():
    log = []
    found = entries(log, b=3)
    take_turns(found, 3, lambda: 1.0)
    assert [name for name, _ in log].count("b") == 4  # the second round's is the last
    assert found[1].record.failed == "lost"
    assert found[1].record.rounds == ()
    assert len(found[2].record.rounds) == 3


# ----------------------------------------------------------------------------------- throughput


def test_a_batch_is_given_at_once_in_parts_or_image_by_image():
    assert ways(32, 2) == (BatchWay(1, 32), BatchWay(2, 16), BatchWay(2, 1))
    assert ways(8, 1) == (BatchWay(1, 8), BatchWay(1, 1))
    assert ways(4, 4) == (BatchWay(1, 4), BatchWay(4, 1))
    said = [way.said(32) for way in ways(32, 2)]
    assert said == ["", "2 x 16 images", "2 x 1 image"]
    with pytest.raises(ValueError, match=r"--batch 30: 4 threads .* multiple of 4"):
        ways(30, 4)


def test_a_batch_is_not_parted_for_what_does_that_itself(fake):
    taken = [OURS.takes(way, 32) for way in ways(32, 2)]
    assert taken == [True, False, True]
    assert all(fake("right").takes(way, 32) for way in ways(32, 2))


def test_copies_run_at_once_and_as_often_as_asked():
    barrier, log = Barrier(2), []

    def copy(name):
        def run():
            barrier.wait(10)  # breaks where the other copy does not run
            log.append(name)
            return np.array([name])

        return run

    assert together([copy(0), copy(1)], 3)() == 0
    assert sorted(log) == [0, 0, 0, 1, 1, 1]


def test_each_runtime_gets_the_batch_in_its_fastest_way(fake):
    question = replace(ask(), shape=(4, 3, 9, 9))
    found = compare(question, [fake("patient")], 2, 1, throughput=True)
    peer = found.peers[0]
    assert peer.way == "2 x 2 images"  # 7 ms, all at once 11, one by one 10
    assert [runtime.name for runtime in found.runtimes] == ["depthwise", "patient"]
    assert found.input_shape == (4, 3, 9, 9)
    assert "images/s" in render(network_table(found, 2), 200)


# ------------------------------------------------------------------------------- peers held to less


FEATURES = "from numpy._core._multiarray_umath import __cpu_features__ as f; print(f['{}'])"


@pytest.mark.skipif("cpuid_fault" not in cpu_features(), reason="CPUID does not fault here")
def test_a_held_process_does_not_see_what_it_is_not_to_use():
    held = hold(find_target("x86-64-v3"))

    def sees(feature, environment):
        command = [sys.executable, "-c", FEATURES.format(feature)]
        env = {**os.environ, **environment}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return done.stdout.strip() == "True"

    if find_target("native").name == "x86-64-v4":
        assert sees("AVX512F", {})
        assert held.said
    assert not sees("AVX512F", held.environment)
    assert sees("AVX2", held.environment)
    if sees("AVX512VNNI", {}):
        held = hold(find_target("x86-64-vnni"))
        assert sees("AVX512VNNI", held.environment)
        assert not sees("AVX512FP16", held.environment)


def test_nobody_is_held_to_what_our_library_is_for_anyhow():
    assert not hold(find_target("native")).environment
    with pytest.raises(
        ValueError, match=r"--target x86-64-v2: .* held to x86-64-v3 or x86-64-vnni"
    ):
        hold(find_target("x86-64-v2"))


# ------------------------------------------------------------------------------- the processes


def test_ours_and_one_that_agrees(fake):
    found = compare(ask(), [fake("right")], 1, 2)
    assert [runtime.name for runtime in found.runtimes] == [
        "depthwise",
        "depthwise, direct",
        "right",
    ]
    ours, direct, right = found.runtimes
    assert (len(ours.rounds), len(right.rounds)) == (2, 2)
    assert "all its convolutions are direct" in direct.failed  # so it is left out
    assert found.direct is found.ours
    assert found.ours.error <= 1e-6
    assert len(found.peaks) == 2
    assert found.macs == 3 * 9 * 8 * 49
    assert found.best_peer.name == "right"


def test_our_library_without_winograd_takes_part_where_ours_has_it():
    net = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)).eval()
    question = Question("dense", {}, "", net, (1, 64, 28, 28))
    plan = make_plan(pipeline.rewrite(capture(net, question.shape)), find_target("native"))
    if not any(isinstance(algorithm, Winograd) for algorithm in plan.algorithms.values()):
        pytest.skip("this target has no Winograd for a layer of 64 channels")
    found = compare(question, [], 1, 2)
    assert found.direct.name == "depthwise, direct"
    assert found.direct.error <= TOLERANCE
    assert len(found.direct.rounds) == 2
    assert found.peers == ()


def test_our_own_code_by_other_compilers_takes_part():
    if not shutil.which("gcc"):
        pytest.skip("no gcc on this machine: comparing compilers is NOT TESTED")
    found = compare(ask(), [], 1, 2, compiled_by("gcc,gcc-99"))
    gcc, missing = found.compiled
    assert (gcc.name, gcc.cc, gcc.failed) == ("depthwise, gcc", "gcc", None)
    assert gcc.versions == {"gcc": find_compiler("gcc").version}
    assert (len(gcc.rounds), gcc.error <= 1e-6) == (2, True)
    assert (missing.rounds, missing.failed.partition(":")[0]) == (
        (),
        "no C compiler 'gcc-99' on the PATH",
    )
    assert (found.peers, found.best_peer) == ((), None)
    text = render(network_table(found, 1), 140)
    assert re.search(r"^ *depthwise, gcc \d+\.\d.* \d\.\d\dx ", text, re.MULTILINE)
    assert "depthwise, gcc-99 cannot run it: no C compiler 'gcc-99'" in text


def test_what_a_runtime_prints_is_not_taken_for_an_answer(fake):
    assert compare(ask(), [fake("loud")], 1, 1).best_peer.name == "loud"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wrong", "its output is off by 5.0e-02 of the largest"),
        ("refusing", "RuntimeError: operator Sorted has no kernel"),
        ("dying", "its process ended with 3: assertion failed in kernel.cpp"),
        ("tiring", "RuntimeError: out of memory"),
    ],
)
def test_one_that_cannot_is_listed_with_its_reason(fake, name, reason):
    found = compare(ask(), [fake(name)], 1, 1)
    (peer,) = found.peers
    assert peer.failed == reason
    assert (peer.rounds, found.best_peer, found.ratio(peer)) == ((), None, None)
    assert found.ours.rounds
    text = render(network_table(found, 1), 140)
    assert reason.split(":")[0] in text


def test_one_that_is_not_installed_is_listed():
    missing = Runtime("other", "other", ("no-such-runtime",), ("onnx",))
    found = compare(ask(), [missing], 1, 1)
    assert found.peers[0].failed == "no-such-runtime is not installed: pip install no-such-runtime"
    (litert,) = find_peers("litert")
    found = compare(ask(), [replace(litert, packages=("no-such-runtime",))], 1, 1)
    assert "pip install 'depthwise[litert]', in an environment of its own" in found.peers[0].failed


def test_a_network_that_a_form_cannot_hold_is_told_of_those_that_read_it(monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no such operator\nand a page of advice")

    monkeypatch.setitem(cases.WRITERS, "onnx", refuse)
    found = compare(ask(), [Runtime("other", "other", (), ("onnx",))], 1, 1)
    expected = "cannot be exported as onnx: NotImplementedError: no such operator"
    assert found.peers[0].failed == expected


def test_one_that_reads_two_forms_is_opened_with_either(fake, monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no such operator")

    monkeypatch.setitem(cases.WRITERS, "onnx", refuse)
    peer = replace(fake("right"), forms=("onnx", "program"))
    assert compare(ask(), [peer], 1, 1).peers[0].failed is None


def test_our_own_library_must_agree(monkeypatch):
    monkeypatch.setattr("depthwise.bench.rounds.TOLERANCE", -1.0)
    with pytest.raises(CannotRun, match="our own library of tiny: its output is off by"):
        compare(ask(), [], 1, 1)


def test_a_network_of_several_outputs_is_refused():
    class Two(nn.Module):
        def forward(self, x):
            return x, x + 1

    with pytest.raises(ValueError, match="returns several values"):
        compare(ask(Two()), [], 1, 1)


def test_networks_of_other_numbers_are_refused(tmp_path, monkeypatch, capsys):
    class Best(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    with pytest.raises(ValueError, match="has other numbers than float32, on which runtimes are"):
        compare(ask(Best()), [], 1, 1)
    monkeypatch.chdir(tmp_path)
    text = "import torch\ndef net():\n    return torch.nn.Conv2d(3, 4, 1).half()\n"
    Path("halves.py").write_text(text)
    for shape, dtype in (("1,3,8,8", "float16"), ("1,3,8,8:uint8", "uint8")):
        code, _, err = run("bench", "halves.py:net", "--shape", shape, capsys=capsys)
        assert (code, f"takes {dtype}: runtimes are compared on networks" in err) == (2, True)


def test_one_output_may_lie_in_a_dict_and_a_list():
    class Nested(nn.Module):
        def forward(self, x):
            return {"scores": [x + 1]}

    found = compare(ask(Nested()), list(find_peers("pytorch")), 1, 1)
    assert found.ours.rounds
    assert found.peers[0].failed is None


def test_errors_are_of_the_largest_and_shapes_must_fit():
    expected = np.array([[0.0, -4.0]])
    assert error_of(np.array([0.0, -3.0]), expected) == 0.25
    assert error_of(np.zeros(3), expected) == np.inf
    assert error_of(np.array([np.nan, -4.0]), expected) == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_peer_that_is_installed_agrees(peer):
    names = {"onnxruntime", "openvino", "ncnn", "mnn", "litert"} & {peer.name}
    if any(
        find_spec({"mnn": "MNN", "litert": "litert_torch"}.get(name, name)) is None
        for name in names
    ):
        pytest.skip(f"{peer.name} is not installed: pip install 'depthwise[bench]'")
    (found,) = compare(ask(), [peer], 1, 1).peers
    assert found.failed is None
    assert found.error <= TOLERANCE


# ----------------------------------------------------------------------------- untrained weights


def test_untrained_networks_keep_the_scale_of_their_values():
    net = tiny()
    nn.init.constant_(net[0].weight, 1e-3)
    settle(net, (1, 3, 9, 9))
    assert not net[1].training
    assert net[1].momentum == 0.1
    with torch.no_grad():
        scaled = net[:2](torch.randn(8, 3, 9, 9))
    assert 0.5 < scaled.std() < 2


# --------------------------------------------------------------------------------------- records


def runtime(name, *rounds, failed=None):
    return RuntimeRecord(name=name, versions={}, rounds=rounds, failed=failed)


def record(**peers):
    runtimes = [runtime("depthwise", (2.0, 2.0, 8.0), (4.0,), (1.0,))]
    runtimes += [runtime(name, *rounds) for name, rounds in peers.items()]
    return NetworkResult(
        network="n", settings={}, weights="", input_shape=(1, 3, 8, 8), macs=100, params=1,
        peaks=(400.0, 100.0, 200.0), runtimes=tuple(runtimes),
    )  # fmt: skip


def test_ratios_are_taken_within_rounds():
    found = record(a=[(6.0,), (4.0,), (4.0,)], b=[(2.2,), (8.8,), (1.1,)])
    a, b = found.peers
    assert (a.seconds, b.seconds) == (4.0, 2.2)  # over all rounds a takes twice ours
    assert found.ratio(a) == 3.0  # of 3, 1, 4
    assert found.ratio(b) == pytest.approx(1.1)  # of 1.1, 2.2, 1.1
    assert found.best_peer is b


def test_the_share_of_the_peak_is_taken_within_rounds():
    found = record()
    assert found.share_of_peak(found.ours) == 0.5  # 200 of 2 x 400, 4 x 100, 1 x 200


def test_no_share_of_the_peak_is_above_all_of_it():
    found = record()
    within = found.model_copy(update={"macs": 205})  # 1.025 times the peak
    over = found.model_copy(update={"macs": 482})
    assert within.share_of_peak(found.ours) == 1.0
    assert over.share_of_peak(found.ours) is None
    assert over.times_peak(found.ours) == pytest.approx(2.41)
    assert over.is_over(found.ours)
    assert not within.is_over(found.ours)
    text = render(network_table(over, 1), 140)
    assert "241" not in text
    assert "–: faster than the multiply-adds counted allow" in text
    assert "–:" not in render(network_table(within, 1), 140)


EVEN = record(a=[(6.0,), (4.0,), (4.0,)]).model_copy(
    update={"runtimes": (runtime("depthwise", (2.0,), (4.0,), (3.9,)), runtime("a", *[(6.0,)] * 3))}
)


@pytest.mark.parametrize(
    ("foreign", "words"),
    [
        ((0.01, 0.02, None), ""), ((), ""), ((None, None, None), ""),
        ((0.01, 0.9, 0.02), ""),  # one round of three: medians leave it out
        ((0.3, 0.5, 0.9), "other programs took 50% of the cores' time"),
    ],
)  # fmt: skip
def test_a_comparison_on_a_busy_machine_is_none(foreign, words):
    found = EVEN.model_copy(update={"foreign": foreign})
    assert found.disturbed == words
    text = render(network_table(found, 1), 140)
    assert (f"NOT A MEASUREMENT: {words}" in text) == bool(words)
    assert ("best peer: a, " in text) == (not words)


def test_runs_that_differ_widely_are_no_measurement():
    assert record().disturbed == "the runs of one runtime differ widely in time"  # 1, 2, 4, 8


def test_a_peak_above_the_calibrated_one_has_the_machine_calibrated_again(monkeypatch):
    now = MACHINE.model_copy(update={"date": datetime.now(UTC).isoformat()})
    monkeypatch.setattr(peak, "find", lambda: MACHINE)  # 100 GFLOP/s
    monkeypatch.setattr(peak, "calibrate", lambda: now)
    assert peak.known_machine([99e9, 102e9], 1) is MACHINE
    assert peak.known_machine([99e9, 104e9], 1) is now
    assert peak.known_machine([204e9], 2) is MACHINE
    monkeypatch.setattr(peak, "find", lambda: None)
    assert peak.known_machine([99e9], 1) is None
    assert "calibrated just now at 200" in render(network_table(EVEN, 2, now), 140)


def test_the_file_says_all_and_is_read_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text("from torch import nn\ndef one(n=2): return nn.Conv2d(3, n, 3)\n")
    arguments = ["bench", "nets.py:one", "--shape", "1,3,20,20", "--set", "n=8", "--rounds", "2"]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--peers", "pytorch", "--out", "found.json"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "nets.py:one on 1x3x20x20" in out
    assert f"pytorch {torch.__version__.partition('+')[0]}" in out
    text = Path("found.json").read_text()
    found = BenchRecord.model_validate_json(text)
    assert (found.threads, found.tolerance) == (1, TOLERANCE)
    assert found.software.target == find_target("native").name
    assert found.software.flags
    assert found.machine.cores >= 1
    (network,) = found.networks
    assert (network.network, network.settings) == ("nets.py:one", {"n": "8"})
    assert [len(times) >= 3 for times in network.ours.rounds] == [True, True]
    assert json.loads(text)["networks"][0]["runtimes"][0]["seconds"] == network.ours.seconds


# ------------------------------------------------------------------------------ the command line


def test_peers_are_found_by_name_in_the_order_asked():
    assert find_peers(None) == PEERS
    assert [peer.name for peer in find_peers("ncnn,OpenVINO,NCNN")] == ["ncnn", "openvino"]
    assert find_peers("") == ()
    with pytest.raises(ValueError, match=r"no peer 'tvm'; there are pytorch, torch\.compile"):
        find_peers("openvino,tvm")


def test_compilers_are_named_in_the_order_asked():
    assert compiled_by(None) == ()
    assert [(each.name, each.cc) for each in compiled_by("clang,/opt/bin/gcc,clang,")] == [
        ("depthwise, clang", "clang"), ("depthwise, gcc", "/opt/bin/gcc"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layers", "--cc", "gcc"], "leave out --out, --peers, --cc, --threads"),
        (["--layers", "--threads", "2"], "--layers looks at our library alone"),
        (["--out", "no/such/place.json"], "--out no/such/place.json: there is no folder no/such"),
        (["--shape", "1,3,8,8", "--shape", "1,3,8,8"], "too many positional arguments"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", "resnet56_cifar", *arguments])
    assert end.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_networks_of_two_inputs_are_not_compared(tmp_path, monkeypatch, capsys):
    (tmp_path / "nets.py").write_text(
        "import torch\n\nclass Two(torch.nn.Module):\n"
        "    def forward(self, x, y):\n        return x + y\n\ndef two():\n    return Two()\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["bench", "nets.py:two", "--shape", "1,3,8,8", "--shape", "1,3,8,8"])
    assert end.value.code == 2
    assert "nets.py:two is compared on one input, 2 given" in capsys.readouterr().err
