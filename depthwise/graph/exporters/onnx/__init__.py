"""ONNX: a rule an operator (layers, tensors, deform), nodes and their names (writer), the file."""
