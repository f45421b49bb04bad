"""`sordino bench secrets`: what the credential rules miss, what they take for one wrongly, and how fast they are.

    kinds.py       78 kinds of credential, each drawn at random by a seed
    values.py      how a value of each kind is drawn
    languages.py   29 languages and the places in their code where credentials stand (contexts.py says what a place is)
    planted.py     one file for each kind, language and place; which of them were held out
    recall.py      those files through the real reader: what survives in the text that is kept
    realcode.py    real source files: what is left out wrongly, what is masked, how many lines a second
    peers.py       other scanners over the same files, where they are installed
    commands.py    the command

None of the planted values belongs to anybody, and no real code is kept.
"""
