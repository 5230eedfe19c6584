"""Networks trained elsewhere: their spec file, their decoders as ONNX nodes and in numpy, and the graph around them."""
