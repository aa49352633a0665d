"""Operators in each form that opsets from 9 on give them: attributes that became operands."""

import numpy as np
import pytest
from onnx_models import compare, draw, ints, model, node

from depthwise.graph import ops

IMAGE = (1, 3, 8, 8)


def both(name, opset, operands, **attributes):
    """Return nodes and weights of an operator: attributes up to `opset`, operands since."""
    older = ([node(name, ["x"], ["y"], **attributes)], {})
    names = [f"operand{i}" for i in range(len(operands))]
    newer = ([node(name, ["x", *names], ["y"])], dict(zip(names, operands, strict=True)))
    return {opset - 1: older, opset: newer, 25: newer}


FORMS = {
    "squeeze": both("Squeeze", 13, [ints(0)], axes=[0]),
    "unsqueeze": both("Unsqueeze", 13, [ints(0, 3)], axes=[0, 3]),
    "clip": both("Clip", 11, [np.float32(-0.5), np.float32(0.7)], min=-0.5, max=0.7),
    "slice": both("Slice", 10, [ints(1, 0), ints(-1, 2), ints(2, 1)], starts=[1, 0], ends=[-1, 2],
                  axes=[2, 1]),
    "pad": both("Pad", 11, [ints(0, 0, 1, 2, 0, 0, 3, 0), np.float32(0.5)],
                pads=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5),
    "reduce_mean": both("ReduceMean", 18, [ints(2, 3)], axes=[2, 3]),
    "reduce_sum": both("ReduceSum", 13, [ints(1)], axes=[1]),
    "reduce_l2": both("ReduceL2", 18, [ints(-1)], axes=[-1]),
    "reduce_l1": both("ReduceL1", 18, [ints(-1)], axes=[-1]),
    "reduce_max": both("ReduceMax", 18, [ints(-2)], axes=[-2]),
    "reduce_log_sum_exp": both("ReduceLogSumExp", 18, [ints(1, 2)], axes=[1, 2]),
    "dropout": {9: ([node("Dropout", ["x"], ["y"], ratio=0.3)], {}),
                12: ([node("Dropout", ["x", "r", "t"], ["y"])],
                     {"r": np.float32(0.5), "t": np.array(False)})},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "opset"), [(name, opset) for name, forms in FORMS.items() for opset in forms]
)
def test_each_form_of_an_operator_means_the_same(name, opset, tmp_path):
    nodes, weights = FORMS[name][opset]
    graph = compare(model(nodes, IMAGE, weights, opset=opset), tmp_path)
    newest = max(FORMS[name])
    other = compare(model(FORMS[name][newest][0], IMAGE, FORMS[name][newest][1], opset=newest),
                    tmp_path)  # fmt: skip
    assert [n.op for n in graph] == [n.op for n in other]


@pytest.mark.parametrize("opset", [9, 12, 13, 22])
def test_split_takes_its_sizes_in_both_forms(opset, tmp_path):
    attributes = {"split": [1, 2]} if opset < 13 else {}
    operands, weights = (["x"], {}) if opset < 13 else (["x", "sizes"], {"sizes": ints(1, 2)})
    nodes = [node("Split", operands, ["y", "z"], axis=1, **attributes)]
    compare(model(nodes, IMAGE, weights, ("y", "z"), opset), tmp_path)


@pytest.mark.parametrize("axis", [None, 1, 2, 3, -1])
@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax"])
def test_softmax_was_over_all_axes_from_one_on_before_opset_13(operator, axis, tmp_path):
    attributes = {} if axis is None else {"axis": axis}
    old = model([node(operator, ["x"], ["y"], **attributes)], (2, 3, 4, 5), opset=11)

    def flattened(inputs):  # ONNX's reference knows the newer meaning alone
        x = inputs["x"]
        rows = x.reshape(int(np.prod(x.shape[: axis if axis is not None else 1])), -1)
        powers = np.exp(rows - rows.max(1, keepdims=True))
        y = powers / powers.sum(1, keepdims=True)
        return [(np.log(y) if operator == "LogSoftmax" else y).reshape(x.shape)]

    compare(old, tmp_path, expected=flattened)
    compare(model([node(operator, ["x"], ["y"], **attributes)], (2, 3, 4, 5), opset=13), tmp_path)


UPSAMPLING = {
    7: (node("Upsample", ["x"], ["y"], mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]), {}),
    9: (node("Upsample", ["x", "s"], ["y"], mode="nearest"), {"s": [1, 1, 2, 3]}),
    10: (node("Resize", ["x", "s"], ["y"], mode="nearest"), {"s": [1, 1, 2, 3]}),
    11: (node("Resize", ["x", "", "s"], ["y"], mode="nearest", nearest_mode="floor",
              coordinate_transformation_mode="asymmetric"), {"s": [1, 1, 2, 3]}),
}  # fmt: skip


@pytest.mark.parametrize("opset", UPSAMPLING)
def test_upsample_and_old_resize_take_pixels_from_above_and_left(opset, tmp_path):
    operator, weights = UPSAMPLING[opset]
    weights = {name: np.array(scales, np.float32) for name, scales in weights.items()}
    made = model([operator], (1, 2, 3, 4), weights, opset=opset)
    graph = compare(made, tmp_path, expected=lambda i: [i["x"].repeat(2, 2).repeat(3, 3)])
    assert [n.op for n in graph] == [ops.Resize("nearest", (6, 12), (1 / 2, 1 / 3))]


@pytest.mark.parametrize("opset", [18, 21])
def test_group_norm_scales_groups_until_opset_20_and_channels_since(opset, tmp_path):
    count = 2 if opset == 18 else 6
    weights = {"scale": draw(count), "bias": draw(count) + 1}
    nodes = [node("GroupNormalization", ["x", "scale", "bias"], ["y"], num_groups=2)]

    def normalised(inputs):
        x = inputs["x"].reshape(2, 2, -1)
        x = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5)
        scale, bias = (w.repeat(6 // count).reshape(1, 6, 1, 1) for w in weights.values())
        return [x.reshape(2, 6, 4, 4) * scale + bias]

    compare(model(nodes, (2, 6, 4, 4), weights, opset=opset), tmp_path, expected=normalised)


def test_batch_norm_has_its_old_attributes(tmp_path):
    weights = {name: np.abs(draw(3)) + 0.5 for name in "abcd"}
    nodes = [node("BatchNormalization", ["x", *"abcd"], ["y"], epsilon=1e-3, momentum=0.8)]

    def normalised(inputs):
        scale, shift, mean, variance = (w.reshape(1, 3, 1, 1) for w in weights.values())
        return [(inputs["x"] - mean) / np.sqrt(variance + 1e-3) * scale + shift]

    for opset in (9, 14, 15):
        graph = compare(model(nodes, IMAGE, weights, opset=opset), tmp_path, expected=normalised)
        trained = [name for name, constant in graph.constants.items() if constant.trainable]
        assert trained == ["a", "b"]  # scale and shift, no statistics
