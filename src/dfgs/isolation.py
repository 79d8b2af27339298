"""Cut a process off the network before it reads what a stranger wrote."""

import ctypes
import socket
from typing import Any, NoReturn

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000


def cut_network() -> None:
    """Take the network from this process, for good; call it before threads are started.

    On Linux it moves into a network namespace of its own where the kernel lets it; everywhere Python's sockets raise
    `PermissionError` from then on.
    """
    unshare = getattr(ctypes.CDLL(None), "unshare", None)
    if unshare is not None:
        unshare(CLONE_NEWUSER | CLONE_NEWNET)  # a kernel that refuses leaves us with the closed sockets below
    socket.socket = _Closed  # type: ignore[assignment,misc]
    socket.create_connection = _refuse
    socket.getaddrinfo = _refuse


class _Closed:
    def __init__(self, *_: Any, **__: Any) -> None:
        _refuse()


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise PermissionError("this process may not use the network")
