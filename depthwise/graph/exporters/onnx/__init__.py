"""ONNX: writer (names, nodes) - rules, layers, tensors, deform (a rule an operator) - export, file."""
