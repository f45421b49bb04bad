"""What of a written text is worth showing. Nothing here writes: it only shortens, or silences.

syntax.py    a text that adds a syntax error to its file is cut to the longest beginning that adds none
worth.py     where to end, and whether to show at all: what is saved if it is right against what is read if it is not
judgement.py both, for one answer
"""
