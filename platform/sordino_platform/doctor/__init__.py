"""`sordino doctor`: finds problems before something fails, and explains each one.

    finding.py   what a check found
    checks.py    what holds for every party: versions, clock, identity, charter, certificate, disk
    root.py      the root's folder
    command.py   runs the checks of a folder and prints them

Checks for a member only, or for the coordinator only, are in their own packages: entry points of the group
`sordino.doctors`, named after the role.
"""
