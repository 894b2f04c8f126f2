//! Fetches ONNX Runtime.
