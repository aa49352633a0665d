"""Checkpoints as training scripts write them: what is taken, what is said, what is refused."""

import argparse
import collections
import datetime
import gzip
import json
import os
import pathlib
import sys
import tarfile
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import depthwise as dw
from depthwise.weights import load_weights
from depthwise.weights.labels import labels_of_checkpoint


def small(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def prefixed(state, *prefixes):
    return {".".join((*prefixes, name)): tensor for name, tensor in state.items()}


NET = small(1)
STATE, LAST = NET.state_dict(), small(2).state_dict()
ARGS = argparse.Namespace(model="resnet18", lr=0.1, out=pathlib.Path("runs"))
OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}

CHECKPOINTS = {
    "torchvision": ({"model": STATE, "optimizer": OPTIMIZER, "epoch": 3, "args": ARGS}, "model"),
    "torchvision with EMA": (
        {"model": LAST, "model_ema": {"n_averaged": torch.tensor(3), **prefixed(STATE, "module")},
         "args": ARGS, "scaler": {"scale": 2.0}}, "model_ema.module"),
    "timm": (
        {"epoch": 3, "arch": "resnet18", "state_dict": LAST, "state_dict_ema": STATE,
         "optimizer": OPTIMIZER, "version": 2, "args": ARGS, "metric": np.float64(71.0)},
        "state_dict_ema"),
    "AveragedModel": (torch.optim.swa_utils.AveragedModel(NET).state_dict(), "module"),
    "ema": ({"ema": STATE, "updates": 3}, "ema"),
    "BasicSR": ({"params": LAST, "params_ema": STATE}, "params_ema"),
    "a class that keeps an average": (
        {"model": LAST, "ema": {"decay": 0.99, "shadow": STATE}}, "ema.shadow"),
    "SWA": ({"swa": STATE, "model": LAST}, "swa"),
    "params": ({"params": STATE}, "params"),
    "net": ({"net": STATE, "acc": 71.0, "epoch": 3}, "net"),
    "GAN": ({"generator": STATE, "discriminator": {"0.weight": torch.zeros(1)}}, "generator"),
    "DataParallel compiled": (
        {"state_dict": prefixed(STATE, "module", "_orig_mod")}, "state_dict.module._orig_mod"),
    "model.module.": (prefixed(STATE, "model", "module"), "model.module"),
    "Lightning": (
        {"state_dict": {**prefixed(STATE, "net"), "criterion.weight": torch.ones(2)},
         "hyper_parameters": {"lr": 1e-3}, "callbacks": {"ModelCheckpoint{'monitor': 'v'}": {}},
         "loops": {"fit_loop": {"state_dict": {}}}, "pytorch-lightning_version": "2.4.0"},
        "state_dict.net"),
    "fastai": ({"model": STATE, "opt": OPTIMIZER}, "model"),
    "beside": (
        {"state_dict": STATE, "when": datetime.datetime(2024, 1, 1), "took": datetime.timedelta(1),
         "array": np.arange(3.0), "mask": np.array([True]), "path": pathlib.Path("a/b"),
         "by": collections.defaultdict(list, a=[1]), "seen": {1, 2}, "size": torch.Size([3]),
         "dtype": torch.float32, "device": torch.device("cpu"), "more": types.SimpleNamespace(a=1),
         "best": np.float32(3), "count": np.int64(4), "frozen": frozenset({1}), "z": 3j},
        "state_dict"),
    "numbers beside names": ({**STATE, "epoch": 3, "note": "best"}, ""),
    "arrays": ({name: tensor.numpy() for name, tensor in STATE.items()}, ""),
    "an unknown prefix": (prefixed(STATE, "segmenter"), "segmenter"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_what_training_scripts_write(tmp_path, name):
    checkpoint, key = CHECKPOINTS[name]
    torch.save(checkpoint, tmp_path / "last.pth.tar")
    net = small()
    found = load_weights(net, tmp_path / "last.pth.tar")
    assert all(torch.equal(tensor, STATE[name]) for name, tensor in net.state_dict().items())
    assert (found.key, found.origin) == (key, str(tmp_path / "last.pth.tar"))


def test_one_of_several_weights_is_chosen_by_its_key(tmp_path):
    path = tmp_path / "last.pth"
    torch.save({"model": LAST, "model_ema": STATE, "teacher": {"net": LAST}}, path)
    net = small()
    found = load_weights(net, path)
    assert (found.key, found.others) == ("model_ema", ("model",))
    assert str(found) == (
        f"weights are model_ema of {path}; there are model too: choose with FILE#KEY"
    )
    assert torch.equal(net[0].weight, STATE["0.weight"])
    for key, taken in (("model", "model"), ("teacher", "teacher.net")):
        assert load_weights(net, f"{path}#{key}").key == taken
        assert torch.equal(net[0].weight, LAST["0.weight"])
    with pytest.raises(ValueError, match=r"has no weights under 'no'; tensors are under model, mo"):
        load_weights(net, f"{path}#no")
    torch.save({"teacher": STATE, "student": LAST}, path)
    with pytest.raises(ValueError, match=r"that is known; tensors are under teacher, student: cho"):
        load_weights(net, path)


def test_a_key_leads_through_others(tmp_path):
    path = tmp_path / "last.pth"
    torch.save({"run": {"teacher": STATE, "student": LAST}, "epoch": 3}, path)
    with pytest.raises(ValueError, match=r"known; tensors are under run\.teacher, run\.student: "):
        load_weights(small(), path)
    net = small()
    assert load_weights(net, f"{path}#run.teacher").key == "run.teacher"
    assert torch.equal(net[0].weight, STATE["0.weight"])


def test_an_average_that_does_not_fit_is_said(tmp_path):
    """One of the parameters alone leaves the running statistics of BatchNorms open."""
    path = tmp_path / "last.pth"
    shadow = {name: tensor for name, tensor in STATE.items() if "running" not in name}
    torch.save({"model": LAST, "ema": {"shadow": shadow}}, path)
    found = load_weights(small(), path)
    assert (found.key, found.unfit) == ("model", ("ema.shadow",))
    assert "; the average under ema.shadow does not fit, and is not taken" in str(found)
    assert load_weights(small(), {"model": LAST, "ema": STATE}).unfit == ()


def test_what_is_left_out_is_said(tmp_path):
    torch.save(CHECKPOINTS["Lightning"][0], tmp_path / "last.ckpt")
    found = load_weights(small(), tmp_path / "last.ckpt")
    assert str(found).endswith("; 1 tensors beside them are left out: criterion.weight")


def test_networks_of_ours_and_of_libraries(tmp_path, monkeypatch):
    import torchvision

    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.chdir(tmp_path)
    twin = torchvision.models.mobilenet_v2(width_mult=0.35).eval()
    state = {"model_ema": prefixed(twin.state_dict(), "module"), "args": ARGS, "epoch": 3}
    torch.save(state, "trained.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = twin(x)
        ours = dw.create_model("mobilenet_v2", "trained.pth", width=0.35)
        assert ours.loaded_weights.layout == "torchvision"
        assert (ours.eval()(x) - expected).abs().max() <= 1e-5 * expected.abs().max()
        theirs = dw.open(
            "torchvision:mobilenet_v2",
            x.shape,
            settings={"width_mult": 0.35},
            weights="trained.pth",
        )
        assert theirs.loaded_weights.key == "model_ema.module"
        assert torch.equal(theirs.net(x), expected)


def test_weights_in_several_files(tmp_path):
    names = list(STATE)
    files = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, held in files.items():
        save_file({name: STATE[name].contiguous() for name in held}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    where = {name: file for file, held in files.items() for name in held}
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    net = small()
    load_weights(net, index)
    assert torch.equal(net[3].weight, STATE["3.weight"])
    for bad, message in (("../a.safetensors", "only files beside it"), ("c.bin", "no such file")):
        index.write_text(json.dumps({"weight_map": {names[0]: bad}}))
        with pytest.raises(ValueError, match=message):
            load_weights(net, index)
    index.write_text("[]")
    with pytest.raises(ValueError, match="expected an index of weights"):
        load_weights(net, index)


class Attack:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


class Trained(nn.Linear):
    """A class of the training script's own."""


@pytest.mark.parametrize("where", ["beside", "within", "numpy", "state", "legacy", "namespace"])
def test_no_pickle_runs_code(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    checkpoint = {
        "beside": {"state_dict": STATE, "args": Attack()},
        "within": {"0.weight": Attack()},
        "numpy": {"state_dict": STATE, "best": np.array([Attack()], dtype=object)},
        "state": {"state_dict": STATE, "args": argparse.Namespace(a=Attack())},
        "legacy": {"state_dict": STATE, "args": Attack()},
        "namespace": {"state_dict": STATE, "d": collections.defaultdict(None, a=Attack())},
    }[where]
    torch.save(checkpoint, "bad.pth", _use_new_zipfile_serialization=where != "legacy")
    with pytest.raises(ValueError, match="pickled code is not run"):
        load_weights(small(), "bad.pth")
    assert not os.path.exists("exploded")


def test_classes_of_options_are_not_made(tmp_path, monkeypatch):
    """The name alone is known: what Python would import under it is not looked at."""
    called = []
    fake = types.ModuleType("yacs.config")

    class CfgNode(dict):
        def __setstate__(self, state):
            called.append(state)

        def __reduce__(self):
            return CfgNode, ({"lr": 0.1},), {"frozen": True}

    CfgNode.__module__, CfgNode.__qualname__, fake.CfgNode = "yacs.config", "CfgNode", CfgNode
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", fake)
    torch.save({"state_dict": STATE, "cfg": CfgNode(lr=0.1)}, tmp_path / "cfg.pth")
    assert load_weights(small(), tmp_path / "cfg.pth").key == "state_dict"
    assert called == []


def test_pickled_networks_are_refused_with_what_to_do(tmp_path):
    torch.save({"model": Trained(1, 1), "ema": None, "epoch": 3}, tmp_path / "yolo.pt")
    with pytest.raises(ValueError, match=r"asks for .*Trained, and pickled.*save the network's st"):
        load_weights(small(), tmp_path / "yolo.pt")


def test_files_of_other_kinds_say_what_they_are(tmp_path):
    torch.save(STATE, tmp_path / "net.pth")
    with tarfile.open(tmp_path / "packed.pth.tar", "w") as archive:
        archive.add(tmp_path / "net.pth", "net.pth")
    (tmp_path / "net.pth.gz").write_bytes(gzip.compress((tmp_path / "net.pth").read_bytes()))
    (tmp_path / "net.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "net.ckpt.index").write_bytes(b"\x00")
    (tmp_path / "folder.pth").mkdir()
    for name, message in (
        ("net.pth.gz", "is compressed by gzip: unpack it first"),
        ("packed.pth.tar", "is an archive of files: unpack it first"),
        ("net.h5", "is an HDF5 file, as Keras and TensorFlow write: convert its weights"),
        ("net.ckpt.index", "is a file of TensorFlow's: convert its weights"),
        ("folder.pth", "is a folder: name the checkpoint in it"),
    ):
        with pytest.raises(ValueError, match=message):
            load_weights(small(), tmp_path / name)


def test_a_scripted_network_is_told_apart(tmp_path):
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.script(nn.ReLU()), tmp_path / "net.pt")
    with pytest.raises(ValueError, match=r"network in TorchScript: save its weights, torch\.save"):
        load_weights(small(), tmp_path / "net.pt")


def test_labels_are_found_beside_options(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"state_dict": STATE, "args": ARGS, "class_names": ["cat", "dog"]}, path)
    assert labels_of_checkpoint(path) == ("cat", "dog")


def test_the_nearest_parts_are_named_where_nothing_fits(tmp_path):
    torch.save({"model_ema": {**STATE, "0.weight": torch.zeros(1)}, "model": {}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt \(model_ema\) does not fit Sequential, 1 tensor "):
        load_weights(small(), tmp_path / "a.pt")
