"""A party's identity: its keys, its certificates, and how it joins, renews and leaves.

>>> identity = Identity.load(folder)             # signing key, card, charters
>>> credentials = identity.tls()                 # PEM for gRPC; call again after a renewal
>>> role, name = admit(peer_certificate, identity.charter)
"""

from sordino_platform.identity.enrolment import Card, EnrolmentReply, EnrolmentRequest, EnrolmentToken
from sordino_platform.identity.names import admit, identity_uri, peer_name, peer_uri
from sordino_platform.identity.site import (
    Identity,
    TlsCredentials,
    create,
    install,
    make_request,
    open_charters,
    read_card,
    require_signs,
    signer_of,
)

__all__ = [
    "Card",
    "EnrolmentReply",
    "EnrolmentRequest",
    "EnrolmentToken",
    "Identity",
    "TlsCredentials",
    "admit",
    "create",
    "identity_uri",
    "install",
    "make_request",
    "open_charters",
    "peer_name",
    "peer_uri",
    "read_card",
    "require_signs",
    "signer_of",
]
