"""Decides how much of a written text is worth showing. Nothing here writes: a text is only shortened, or not shown.

syntax.py    a text that adds a syntax error to its file is cut to the longest beginning that adds none
worth.py     where to end, and whether to show at all: characters saved if it is right, against text read in vain
judgement.py both, for one answer
"""
