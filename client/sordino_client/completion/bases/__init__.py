"""Models that others made, served by our engine: any decoder of a Hugging Face folder, with a federation's adapters.

form.py        what a configuration says of the decoder, as far as our graph computes it
tensors.py     the folder's tensors, one at a time
weights.py     the weights under our own names, adapters added
rotation.py    the same decoder with those activations turned that no norm makes
graph.py       the decoder as an ONNX graph: integers by rows, exact sums (ADR 36)
network.py     the session
oracle.py      the same decoder in NumPy, which the session is held against before it serves
fallback.py    decoders that the graph does not know, in transformers
vocabulary.py  the base's tokenizer as the engine's vocabulary
served.py      the bundle that names a base and a release's adapters, and the way to a tested generator
evaluation.py  the served base on held-out code
"""
