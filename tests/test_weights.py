"""Checkpoints: what fits is loaded exactly, what does not is refused whole."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

import depthwise as dw
from depthwise.weights import IMAGENET, create_model, load_weights
from depthwise.weights.bundled import METADATA, read_record
from depthwise.weights.layouts import LAYOUTS


def randomised(net):
    """Give BatchNorm statistics and affine parameters that matter, and evaluate."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 1e-4, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return net.eval()


def assert_same_outputs(net, twin, shape=(1, 3, 64, 64)):
    x = torch.randn(shape)
    with torch.inference_mode():
        ours, theirs = net.eval()(x), twin(x)
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def assert_refused(net, source, message):
    """The message is exactly this, and the net is as it was."""
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ValueError, match=r".") as refusal:
        load_weights(net, source)
    assert str(refusal.value) == message
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.fixture
def tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


# ------------------------------------------------------------------------- what is loaded


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".old.pth"])
def test_own_names_round_trip_through_files(tmp_path, suffix):
    net = randomised(create_model("mobilenet_v3_small", width=0.5))
    path = tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(net.state_dict(), path)
    else:
        new = suffix != ".old.pth"
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=new)
    copy = create_model("mobilenet_v3_small", path, width=0.5)
    assert list(copy.state_dict()) == list(net.state_dict())
    assert all(torch.equal(copy.state_dict()[k], v) for k, v in net.state_dict().items())


def test_torchvision_names():
    twin = randomised(torchvision.models.mobilenet_v2())
    net = create_model("mobilenet_v2")
    load_weights(net, twin.state_dict())
    assert_same_outputs(net, twin)


def test_timm_names_where_batchnorm_eps_differs():
    twin = randomised(timm.create_model("mobilenetv3_small_100"))
    net = create_model("mobilenet_v3_small")
    eps = {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)}
    theirs = {m.eps for m in twin.modules() if isinstance(m, nn.BatchNorm2d)}
    assert (eps, theirs) == ({1e-3}, {1e-5})
    load_weights(net, twin.state_dict())
    assert_same_outputs(net, twin)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state},
        lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
        lambda state: {"state_dict": {f"module.model.{k}": v for k, v in state.items()}},
    ],
)
def test_wrappings_are_taken_off(tmp_path, wrap):
    net, copy = (
        randomised(create_model("mobilenet_v1", width=0.25)),
        create_model("mobilenet_v1", width=0.25),
    )
    torch.save(wrap(net.state_dict()), tmp_path / "wrapped.pth")
    load_weights(copy, tmp_path / "wrapped.pth")
    assert all(torch.equal(copy.state_dict()[k], v) for k, v in net.state_dict().items())


def test_a_prefix_that_the_net_has_itself_is_left(tiny):
    wrapped, copy = nn.ModuleDict({"model": tiny}), nn.ModuleDict({"model": nn.Linear(1, 1)})
    copy["model"] = nn.Sequential(*(type(m)(*a) for m, a in zip(tiny, TINY, strict=True)))
    load_weights(copy, wrapped.state_dict())
    assert torch.equal(copy["model"][0].weight, tiny[0].weight)


TINY = ((3, 4, 3), (4,), (), (4, 2))


def test_half_precision_is_loaded_into_the_nets_dtype(tiny):
    source = {k: v.half() if v.is_floating_point() else v for k, v in tiny.state_dict().items()}
    load_weights(tiny, source)
    assert tiny[0].weight.dtype == torch.float32
    assert torch.equal(tiny[0].weight, source["0.weight"].float())


def test_counters_may_be_missing(tiny):
    tiny[1].num_batches_tracked += 5
    source = {k: v + 1 for k, v in tiny.state_dict().items() if "num_batches" not in k}
    load_weights(tiny, source)
    assert torch.equal(tiny[3].bias, source["3.bias"])
    assert tiny[1].num_batches_tracked == 5


def test_linear_and_1x1_convolution_exchange_weights():
    linear, conv = nn.Linear(4, 2), nn.Conv2d(4, 2, 1)
    load_weights(conv, linear.state_dict())
    assert torch.equal(conv.weight.flatten(1), linear.weight)
    with torch.no_grad():
        conv.weight.mul_(2)
    load_weights(linear, conv.state_dict())
    assert torch.equal(conv.weight.flatten(1), linear.weight)


# ------------------------------------------------------------------------- what is refused


def test_refuses_keys_and_shapes_that_do_not_fit(tiny):
    source = tiny.state_dict()
    source["0.weight"] = torch.zeros(4, 3, 5, 5)
    source["0.bias"] = torch.zeros(())
    source["4.weight"] = source.pop("1.weight")
    assert_refused(
        tiny,
        source,
        "the state_dict does not fit Sequential, 4 tensors differ (2 of another shape or type, "
        "1 missing, 1 not known here):\n"
        "  0.weight: expected 4x3x3x3, found 4x3x5x5\n"
        "  0.bias: expected 4, found a single number\n"
        "  1.weight: missing in the checkpoint, where 4.weight is the nearest\n"
        "  4.weight: no such tensor here\n"
        "layouts tried: own; the nearest is own",
    )


def test_refusal_names_the_nearest_layout_and_their_names():
    source = torchvision.models.mobilenet_v2().state_dict()
    source["features.18.1.bias"] = torch.zeros(3)
    tried = ", ".join(["own", *(layout.name for layout in LAYOUTS["mobilenet_v2"])])
    assert_refused(
        create_model("mobilenet_v2"),
        source,
        "the state_dict does not fit mobilenet_v2, 1 tensor differs:\n"
        "  neck.norm.bias (there features.18.1.bias): expected 1280, found 3\n"
        f"layouts tried: {tried}; the nearest is torchvision",
    )


def test_refusal_shows_the_first_few_and_the_count():
    net = create_model("mobilenet_v1")
    with pytest.raises(ValueError, match="the state_dict does not fit mobilenet_v1") as refusal:
        load_weights(net, {})
    count = sum("num_batches" not in key for key in net.state_dict())
    lines = str(refusal.value).split("\n")
    assert lines[0].endswith(f"{count} tensors differ:")
    assert lines[1] == "  stem.conv.weight: missing in the checkpoint"
    assert lines[5] == f"  and {count - 4} more"


def test_refusal_of_another_number_of_classes_says_what_to_build():
    source = create_model("mobilenet_v1", width=0.25, num_classes=7).state_dict()
    assert_refused(
        create_model("mobilenet_v1", width=0.25),
        source,
        "the state_dict does not fit mobilenet_v1, 2 tensors differ:\n"
        "  head.weight: expected 1000x256, found 7x256\n"
        "  head.bias: expected 1000, found 7\n"
        "layouts tried: own, timm; the nearest is own\n"
        "the checkpoint has 7 classes: build with num_classes=7",
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (3, "entry '0.bias' is of type int: expected a tensor"),
        (torch.zeros(4, device="meta"), "entry '0.bias' is a meta tensor: expected a dense one"),
        (
            torch.zeros(4).to_sparse(),
            "entry '0.bias' is a quantized or sparse tensor: expected a dense one",
        ),
    ],
)
def test_refuses_entries_of_another_type(tiny, entry, message):
    assert_refused(tiny, {**tiny.state_dict(), "0.bias": entry}, f"the state_dict: {message}")


def test_refuses_whole_numbers_for_weights(tiny):
    assert_refused(
        tiny,
        {**tiny.state_dict(), "0.bias": torch.zeros(4, dtype=torch.int8)},
        "the state_dict does not fit Sequential, 1 tensor differs:\n"
        "  0.bias: expected torch.float32, found torch.int8\n"
        "layouts tried: own; the nearest is own",
    )


def test_refuses_other_sources(tiny):
    assert_refused(tiny, 3, "weights from int: give a path or a state_dict")
    assert_refused(tiny, {3: torch.zeros(1)}, "the state_dict: entry 3: expected a name")


def test_refuses_a_net_on_the_meta_device():
    net = nn.Linear(2, 2, device="meta")
    with pytest.raises(ValueError, match=r"^weight is on the meta device: call net\.to_empty"):
        load_weights(net, nn.Linear(2, 2).state_dict())


def test_refuses_missing_files_and_other_suffixes(tiny, tmp_path):
    assert_refused(tiny, tmp_path / "no.pth", f"no checkpoint file at {tmp_path / 'no.pth'}")
    (path := tmp_path / "net.onnx").write_bytes(b"x")
    accepted = ".safetensors, .pth, .pt, .bin, .ckpt, .tar"
    assert_refused(tiny, path, f"{path}: a checkpoint ends in one of {accepted}")


@pytest.mark.parametrize("kept", [0, 1, 30, 0.5, 0.95])
@pytest.mark.parametrize("kind", ["archive", "old", "safetensors"])
def test_refuses_truncated_files(tiny, tmp_path, kind, kept):
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pth")
    if kind == "safetensors":
        save_file(tiny.state_dict(), path)
    else:
        torch.save(tiny.state_dict(), path, _use_new_zipfile_serialization=kind == "archive")
    size = int(path.stat().st_size * kept) if isinstance(kept, float) else kept
    os.truncate(path, size)
    start = f"{path} cannot be read as a checkpoint ({size} bytes): it is truncated or no"
    with pytest.raises(ValueError, match=f"^{re.escape(start)} checkpoint \\(.+\\)$"):
        load_weights(tiny, path)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_refuses_pickled_code_and_does_not_run_it(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"0.weight": Bomb()}, "bomb.pt")
    assert_refused(
        tiny,
        "bomb.pt",
        f"bomb.pt holds more than tensors: its pickle asks for {os.mkdir.__module__}.mkdir, and "
        "pickled code is not run; where it was trained, save the network's state_dict() instead of "
        "the network or what is beside it: torch.save(net.state_dict(), 'weights.pth')",
    )
    torch.save(tiny, "whole.pt")
    with pytest.raises(ValueError, match=r"its pickle asks for torch\.nn\.modules"):
        load_weights(tiny, "whole.pt")
    assert not (tmp_path / "exploded").exists()


def test_refuses_a_file_of_something_else(tiny, tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    message = f"{tmp_path / 'list.pt'} holds an object of type list: expected a state_dict"
    assert_refused(tiny, tmp_path / "list.pt", message)


# ------------------------------------------------------------------------- what is bundled


def test_bundled_weights_carry_their_record():
    net = dw.create_model("mobilenet_v2", weights="imagenet")
    record = net.pretrained
    assert sum(p.numel() for p in net.parameters()) == 3_504_872
    assert record.sha256.startswith("b0353104")
    assert record.licence == "BSD-3-Clause"
    assert (record.preprocessing.resize, record.preprocessing.crop) == (256, 224)
    assert record.class_names[285] == "Egyptian cat"
    assert IMAGENET["mobilenet_v2"].stat().st_size < 8e6
    assert create_model("mobilenet_v2").pretrained is None


def test_the_bundling_tool_takes_only_the_named_checkpoint_and_writes_the_same_bytes_again():
    tool = runpy.run_path(str(Path(__file__).parents[1] / "tools/bundle_mobilenet_v2.py"))
    with pytest.raises(ValueError, match=r"^sha256 [0-9a-f]{64}: expected one that begins b0353"):
        tool["bundle"](b"another file")
    path = IMAGENET["mobilenet_v2"]
    tensors = load_file(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert tool["write"](tensors, read_record(path)) == path.read_bytes()


def test_bundled_weights_fit_options_that_keep_the_shapes():
    net = create_model("mobilenet_v2", weights="imagenet", output_stride=16, stem_stride=1)
    assert net.pretrained is not None


def test_build_says_which_networks_have_bundled_weights():
    with pytest.raises(ValueError, match=r"^no ImageNet weights of mobilenet_v1 are bundled") as e:
        create_model("mobilenet_v1", weights="imagenet")
    assert str(e.value).endswith("only of mobilenet_v2: give weights the path of a checkpoint")
    with pytest.raises(ValueError, match=r"^no network is named 'mobilenet_v22': the nearest are"):
        create_model("mobilenet_v22", weights="imagenet")


def test_build_says_that_options_conflict_with_bundled_weights():
    with pytest.raises(ValueError, match=r'^weights="imagenet" fit') as refusal:
        create_model("mobilenet_v2", weights="imagenet", num_classes=10)
    assert str(refusal.value) == (
        'weights="imagenet" fit mobilenet_v2 with its default shapes, not with num_classes=10: '
        "leave out weights, or the options that change shapes\n"
        f"{IMAGENET['mobilenet_v2']} does not fit mobilenet_v2, 2 tensors differ:\n"
        "  head.1.weight: expected 10x1280, found 1000x1280\n"
        "  head.1.bias: expected 10, found 1000\n"
        "layouts tried: own, torchvision, timm; the nearest is own\n"
        "the checkpoint has 1000 classes: build with num_classes=1000"
    )


def test_a_bad_record_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={METADATA: "{}"})
    with pytest.raises(ValueError, match=r"bad record of its weights, source: Field required$"):
        read_record(tmp_path / "a.safetensors")


def test_the_public_names_are_there_in_any_order_of_import():
    assert set(dw.__all__) <= set(dir(dw))
    first = "import depthwise.families, depthwise; print(*depthwise.list_models())"
    done = subprocess.run(
        [sys.executable, "-c", first], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.split() == dw.list_models()
    with pytest.raises(AttributeError, match="module 'depthwise' has no attribute 'biuld'"):
        dw.biuld  # noqa: B018
