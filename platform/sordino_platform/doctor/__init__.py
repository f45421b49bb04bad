"""`sordino doctor`: looks before something fails, and explains each thing that is wrong.

    finding.py   what a check found
    checks.py    what holds for every party: versions, clock, identity, charter, certificate, disk
    root.py      the root's folder
    command.py   runs the checks of a folder and prints them

What only a member or only the coordinator has is checked by their own packages, through the entry points of the group
`sordino.doctors`, named for the role.
"""
