"""The member's own controls: a small authenticated endpoint in the agent, for the editor on the same machine.

It shows what the agent does and what privacy costs, and takes what a person decides: take part in the offered round,
withdraw, pause, resume. It is another door than the completion endpoint, with a token of its own, because a program
that may ask for completions need not be able to start a round. Nothing here can raise a budget.

    api.py      the routes, behind the guard of the completion endpoint
    server.py   the thread that serves them, and the files by which editors find them
"""
