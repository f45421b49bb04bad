"""Next edit: the change that was just made in one place is offered at the next place where it applies.

change.py   what an edit changed: tokens of one line, and what stands beside them
place.py    the places that look as that one did
next.py     which of them is offered, if any
"""
