"""What a member takes of its federation: its own code decides, on this machine, in the background.

choice.py      the ways to be served, and which one is best
record.py      the choice as it is kept, and when it is due again
made_of.py     the inputs that a choice would have now
measuring.py   how well each way predicts the member's held-out files, with its own memory on
upkeep.py      starts the choosing, in a process of its own at the lowest priority
command.py     `sordino client taken`
__main__.py    that process
"""
