"""`sordino bench base`: compares vocabularies, pre-tokenizations and sizes of the public base at equal compute.

candidates.py        what is compared, and what one token costs
comparison.py        trains and measures one candidate, with the trainer that made the base
commands.py          the command, its table and its report
"""
