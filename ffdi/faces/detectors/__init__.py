"""Face detectors: ONNX files that are known by their graphs, run on ONNX Runtime, and the faces that they find."""
