"""`sordino bench federation`: what a private federation gains, measured on eight real projects as eight members.

profile.py           the sizes of a run: the full benchmark, and a quick one for tests
repositories.py      the members' projects as repositories on disk, with whole packages held out
contenders.py        training without privacy, in this process: central, alone, a member's own adapter
private.py           private training alone, with the engine that a member of a federation uses
federation.py        the real federation: processes, mutual TLS, secure aggregation, ledgers
measuring.py         bits per byte, next tokens and lines, layer by layer: model, own adapter, memory
stages.py            finished stages are kept in the run's folder and never run again
report.py, curves.py the figures and the pictures
"""
