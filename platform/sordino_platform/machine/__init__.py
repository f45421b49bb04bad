"""Everything that differs between Linux, macOS and Windows.

No module outside of this folder asks which system it runs on, or uses what only one of them has: `fcntl`, `resource`,
`/proc`, Unix sockets, niceness, batteries, services. Each topic is a module that offers one thing to all callers:

    locks       a lock on a file that the kernel drops with the process
    files       how a file is opened, made private, and brought to the disk
    tree        reads folders without ever leaving them
    processes   is it alive, pause it, end it with its parent, lower its priority, limit its memory
    memory      how much there is, how much a process has
    large_pages puts memory that is read again and again into large pages
    processors  which there are, and how busy they are
    power       is the battery in use
    sockets     sockets that only this machine can reach
    endings     requests to end
    service     `systemd`, `launchd`, `task_scheduler`: run a program from each login on

If possible, code tests for a feature of the system, not for its name. When a system has no equivalent, the function's
docstring says so, and docs/systems.md lists it.
"""
