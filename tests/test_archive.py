"""A stranger's .pt2 file: what in it would run as code is refused before PyTorch opens it."""

import io
import json
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

import depthwise as dw
from depthwise.graph.frontends.torch.exported import as_module, renamed
from depthwise.graph.frontends.torch.pt2 import load_program

CANARY = "CANARY"
TOUCH = f"__import__('os').system('touch {CANARY}')"
PROGRAM, SAMPLE = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS, CONSTANTS = (
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = self.conv(x)
        return {"a": y, "b": y.relu()}


class RowSpan:
    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """What torch.export.save writes for an ordinary network, by name."""
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    torch.export.save(torch.export.export(Net().eval(), (torch.randn(1, 3, 8, 8),)), path)
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path, members):
    writer = torch._C.PyTorchFileWriter(str(path))
    writer.set_min_version(6)
    for name, data in members.items():
        if not name.startswith(".data/"):  # the writer's own
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return path


def edited(members, name, change):
    """Return the members with the JSON of one changed in place."""
    content = json.loads(members[name])
    change(content)
    return {**members, name: json.dumps(content).encode()}


def graph_of(program):
    return program["graph_module"]["graph"]


def size(program):
    hint = {"expr_str": TOUCH, "hint": {"as_int": 1}}
    graph_of(program)["tensor_values"]["conv2d"]["sizes"][0] = {"as_expr": hint}


def call(target, *texts):
    def change(program):
        nodes, values = graph_of(program)["nodes"], graph_of(program)["tensor_values"]
        inputs = [{"name": "", "arg": {"as_string": text}, "kind": 1} for text in texts]
        made = {"inputs": inputs, "outputs": [{"as_tensor": {"name": "made"}}], "name": "made"}
        nodes.insert(0, {**nodes[0], "target": target, **made})
        values["made"] = values["p_conv_bias"]

    return change


def key(program):
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    protocol, spec = json.loads(signature["out_spec"])
    spec["context"] = json.dumps([{"__enum__": True, "fqn": "antigravity:X", "name": "a"}, "b"])
    signature["out_spec"] = json.dumps([protocol, spec])


def argument(program):
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    protocol, spec = json.loads(signature["in_spec"])
    spec["children_spec"][1]["context"] = json.dumps([f"y={TOUCH}"])
    spec["children_spec"][1]["children_spec"] = [spec["children_spec"][0]["children_spec"].pop()]
    signature["in_spec"] = json.dumps([protocol, spec])
    signature["forward_arg_names"] = None


def container(program):
    signature = program["graph_module"]["module_call_graph"][0]["signature"]
    protocol, spec = json.loads(signature["out_spec"])
    context = {
        "default_factory_module": "antigravity",
        "default_factory_name": "a",
        "dict_context": ["a", "b"],
    }
    signature["out_spec"] = json.dumps(
        [protocol, {**spec, "type": "collections.defaultdict", "context": context}]
    )


def pickled_weight(config):
    config["config"]["conv.bias"]["use_pickle"] = True


def other_file(config):
    config["config"]["conv.bias"]["path_name"] = "../sample_inputs/model.pt"


def argument_of_code(members):
    program = members[PROGRAM].replace(b'"x"', json.dumps(f"x={TOUCH}").encode())
    return {**members, PROGRAM: program}


def opaque(members):
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    config = json.dumps({"config": {"k": meta}}).encode()
    return {**members, CONSTANTS: config, "data/constants/opaque_obj_0": pickle.dumps(RowSpan())}


HOSTILE = {
    "a size that is evaluated": (lambda m: edited(m, PROGRAM, size), "the expr_str"),
    "a name that is code": (argument_of_code, "the name"),
    "a function of Python": (
        lambda m: edited(m, PROGRAM, call("torch.os.system", "true")),
        "the target",
    ),
    "an operator that writes a file": (
        lambda m: edited(m, PROGRAM, call("torch.ops.aten.from_file.default", CANARY)),
        "the target",
    ),
    "an operator of another library": (
        lambda m: edited(m, PROGRAM, call("torch.ops.image.write_file.default", CANARY)),
        "the target",
    ),
    "a key that is imported": (lambda m: edited(m, PROGRAM, key), "the keys"),
    "an argument that is code": (lambda m: edited(m, PROGRAM, argument), "the keys"),
    "a container that imports": (lambda m: edited(m, PROGRAM, container), "the container"),
    "a pickled example": (lambda m: {**m, SAMPLE: saved(((RowSpan(),), {}))}, "a pickle of more"),
    "a pickled weight": (
        lambda m: {**edited(m, WEIGHTS, pickled_weight), "data/weights/weight_1": saved(RowSpan())},
        "the use_pickle",
    ),
    "pickled weights of old": (
        lambda m: {**m, "data/weights/model.pt": saved(RowSpan())},
        "a pickle of more",
    ),
    "a weight elsewhere": (lambda m: edited(m, WEIGHTS, other_file), "the path_name"),
    "a pickled constant": (opaque, "the member"),
    "a shared library": (lambda m: {**m, "data/aotinductor/model/net.so": b"code"}, "the member"),
    "a program in an old form": (
        lambda m: {**m, "serialized_exported_program.json": b"{}"},
        "the member",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_would_run_is_refused(members, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spoil, found = HOSTILE[what]
    path = write(tmp_path / "net.pt2", spoil(members))
    with pytest.raises(ValueError, match=rf"net\.pt2 holds {found} .*export the network again"):
        dw.compile(path)
    with pytest.raises(ValueError, match=found):
        dw.open(str(path))
    assert os.listdir() == ["net.pt2"]


def test_guards_of_a_file_are_never_run(members, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spoilt = edited(members, PROGRAM, lambda program: program.update(guards_code=[f"{TOUCH} == 0"]))
    path = write(tmp_path / "net.pt2", spoilt)
    made = dw.compile(path)
    load_program(path).module()
    assert made.manifest.verification
    assert os.listdir() == ["net.pt2"]


def test_names_of_tensors_are_no_code_where_pytorch_makes_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = nn.Sequential()
    net.add_module('a" + exit(3) + "', nn.Conv2d(3, 4, 3))
    net.add_module("class", nn.BatchNorm2d(4))
    x = torch.randn(1, 3, 8, 8)
    torch.export.save(torch.export.export(net.eval(), (x,)), tmp_path / "net.pt2")
    program = load_program(tmp_path / "net.pt2")
    assert torch.equal(as_module(program)(x), net(x))
    torch.export.save(renamed(program), tmp_path / "net.pt2")
    assert torch.equal(load_program(tmp_path / "net.pt2").module()(x), net(x))
    assert os.listdir() == ["net.pt2"]


def test_an_ordinary_file_is_opened(members, tmp_path):
    path = write(tmp_path / "net.pt2", members)
    outputs = dw.compile(path)(torch.randn(1, 3, 8, 8))
    assert list(outputs) == ["a", "b"]


def test_compressed_members_are_refused(members, tmp_path):
    path = tmp_path / "bomb.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"net/{name}", data)
    with pytest.raises(ValueError, match="the compressed member"):
        load_program(path)
