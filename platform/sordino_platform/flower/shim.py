"""Everything of flwr that is not its public API, in one file.

Built and tested against flwr 1.42; `flwr.app`, `flwr.clientapp` and `flwr.serverapp` are used directly elsewhere.
What is here and why:
* a message outside a Flower task takes its run and source from `TaskIdentity`, which only Flower's own runners set;
* serialising a message (`flwr.common.serde`) is not exported;
* `Run` and `NodeInfo`, which the abstract `Grid` asks for, are not exported;
* a message gets its id from the transport, through a private field;
* the code by which Flower's own transport says why there is no reply is not exported.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable

# Both are read when flwr is imported.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_to_proto
from flwr.common.serde_utils import metadata_to_proto
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from google.protobuf.message import DecodeError

from sordino_privacy.errors import LinkError

__all__ = [
    "Run",
    "content_to_proto",
    "empty_run",
    "from_proto",
    "identify",
    "is_gone",
    "metadata_to_bytes",
    "new_context",
    "stamp",
    "to_proto",
]

COORDINATOR_NODE = 1  # flwr's own id of the server side (SUPERLINK_NODE_ID)


def identify(*, run: int, node: int) -> None:
    """Sets the run and the node of this process, as Flower's runners do. Needed before a `Message` is made."""
    TaskIdentity.run_id = run
    TaskIdentity.node_id = node
    TaskIdentity.task_id = 0


def empty_run(run: int) -> Run:
    """A `Run` with nothing but its id: our grid has no bundle, no account and no remote configuration."""
    return Run.create_empty(run)


def new_context(*, run: int, node: int, run_config: UserConfig) -> Context:
    """A context with empty state for one node of one run."""
    return Context(run_id=run, node_id=node, node_config={}, state=RecordDict(), run_config=run_config)


def stamp(message: Message) -> str:
    """Gives a message an id, as a transport must before sending; returns it."""
    message.metadata.__dict__["_message_id"] = str(uuid.uuid4())
    return message.metadata.message_id


def is_gone(error: Error) -> bool:
    """Whether Flower's own transport made this answer for a node that is missing or was too late."""
    return error.code in (
        ErrorCode.NODE_UNAVAILABLE,
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    )


def to_proto(message: Message) -> bytes:
    """The message as protobuf bytes (`flwr.proto.message_pb2.Message`)."""
    data: bytes = message_to_proto(message).SerializeToString()
    return data


def content_to_proto(content: RecordDict) -> bytes:
    """The part of `to_proto` that is the same in every message with this content. It follows the metadata."""
    data: bytes = MessageProto(content=recorddict_to_proto(content)).SerializeToString()
    return data


def metadata_to_bytes(message: Message) -> bytes:
    """The part of `to_proto` that comes first and differs between messages."""
    data: bytes = MessageProto(metadata=metadata_to_proto(message.metadata)).SerializeToString()
    return data


def from_proto(data: bytes, *, require: Callable[[MessageProto], None]) -> Message:
    """The message in `data`, after `require` accepted its protobuf. Raises LinkError when it is not a message, and what
    `require` raises."""
    proto = MessageProto()
    try:
        proto.ParseFromString(data)
        require(proto)
        return message_from_proto(proto)
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise LinkError("the peer sent bytes that are not a Flower message") from error
