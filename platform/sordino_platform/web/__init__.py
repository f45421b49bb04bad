"""Every HTTP port of the product has the same rules, the same limits, and a server that sleeps while it is idle.

    callers.py      where a request comes from, by its head: Host, Origin, Fetch-Metadata
    connections.py  how long a head may take, how many connections a listener holds, and which one is closed
    server.py       uvicorn with both, without its ten wake-ups a second
    metrics.py      `GET /metrics` on a thread of its own

A port on loopback is reachable by every page in a browser and every process of every user of the machine. Requests
without a token must cost the owner nothing: they must not use up connections or allowances, nor make the owner wait.
"""
