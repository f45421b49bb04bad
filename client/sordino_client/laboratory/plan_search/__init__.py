"""Searches the plan with the largest gain for a federation at a fixed epsilon, on public projects only.

proxies.py    the projects of the role `field-tuning`: those that train, and those that never take part
trial.py      one plan tried in this process, by the engine of the product
search.py     one dimension after the other; what was tried is kept, and never tried again
__main__.py   the command
"""
