"""The picture of savings: what is held against what, and that the file shows all of it."""

import re

import pytest

from depthwise.bench.peers import OURS, PEERS
from depthwise.bench.record import (
    BenchRecord,
    MachineRecord,
    NetworkResult,
    RuntimeRecord,
    SoftwareRecord,
)
from depthwise.report.speed_picture import STYLES, savings, speed_picture


def network(name, macs, **seconds):
    runtimes = [
        RuntimeRecord(name=runtime.replace("_", ", "), versions={}, rounds=((s,), (s,)))
        for runtime, s in seconds.items()
    ]
    runtimes.append(RuntimeRecord(name="mnn", versions={}, failed="not installed"))
    return NetworkResult(
        network=name, settings={}, weights="", input_shape=(1, 3, 224, 224), macs=macs, params=1,
        peaks=(1e9, 1e9), runtimes=tuple(runtimes),
    )  # fmt: skip


def bench(*networks, threads=1):
    return BenchRecord(
        machine=MachineRecord(system="Linux", processor="CPU of 2026", cores=2, features=()),
        software=SoftwareRecord(
            depthwise="0.1", python="3.11", commit=None, changed=False, target="x86-64-v4",
            compiler="cc", flags=(),
        ),
        threads=threads, tolerance=1e-2, networks=networks,
    )  # fmt: skip


RESNET = network("resnet50", 4000, depthwise=2.0, depthwise_direct=4.0, openvino=3.0, ncnn=5.0)
SMALL = network("nets.py:tiny_net", 100, depthwise=0.1, openvino=0.3)
MIDDLE = network("mobilenet_v1", 500, depthwise=0.5, openvino=0.5)


def test_ours_is_held_against_resnet_50_without_winograd_and_peers_against_their_own():
    found = savings([SMALL, RESNET, MIDDLE])
    assert list(found) == ["depthwise", "openvino"]  # ncnn has no network but ResNet-50
    assert [(s.network, s.macs, s.time) for s in found["depthwise"]] == [
        ("mobilenet_v1", 8.0, 8.0),
        ("nets.py:tiny_net", 40.0, 40.0),
    ]
    assert [s.time for s in found["openvino"]] == [6.0, pytest.approx(10.0)]


def test_the_picture_names_runtimes_networks_and_theory(tmp_path):
    paths = [tmp_path / f"{name}.svg" for name in "ab"]
    for path in paths:
        speed_picture([bench(RESNET, SMALL), bench(MIDDLE)], path)
    text = paths[0].read_text()
    assert text == paths[1].read_text()
    words = set(re.findall(r">([^<>]+)</text>", text))
    assert {"depthwise", "openvino", "tiny net", "mobilenet v1", "the saving in theory"} <= words
    assert not {"ncnn", "mnn"} & words
    assert "float32, batch 1, one thread, CPU of 2026" in words


def test_what_was_timed_on_a_busy_machine_is_no_result(tmp_path):
    busy = MIDDLE.model_copy(update={"foreign": (0.6, 0.7)})
    found = savings([RESNET, SMALL, busy])
    assert [(s.network, s.disturbed) for s in found["depthwise"]] == [
        ("mobilenet_v1", True), ("nets.py:tiny_net", False)
    ]  # fmt: skip
    spoilt = RESNET.model_copy(update={"foreign": (0.6, 0.7)})
    assert all(s.disturbed for s in savings([spoilt, SMALL])["depthwise"])
    path, quiet = tmp_path / "a.svg", tmp_path / "b.svg"
    speed_picture([bench(spoilt, SMALL)], path)
    speed_picture([bench(RESNET, SMALL)], quiet)
    assert "NOT A MEASUREMENT, the machine was busy" in path.read_text()
    assert "NOT A MEASUREMENT" not in quiet.read_text()
    colour = STYLES[OURS.name][0].lower()
    assert colour in quiet.read_text()
    assert colour not in path.read_text()  # nothing looks like a result


@pytest.mark.parametrize(
    ("records", "name", "message"),
    [
        ([bench(RESNET, SMALL)], "a.pdf", r"ends in \.svg or \.png"),
        ([bench(SMALL)], "a.svg", "measured are nets.py:tiny_net: give resnet50"),
        ([bench(RESNET)], "a.svg", "give resnet50 and smaller networks"),
        ([bench(RESNET, SMALL), bench(SMALL, threads=2)], "a.svg", r"on \[1, 2\] threads"),
    ],
)
def test_what_cannot_be_drawn_is_refused(records, name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        speed_picture(records, tmp_path / name)


def test_every_runtime_has_a_colour_and_a_marker_of_its_own():
    assert set(STYLES) == {OURS.name, *(peer.name for peer in PEERS)}
    colours, markers = zip(*STYLES.values(), strict=True)
    assert len(set(colours)) == len(set(markers)) == len(STYLES)
