"""`sordino bench secrets`: what the credential rules miss, their false positives, and their speed.

    kinds.py       78 kinds of credential, each drawn at random with a seed
    values.py      how a value of each kind is drawn
    languages.py   29 languages and the places in their code where credentials stand (contexts.py says what a place is)
    planted.py     one file for each kind, language and place; which kinds, languages and places are held out
    recall.py      reads those files with the real reader: what is left in the kept text
    realcode.py    real source files: files left out wrongly, masked text, lines per second
    peers.py       other scanners on the same files, if they are installed
    commands.py    the command

No planted value is a real credential, and no real code is kept.
"""
