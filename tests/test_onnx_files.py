"""ONNX files: their inputs' sizes, external data, names, and what is wrong with bad ones."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_models import compare, draw, ints, model, node, saved

import depthwise as dw
from depthwise.errors import Unsupported
from depthwise.graph import ops, supported
from depthwise.graph.frontends.onnx import read_onnx

RELU = [node("Relu", ["x"], ["y"])]
CONV = [node("Conv", ["x", "stem.weight"], ["y"], name="/stem/conv/Conv")]
WEIGHT = {"stem.weight": draw(4, 3, 3, 3)}


def refused(made, folder, shapes=(), error=ValueError):
    """Return what is said about a model that cannot be read."""
    with pytest.raises(error) as caught:
        supported(read_onnx(saved(made, folder), shapes))
    return str(caught.value)


# ------------------------------------------------------------------------------------------ sizes


def test_a_size_left_open_names_its_input_and_axis_and_how_to_fix_it(tmp_path):
    said = refused(model(RELU, {"image": ("batch", 3, 224, None)}), tmp_path)
    assert "input image leaves the size of axis 0 (batch) and axis 3 open" in said
    assert "--shape 1,3,224,224 (in Python shapes=[(1, 3, 224, 224)])" in said
    nhwc = [node("Transpose", ["x"], ["y"], perm=[0, 3, 1, 2])]
    assert "--shape 1,224,224,3 " in refused(model(nhwc, (None, None, None, 3)), tmp_path)


def test_open_sizes_are_fixed_in_order_or_by_name(tmp_path):
    nodes = [node("Add", ["x", "other"], ["y"])]
    made = model(nodes, {"x": ("n", 3, "h", 8), "other": ("n", 3, 4, 8)})
    for shapes in ([(2, 3, 4, 8), (2, 3, 4, 8)], {"x": (2, 3, 4, 8)}):  # n is known by then
        graph = compare(made, tmp_path, shapes)
        assert [t.shape for t in graph.inputs.values()] == [(2, 3, 4, 8)] * 2


def test_shapes_that_do_not_fit_the_file_are_refused(tmp_path):
    made = model(RELU, ("n", 3, 8, 8))
    assert "has 4 on axis 1, which the model fixes to 3" in refused(made, tmp_path, [(1, 4, 8, 8)])
    assert "has 4 axes (n,3,8,8): the shape (3, 8, 8) has 3" in refused(made, tmp_path, [(3, 8, 8)])
    assert "2 shapes for 1 input: give" in refused(made, tmp_path, [(1, 3, 8, 8)] * 2)
    assert "no input 'y'; its inputs are: x" in refused(made, tmp_path, {"y": (1, 3, 8, 8)})
    assert "each axis needs one element" in refused(made, tmp_path, [(0, 3, 8, 8)])
    small = model(CONV, ("n", 3, "h", "w"), WEIGHT)
    said = refused(small, tmp_path, [(1, 3, 2, 2)])
    assert "node '/stem/conv/Conv', operator Conv" in said
    assert "take a larger input" in said


def test_one_name_for_several_sizes_binds_nothing(tmp_path):  # PaddlePaddle calls all of them "?"
    graph = compare(model(RELU, ("?", 3, "?", "?")), tmp_path, [(2, 3, 4, 8)])
    assert graph.inputs["x"].shape == (2, 3, 4, 8)


def test_initialisers_that_are_listed_as_inputs_are_none(tmp_path):  # as before IR version 4
    made = model(CONV, {"x": (1, 3, 8, 8), "stem.weight": (4, 3, 3, 3)}, WEIGHT)
    assert list(read_onnx(saved(made, tmp_path)).inputs) == ["x"]


# ----------------------------------------------------------------------------- names, parameters


def test_values_and_parameters_keep_their_names(tmp_path):
    nodes = [
        node("Conv", ["x", "stem.weight"], ["c"], name="/stem/stem.0/conv/Conv"),
        node("HardSigmoid", ["c"], ["gate"], name="/stem/Sigmoid"),  # is a product, a sum, a clamp
        node("Mul", ["c", "gate"], ["y"]),
    ]
    graph = compare(model(nodes, weights=WEIGHT), tmp_path)
    assert [n.name for n in graph] == ["c", "gate.1", "gate.2", "gate", "y"]
    assert [n.path for n in graph] == ["stem.0.conv", "stem", "stem", "stem", "y"]
    assert [n for n, c in graph.constants.items() if c.trainable] == ["stem.weight"]


def test_numbered_names_leave_those_of_the_file_free(tmp_path):
    nodes = [node("HardSigmoid", ["x"], ["a"]), node("Relu", ["a"], ["a.1"]),
             node("Neg", ["a.1"], ["y"])]  # fmt: skip
    graph = compare(model(nodes), tmp_path)
    assert [n.name for n in graph] == ["a.2", "a.3", "a", "a.1", "y"]


def test_torchs_scopes_are_paths(tmp_path):
    made = model(RELU)
    made.graph.node[0].metadata_props.add(
        key="pkg.torch.onnx.name_scopes", value="['', 'layer1', 'layer1.0', 'relu_3']"
    )
    assert read_onnx(saved(made, tmp_path)).nodes[0].path == "layer1.0"
    for odd in ("['a']", "nothing", "[1, 2, 3]", "(" * 9999):
        made.graph.node[0].metadata_props[0].value = odd
        assert read_onnx(saved(made, tmp_path)).nodes[0].path == ""
    made.graph.node.insert(0, node("Neg", ["x"], ["z"], name="node_Neg_12"))  # of a rewrite
    assert read_onnx(saved(made, tmp_path)).nodes[0].path == ""


def test_a_parameter_in_another_layout_counts_once(tmp_path):
    weights = {"fc.weight": draw(5, 7), "fc.bias": draw(7)}
    nodes = [node("MatMul", ["x", "fc.weight"], ["m"]), node("Add", ["m", "fc.bias"], ["y"])]
    graph = compare(model(nodes, (2, 5), weights), tmp_path)
    found = {n: c.type.shape for n, c in graph.constants.items() if c.trainable}
    assert found == {"fc.weight": (7, 5), "fc.bias": (7,)}
    folded = [node("Transpose", ["fc.weight"], ["t"]),
              node("Gemm", ["x", "t", "fc.bias"], ["y"], transB=1)]  # fmt: skip
    graph = compare(model(folded, (2, 5), weights), tmp_path)
    assert graph.constants["t"].sources == ("fc.weight",)
    assert [n for n, c in graph.constants.items() if c.trainable] == ["fc.bias", "fc.weight"]


def test_a_weight_read_in_two_layouts_is_one_parameter(tmp_path):
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "w"], ["b"]),
             node("Gemm", ["b", "w"], ["y"])]  # fmt: skip
    graph = compare(model(nodes, (5, 5), {"w": draw(5, 5)}), tmp_path)
    assert sum(c.type.size for c in graph.constants.values() if c.trainable) == 25


def test_several_outputs_have_their_names_one_has_none(tmp_path):
    two = model([*RELU, node("Neg", ["y"], ["z"])], outputs=("z", "y"))
    assert [(o.name, o.value) for o in compare(two, tmp_path).outputs] == [("z", "z"), ("y", "y")]
    assert [o.name for o in compare(model(RELU), tmp_path).outputs] == [""]


def test_a_branch_with_a_known_condition_is_taken(tmp_path):
    branches = {
        f"{name}_branch": helper.make_graph([node(op, ["x"], [name])], name, [],
                                            [helper.make_tensor_value_info(name, 1, None)])
        for name, op in (("then", "Relu"), ("else", "Neg"))
    }  # fmt: skip
    for condition, op in ((True, "relu"), (False, "negative")):
        made = model([node("If", ["c"], ["y"], **branches)], weights={"c": np.array(condition)})
        assert [n.op for n in compare(made, tmp_path)] == [ops.Activation(op)]


def test_local_functions_are_inlined(tmp_path):
    made = model([node("Twice", ["x"], ["y"], domain="mine")], domains=[("mine", 1)])
    made.functions.append(
        helper.make_function("mine", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], ["b"])],
                             [helper.make_opsetid("", 17)])
    )  # fmt: skip
    assert [n.op for n in compare(made, tmp_path)] == [ops.Binary("add")]


# ---------------------------------------------------------------------------------- external data


def external(folder, location="weights.bin", **facts):
    """Save a model whose weight lies in another file, and change where it says that is."""
    made = model(CONV, weights=WEIGHT)
    onnx.save(made, folder / "net.onnx", save_as_external_data=True, location="weights.bin",
              size_threshold=0)  # fmt: skip
    made = onnx.load(folder / "net.onnx", load_external_data=False)
    for entry in made.graph.initializer[0].external_data:
        entry.value = {"location": location, **facts}.get(entry.key, entry.value)
    onnx.save(made, folder / "net.onnx")
    return folder / "net.onnx"


def test_external_data_are_read_from_beside_the_model(tmp_path, monkeypatch):
    graph = read_onnx(external(tmp_path))
    np.testing.assert_array_equal(graph.constants["stem.weight"].data, WEIGHT["stem.weight"])
    monkeypatch.chdir(tmp_path)
    assert read_onnx("net.onnx").constants["stem.weight"].data is not None


def test_missing_external_data_are_named(tmp_path):
    path = external(tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ValueError, match=r"of stem\.weight in 'weights.bin', and there is no such"):
        read_onnx(path)


@pytest.mark.parametrize("location", ["../outside.bin", "/etc/hostname", "sub/../../outside.bin"])
def test_external_data_outside_of_the_folder_are_never_read(location, tmp_path):
    (tmp_path / "outside.bin").write_bytes(bytes(432))
    (tmp_path / "model" / "sub").mkdir(parents=True)
    with pytest.raises(ValueError, match="outside of its own folder, where nothing is read"):
        read_onnx(external(tmp_path / "model", location))


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "outside.bin").write_bytes(bytes(432))
    (tmp_path / "model").mkdir()
    path = external(tmp_path / "model", "link.bin")
    os.symlink(tmp_path / "outside.bin", tmp_path / "model" / "link.bin")
    with pytest.raises(ValueError, match="outside of its own folder"):
        read_onnx(path)


@pytest.mark.parametrize("facts", [{"offset": "8"}, {"length": "999"}, {"offset": "-4"},
                                   {"length": "-1"}])  # fmt: skip
def test_external_data_that_are_too_short_are_refused(facts, tmp_path):
    with pytest.raises(ValueError, match="it is truncated, or of another model"):
        read_onnx(external(tmp_path, **facts))


# -------------------------------------------------------------------------------------- bad files


def test_what_is_no_model_is_refused(tmp_path):
    path = saved(model(CONV, weights=WEIGHT), tmp_path)
    whole = path.read_bytes()
    for damaged in (b"", b"no model", whole[: len(whole) // 2], whole[:-1], bytes(1000)):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is no ONNX model, or a truncated one"):
            read_onnx(path)
    with pytest.raises(ValueError, match="no file at"):
        read_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ValueError, match="no file at"):
        read_onnx(tmp_path)


def test_a_name_that_is_no_text_is_a_damaged_file(tmp_path):
    content = model(CONV, weights=WEIGHT).SerializeToString()
    for word in (b"Conv", b"stem.weight", b"test", b"x"):
        (tmp_path / "net.onnx").write_bytes(content.replace(word, b"\xff" * len(word)))
        with pytest.raises(ValueError, match=r"net\.onnx is damaged: a name in it is no text"):
            read_onnx(tmp_path / "net.onnx")


def test_unknown_opsets_are_refused(tmp_path):
    assert "opset 99, newer than 28" in refused(model(RELU, opset=99), tmp_path)
    said = refused(model(RELU, opset=6), tmp_path)
    assert "opset 6; opsets 7 to 28 are read" in said
    assert "version_converter.convert_version" in said
    made = model(RELU)
    made.opset_import[0].domain = "com.microsoft"
    assert "no opset of the domain ai.onnx" in refused(made, tmp_path)


def test_the_package_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("depthwise.graph.frontends.onnx.find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"reading ONNX needs onnx: pip install 'depthwise\[onnx"):
        read_onnx(tmp_path / "net.onnx")


def body(**outputs):
    """Return a graph for a loop, or a branch of If."""
    return helper.make_graph(
        [node(op, ["x"], [name]) for name, op in outputs.items()], "body", [],
        [helper.make_tensor_value_info(name, 1, None) for name in outputs],
    )  # fmt: skip


COMPUTED = "it decides by values which steps to run, and a library runs the same for every input"
REFUSED = {
    "custom domain": (node("Conv", ["x"], ["y"], domain="mine"),
                      "it is of the domain mine, whose operators only their author knows"),
    "contributed": (node("Gelu", ["x"], ["y"], domain="com.microsoft"), "of the domain com.micr"),
    "unknown": (node("Convolve", ["x"], ["y"]), "ONNX has no such operator"),
    "loop": (node("Loop", ["", "c"], ["y"], body=body(b="Relu")), COMPUTED),
    "scan": (node("Scan", ["x"], ["y"], body=body(b="Relu"), num_scan_inputs=1), COMPUTED),
    "if": (node("If", ["x"], ["y"], then_branch=body(a="Relu"), else_branch=body(b="Neg")),
           COMPUTED),
    "sequence": (node("SequenceConstruct", ["x"], ["y"]), "works on sequences of tensors"),
    "random": (node("RandomNormalLike", ["x"], ["y"]), "it draws random numbers"),
    "boxes": (node("NonMaxSuppression", ["x", "x"], ["y"]), "the graph has no such operator"),
    "computed shape": (node("Resize", ["x", "", "x"], ["y"]), "its operand 'x' is computed when"),
    "determinant": (node("Det", ["x"], ["y"]), "the graph has no such operator"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_graph_cannot_say_is_refused_by_node_and_operator(case, tmp_path):
    refused_node, reason = REFUSED[case]
    refused_node.name = "culprit"
    made = model([refused_node], weights={"c": np.array(True)})
    said = refused(made, tmp_path, error=Unsupported)
    assert said.startswith(f"node 'culprit', operator {refused_node.op_type}: ")
    assert reason in said
    assert "keep it outside of the network" in said


def test_what_the_graph_cannot_say_is_counted_as_unknown(tmp_path):
    nodes = [node("Conv", ["x", "stem.weight"], ["c"]), node("Det", ["c"], ["y"])]
    cost = dw.cost(saved(model(nodes, weights=WEIGHT), tmp_path))
    assert cost.macs == 4 * 27 * 36
    assert [layer.operator for layer in cost.not_counted] == ["Det"]
    tail = [node("Relu", ["x"], ["y"]), node("NonMaxSuppression", ["x", "x"], ["boxes"])]
    said = refused(model(tail, (1, 2, 4), outputs=("boxes",)), tmp_path, error=Unsupported)
    assert "node 'boxes', operator NonMaxSuppression" in said  # how many boxes no one knows


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_networks_of_other_precisions_are_counted_whole(dtype, tmp_path):
    weights = {"w": draw(4, 3, 3, 3), "m": draw(4, 5), "d": draw(5)}
    nodes = [
        node("Conv", ["x", "w"], ["c"]), node("GlobalAveragePool", ["c"], ["g"]),
        node("Flatten", ["g"], ["f"]), node("Gemm", ["f", "m", "d"], ["y"], alpha=0.5),
    ]  # fmt: skip
    made = model(nodes, weights={name: data.astype(dtype) for name, data in weights.items()})
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    cost = dw.cost(saved(made, tmp_path))
    assert (cost.macs, cost.not_counted) == (4 * 27 * 36 + 20, ())
    found = {layer.type.dtype for layer in read_onnx(tmp_path / "net.onnx")}
    assert found == {np.dtype(dtype).name}


DAMAGED = {
    "nothing gives it": (node("Relu", ["nowhere"], ["y"]), "it reads 'nowhere', which nothing"),
    "attribute": (node("Relu", ["x"], ["y"], slope=1.0), "Unrecognized attribute: slope"),
    "no kernel": (node("MaxPool", ["x"], ["y"]), "Required attribute 'kernel_shape' is missing"),
    "sizes": (node("Conv", ["x", "w"], ["y"]), "does not fit weight"),
    "broadcast": (node("Add", ["x", "w"], ["y"]), "operator Add: "),
    "reshape": (node("Reshape", ["x", "s"], ["y"]), "has other elements than (7, 7)"),
    "axis": (node("Concat", ["x", "x"], ["y"], axis=9), "axis must be in [-rank, rank-1]"),
    "folding": (node("Gather", ["s", "far"], ["y"]), "cannot be computed"),
    "mode": (node("Pad", ["x", "p"], ["y"], mode="mirror"), "mode='mirror': one of constant, r"),
    "enlarging": (node("Resize", ["x", "", "", "q"], ["y"], mode="sinc"), "one of nearest, linear"),
    "operand": (node("Gather", ["x"], ["y"]), "input size 1 not in range"),
    "too many": (node("Relu", ["x", "x"], ["y"]), "input size 2 not in range"),
    "strides": (node("Conv", ["x", "v"], ["y"], strides=[1]), "strides has incorrect size"),
    "negative pads": (node("Conv", ["x", "v"], ["y"], pads=[-1] * 4), "not contain negative"),
    "kernel": (node("MaxPool", ["x"], ["y"], kernel_shape=[2]), "kernel_shape has incorrect size"),
    "axes": (node("Slice", ["x", "t", "s", "t"], ["y"]), "Axis 1 is referred to more than once"),
    "parts": (node("Split", ["x", "s"], ["y", "z"], axis=1), "sum of 'split' (14)"),
    "negative part": (node("Split", ["x", "u"], ["y", "z"], axis=1), "ONNX defines it as float32"),
    "window": (node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], pads=[2] * 4), "the window"),
    "size": (node("LRN", ["x"], ["y"], size=-3), "size=-3: 1 or more"),
    "empty size": (node("LRN", ["x"], ["y"], size=0), "LRN: its attributes are not those of"),
    "index": (node("Gather", ["x", "far"], ["y"], axis=1), "index 7 is not in an axis of 3"),
    "padding": (node("Conv", ["x", "v"], ["y"], auto_pad="SOME"), "auto_pad='SOME': one of NOTSET"),
    "memory": (node("ConstantOfShape", ["huge"], ["y"]), "GB of what is known beforehand"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_nodes_that_do_not_fit_are_named(case, tmp_path):
    bad, reason = DAMAGED[case]
    weights = {
        "w": draw(4, 5, 3, 3),
        "s": ints(7, 7),
        "p": ints(*range(8)),
        "t": ints(1, 1),
        "q": ints(1, 3, 16, 16),
        "u": ints(4, -1),
        "v": draw(4, 3, 3, 3),
        "far": ints(7),
        "huge": ints(10**6, 10**7),
    }
    said = refused(model([bad], weights=weights), tmp_path)
    assert said.startswith(f"node 'y', operator {bad.op_type}: ")
    assert reason in said


def test_other_faults_of_a_file_are_named(tmp_path):
    assert "the model has no inputs" in refused(model(RELU, {}), tmp_path)
    twice = model([*RELU, node("Neg", ["x"], ["y"])])
    assert "two values of the model are named 'y'" in refused(twice, tmp_path)
    short = model(CONV, weights=WEIGHT)
    short.graph.initializer[0].raw_data = short.graph.initializer[0].raw_data[:-4]
    assert "initializer stem.weight is damaged" in refused(short, tmp_path)
    for nothing in ([], [""]):
        said = refused(model([*RELU, node("Relu", ["x"], nothing, name="odd")]), tmp_path)
        assert said.startswith("node 'odd', operator Relu: it gives nothing")
    missing = model(RELU, outputs=("other",))
    assert "output 'other', which nothing" in refused(missing, tmp_path)
    sequence = model(RELU)
    sequence.graph.input[0].type.CopyFrom(
        helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))
    )
    assert "input x is a sequence" in refused(sequence, tmp_path, error=Unsupported)
    sparse = model(RELU)
    values = numpy_helper.from_array(np.ones(1, np.float32), "few")
    sparse.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(ints(0), "at"), [4])
    )
    assert "initializer few is sparse" in refused(sparse, tmp_path, error=Unsupported)
    same = model(RELU)
    same.graph.input.append(same.graph.input[0])
    assert "two inputs of the model are named 'x'" in refused(same, tmp_path)
    for number, name in ((TensorProto.STRING, "string"), (TensorProto.INT4, "int4")):
        odd = model(RELU)
        odd.graph.input[0].type.tensor_type.elem_type = number
        said = refused(odd, tmp_path, error=Unsupported)
        assert f"input x is {name}, a type that the graph does not have: there are float32" in said
    untyped = model(RELU)
    untyped.graph.input[0].type.tensor_type.elem_type = TensorProto.UNDEFINED
    assert "input x has no type of element" in refused(untyped, tmp_path)


def test_names_that_could_mislead_are_escaped(tmp_path):
    bad = node("Convolve", ["x"], ["y"], name="a\nb\u202ec")
    said = refused(model([bad]), tmp_path, error=Unsupported)
    assert "\n" not in said
    assert "\u202e" not in said
