"""The mechanisms of sordino: secure aggregation, private training, accounting and audit.

Rules of this package, checked by the linter and by review: no network, no clock, no Flower, no files of its
own. Randomness is drawn from the operating system in one place and passed to every function that needs it, so that a
test can drive every mechanism.
"""
