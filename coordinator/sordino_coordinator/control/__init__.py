"""What an operator asks of a coordinator, and what it says of itself.

    orders.py    the durable orders: pause, pace, rollback; changed by a command or over the API
    schedule.py  the hours in which rounds may begin
    live.py      what the process does now
    audit.py     what was done and by whom, chained and signed
    desk.py      follows the orders between two rounds
    api.py       the same over HTTPS with a bearer token
    view.py      all of it read from the folder, for the status command, the API and the console

Whoever may write the coordinator's folder may give orders there; whoever holds the token may give them over the API.
Neither can loosen what members check: the charter's floors and its privacy policy are theirs.
"""
