"""The mechanisms of sordino: secure aggregation, private training, accounting and audit.

Rules of this floor, checked by the linter and by review: no network, no clock, no Flower, no files
of its own. Randomness is drawn from the operating system in one place and handed in everywhere else,
so that every mechanism can be driven by a test.
"""
