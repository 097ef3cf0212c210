"""Pictures -> boxes of faces, by ONNX files of several kinds of detectors."""
