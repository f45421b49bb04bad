"""The one door to what Linux, macOS and Windows do differently.

No module outside of this folder asks which system it runs on, or uses what only one of them has: `fcntl`, `resource`,
`/proc`, Unix sockets, niceness, batteries, services. Each topic is a module that offers one thing to all callers:

    locks       a lock on a file that the kernel drops with the process
    files       how a file is opened, made private, and brought to the disk
    tree        folders that are read without ever leaving them
    processes   is it alive, pause it, end it with its parent, give way, hold it to a size
    memory      how much there is, how much a process has
    large_pages what is read again and again in large pages
    processors  which there are, and how busy they are
    power       is the battery in use
    sockets     doors of this machine only
    endings     being told to end
    service     `systemd`, `launchd`, `task_scheduler`: run from each login on

A side is chosen by what the system has, not by its name, wherever that can be asked. Where a system has no equal, the
function says so in its docstring, and docs/systems.md lists it.
"""
