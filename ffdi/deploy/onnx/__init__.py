"""A model as one ONNX file: its graph, the check against the model, eight bits, what it says of itself."""
