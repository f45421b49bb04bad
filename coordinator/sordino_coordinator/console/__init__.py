"""The console: one read-only page about the federation, served by the coordinator to its operator.

It needs no Prometheus, no Node and nothing from elsewhere: the page is rendered here, charts and runbooks included, and
is complete without script. Its modules:

    access    the operator's token, sessions, and how often a wrong token may be tried
    guard     what is refused before anything else looks at a request; the headers of every reply
    state     one frozen picture of the federation, read from its records and its events
    health    what that picture means: one verdict, and for each finding the runbook
    curve     the geometry of the loss curve
    runbooks  the project's runbooks as pages
    signing_in  signing in by the company's identity provider
    pages     the pages and their routes
    server    the thread that serves them

    >>> console = Console(federation)
    >>> console.stop()
"""

from sordino_coordinator.console.access import TOKEN_FILE
from sordino_coordinator.console.server import Console

__all__ = ["TOKEN_FILE", "Console"]
