"""The public base model: its corpora, its tokenizer and its training, all reproducible from package names.

    sordino corpus fetch ROLE                        sources by package name, cleaned, deduplicated, with a manifest
    sordino pretrain                                 tokenizer, token shards, Muon, checkpoints, loss graph

Nothing here touches a member's code: this is the part of sordino that is trained in public.
"""
