"""Every HTTP port of the product, whoever may reach it: the same rules, the same limits, one server that sleeps.

    callers.py      whom a request's head comes from: Host, Origin, Fetch-Metadata
    connections.py  how long a head may take, how many connections a listener holds, and which one gives way
    server.py       uvicorn with both, without its ten wake-ups a second
    metrics.py      `GET /metrics` on a thread of its own

A port on loopback is reachable by every page in a browser and every process of every user of the machine. What they
send before they show a token must cost the owner nothing: no place, no allowance, no wait.
"""
