"""Founds a federation with one command per party: a plan, join codes, one approval.

    root's holder   sordino federation plan plan.toml          makes the root, and a join code for each party
    each party      sordino join CODE ...                      makes its keys and a request, waits, goes on by itself
    root's holder   sordino federation approve root *.json     adds all, signs once, issues every certificate

    plan.py      the file
    code.py      the join code: one line, short-lived, pinned to the root
    joining.py   a party's side, which may be broken off and begun again at any point
    commands.py  the commands

The steps are those of `sordino_platform.identity`, which can also be taken one by one. Keys are made where they are
used and never leave; the root stays offline. People carry each request to the root, and one file back to everyone.
"""
