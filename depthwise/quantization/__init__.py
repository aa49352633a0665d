"""Networks in eight bits: from a graph to one with explicit Quantize and Dequantize nodes.

scheme (what numbers become) - preparing, placement (what is computed in integers) - insertion (the
graph that says so) - integer_ops, integer (what kernels compute, exactly), linear (layers as ONNX
has them), simulation (`dw.simulate`) - ranges (from calibration images), running (the rounded
network on many images), equalisation, correction (of layers, for what rounding does), judging,
steps (the whole road, each step verified) - removal (the way back) - straight_through, trainable
(networks that learn while they are rounded).

Weights are int8, symmetric, one scale for each output channel; activations uint8 with a zero point,
one scale for a value; sums int32. First and last layers are as all others. Jacob et al.,
arXiv:1712.05877; Nagel et al., arXiv:2106.08295.
"""
