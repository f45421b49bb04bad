"""Code completion on a member's own machine: the engine, the local memory, and an endpoint that editors speak.

One process per member (`python -m sordino_client.completion --state DIR`), which imports no torch, listens on
loopback and on a Unix socket only, and reads nothing on behalf of a prompt: it completes text, and that is all.

    bundle.py       the released weights on disk, checked before they are used
    cache.py        keys and values of the tokens that were already read
    reference.py    the network in NumPy: the oracle of the tests, and the fallback
    graph.py        the network as an ONNX graph
    quantise.py     its matrices as integers
    selftest.py     whether a network may serve, and in which precision
    runtime.py      the ONNX Runtime session that serves it
    generation.py   prompts, token healing, stops, alternatives: from text to text
    engine.py       one worker thread, latest request first, models swapped between two requests
    memory/         what the member's own files suggest; never leaves the machine
    api/            one file per dialect, behind one guard
"""
