"""The wire format: `link_v1.proto`, which is its own documentation, and the stubs that `make proto` generates from it.

Nothing but `sordino_platform.link.frames` reads or writes these messages; everybody else sees frozen dataclasses.
"""
