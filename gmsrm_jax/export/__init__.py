"""The network as a file that other programs run: StableHLO and ONNX, and the check of both."""
