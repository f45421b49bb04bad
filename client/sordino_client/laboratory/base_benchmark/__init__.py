"""`sordino bench base`: vocabulary, pre-tokenization and size of the public base, measured at equal arithmetic.

candidates.py        what is compared, and what a token of each costs
comparison.py        one candidate from its tokenizer to its bits per byte, with the trainer that made the base
commands.py          the command, its table and its report
"""
