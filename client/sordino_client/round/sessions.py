"""Where a member's session lies between two messages: in this process's memory, as Flower's state of the node.

A session holds secrets, so it is never on a disk. The one exception are virtual nodes, whose sessions lie in their
folders: Flower's simulation engine would keep all of them, a thousand sessions of half a megabyte, in the process that
holds the coordinator, and they protect only code of one person on one machine.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flwr.app import ConfigRecord, ConfigRecordValues, Context

from sordino_client.round.addressee import is_virtual
from sordino_client.round.member import Member
from sordino_platform.durable import read_secret, write_file
from sordino_privacy.secagg import MemberSession, OrderError, RoundContext

SESSION: Final = "sordino.session/1"
FILE: Final = "session.bin"
MOST_BYTES: Final = 1 << 28
AGREEMENT, SECRETS, TENURE = "agreement", "secrets", "tenure"
FIELDS: Final = (AGREEMENT, SECRETS, TENURE)
KEEPING = threading.Lock()

Kept = Mapping[str, bytes]


def begin_session(
    member: Member, context: Context, agreement: RoundContext, session: MemberSession, tenure: bytes
) -> None:
    """Keeps a session that begins, with its secrets and the tenure under which the coordinator proposed it."""
    with KEEPING:
        _store(
            member,
            context,
            {
                AGREEMENT: agreement.encode(),
                SECRETS: session.snapshot_with_secrets(),
                TENURE: tenure,
            },
        )


def keep_session(member: Member, context: Context, session: MemberSession) -> None:
    """Puts the session away between two messages, after `kept_session`."""
    with KEEPING:
        _store(member, context, {**_known(member, context), SECRETS: session.snapshot_with_secrets()})


def keep_session_if_current(
    member: Member, context: Context, agreement: RoundContext, session: MemberSession
) -> None:
    """`keep_session` for the thread that sends. Does nothing if the handler has begun or forgotten an attempt since."""
    with KEEPING:
        kept = _load(member, context)
        if kept is not None and kept[AGREEMENT] == agreement.encode():
            _store(member, context, {**kept, SECRETS: session.snapshot_with_secrets()})


def kept_session(member: Member, context: Context) -> Kept:
    """What was kept: the agreement, the secrets, the tenure. Raises OrderError when there is nothing."""
    with KEEPING:
        return _known(member, context)


def forget_session(member: Member, context: Context) -> None:
    """Drops the session and its secrets."""
    with KEEPING:
        if is_virtual(context):
            _file(member).unlink(missing_ok=True)
        elif SESSION in context.state:
            del context.state[SESSION]


def _known(member: Member, context: Context) -> Kept:
    kept = _load(member, context)
    if kept is None:
        raise OrderError("no round is under way at this member")
    return kept


def _file(member: Member) -> Path:
    return member.folder / FILE


def _load(member: Member, context: Context) -> Kept | None:
    if not is_virtual(context):
        record = context.state.get(SESSION)
        if not isinstance(record, ConfigRecord):
            return None
        return {name: bytes(record[name]) for name in FIELDS}  # type: ignore[arg-type]
    if not _file(member).exists():
        return None
    data, kept = read_secret(_file(member), limit=MOST_BYTES), dict[str, bytes]()
    for name in FIELDS:
        size = int.from_bytes(data[:4], "big")
        kept[name], data = data[4 : 4 + size], data[4 + size :]
    return kept


def _store(member: Member, context: Context, kept: Kept) -> None:
    if not is_virtual(context):
        snapshot: dict[str, ConfigRecordValues] = dict(kept)
        context.state[SESSION] = ConfigRecord(snapshot)
        return
    parts = [part for name in FIELDS for part in (len(kept[name]).to_bytes(4, "big"), kept[name])]
    write_file(_file(member), *parts, secret=True)
