"""The local memory: what the member's own files suggest, at no cost in privacy, because it never leaves.

A small model knows the language; the memory knows the names, idioms and boilerplate of these repositories. Both
predictions are mixed at every token.

    index.py     a suffix order over tokens: where what stands before the cursor stood before, for every length
    mixture.py   the weights: several lengths of match blended into the model's distribution, by a fitted table
    store.py     the folder: segments on disk (0600), refreshed as files change, purged with the repository
    recall.py    one query's view of index and open file: the evidence and the drafts
    alone.py     the memory without a model, for measuring
    __main__.py  building, in a process of its own at the lowest priority

It reproduces text word for word, so it is built from what `sordino_client.corpus` lets through (ignore rules, secret
scan), lies in a folder of its own that only its owner can enter, and nothing that can reach a network imports it
except the endpoint, which answers on loopback only (tests/completion/test_memory.py).
"""
