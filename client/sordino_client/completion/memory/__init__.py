"""The local memory: what the member's own files suggest, at no cost in privacy, because it never leaves.

A small model knows the language; the memory knows the names, idioms and boilerplate of these repositories. Both
predictions are mixed at every token: p = (1 - l) p_model + l p_memory.

    index.py     a suffix order over tokens: the longest match of what stands before the cursor
    store.py     the folder: segments on disk (0600), refreshed as files change, purged with the repository
    recall.py    one query's view of index and open file: the mixture and the drafts
    __main__.py  building, in a process of its own at the lowest priority

It reproduces text word for word, so it is built from what `sordino_client.corpus` lets through (ignore rules, secret
scan), lies in a folder of its own that only its owner can enter, and nothing that can reach a network imports it
except the endpoint, which answers on loopback only (tests/completion/test_memory_stays.py).
"""
