"""The kernel's socket diagnostics (sock_diag(7)) over a raw netlink socket.

Two questions are asked: how deep is the accept queue of one listener, and which connections does
a listener have. Errors of the kernel are raised, not hidden.

Source: include/uapi/linux/{netlink,sock_diag,unix_diag,inet_diag}.h
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from collectors.errors import Unreadable

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 0x1
NLM_F_DUMP = 0x300
NLMSG_ERROR = 2
NLMSG_DONE = 3

UDIAG_SHOW_NAME = 0x01
UDIAG_SHOW_RQLEN = 0x10
UNIX_DIAG_NAME = 0
UNIX_DIAG_RQLEN = 4

TCP_ESTABLISHED = 1
TCP_CLOSE_WAIT = 8
TCP_LISTEN = 10
# Every state in which a process may hold an accepted connection: neither TIME_WAIT (6) and the two
# of the handshake (2, 3, 12), nor CLOSE (7) and LISTEN (10).
TCP_HELD_STATES = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11

# struct nlmsghdr { __u32 len; __u16 type; __u16 flags; __u32 seq; __u32 pid; }
_HEADER = struct.Struct("=IHHII")
# struct unix_diag_req { __u8 family, protocol; __u16 pad; __u32 states, ino, show, cookie[2]; }
_UNIX_REQUEST = struct.Struct("=BBHIIIII")
# struct unix_diag_msg { __u8 family, type, state, pad; __u32 ino, cookie[2]; }
_UNIX_MESSAGE = struct.Struct("=BBBBIII")
# struct nlattr { __u16 len; __u16 type; }
_ATTRIBUTE = struct.Struct("=HH")
# struct unix_diag_rqlen { __u32 rqueue, wqueue; }
_RQLEN = struct.Struct("=II")
# struct inet_diag_req_v2 { __u8 family, protocol, ext, pad; __u32 states; struct inet_diag_sockid id; }
# struct inet_diag_sockid { __be16 sport, dport; __be32 src[4], dst[4]; __u32 if, cookie[2]; }
_INET_REQUEST = struct.Struct("=BBBBI2s2s16s16sIII")
# struct inet_diag_msg { __u8 family, state, timer, retrans; struct inet_diag_sockid id;
#                        __u32 expires, rqueue, wqueue, uid, inode; }
_INET_MESSAGE = struct.Struct("=BBBB2s2s16s16sIIIIIIII")

_NO_COOKIE = 0xFFFFFFFF
_ANY_ADDRESS = bytes(16)
_LOOPBACK = socket.inet_aton("127.0.0.1") + bytes(12)


class Depth(NamedTuple):
    """Depth and limit of one accept queue, in connections."""

    depth_conns: int
    limit_conns: int


class Connection(NamedTuple):
    """One connection of a listener: its inode (0 while nobody has accepted it) and its unread bytes."""

    inode: int
    unread_bytes: int


class SockDiag:
    """An open netlink socket for diagnostics.

    Raises:
        Unreadable: the kernel has no sock_diag, or refuses it.
    """

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
            self._socket.bind((0, 0))
        except OSError as error:
            raise Unreadable(f"sock_diag: {error.strerror}") from error
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def unix_listener(self, inode: int) -> Depth:
        """Return the accept queue of the unix listener with this inode, by an exact query.

        Raises:
            Unreadable: there is no such socket any more, or the kernel has no unix_diag.
        """
        request = _UNIX_REQUEST.pack(
            socket.AF_UNIX, 0, 0, 1 << TCP_LISTEN, inode, UDIAG_SHOW_RQLEN, _NO_COOKIE, _NO_COOKIE
        )
        for body in self._ask(request, NLM_F_REQUEST):
            depth = _attributes(body, _UNIX_MESSAGE.size).get(UNIX_DIAG_RQLEN)
            if depth is not None:
                return Depth(*_RQLEN.unpack(depth))
        raise Unreadable("unix_diag: the answer has no queue length")

    def unix_connections(self, path: bytes) -> list[Connection]:
        """Return the accepted connections of the unix listener at a path.

        Connections that nobody has accepted have no inode, and the kernel's dump leaves them out.
        """
        request = _UNIX_REQUEST.pack(
            socket.AF_UNIX, 0, 0, 1 << TCP_ESTABLISHED, 0, UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN, 0, 0
        )
        connections = []
        for body in self._ask(request, NLM_F_REQUEST | NLM_F_DUMP):
            attributes = _attributes(body, _UNIX_MESSAGE.size)
            if attributes.get(UNIX_DIAG_NAME, b"").rstrip(b"\0") == path:
                _family, _type, _state, _pad, inode, _c0, _c1 = _UNIX_MESSAGE.unpack_from(body)
                unread, _unsent = _RQLEN.unpack(attributes[UNIX_DIAG_RQLEN])
                connections.append(Connection(inode, unread))
        return connections

    def tcp_listener(self, port: int) -> Depth:
        """Return the accept queue of the IPv4 listener that answers for a port on loopback, by an exact query.

        Raises:
            Unreadable: nobody listens on the port.
        """
        try:
            (body,) = self._ask(_inet_request(port, 1 << TCP_LISTEN, _LOOPBACK), NLM_F_REQUEST)
        except Unreadable as why:
            raise Unreadable(f"nobody listens on TCP port {port} ({why})") from why
        (_family, _state, _timer, _retrans, _sport, _dport, _src, _dst, _if, _c0, _c1,
         _expires, rqueue, wqueue, _uid, _inode) = _INET_MESSAGE.unpack_from(body)  # fmt: skip
        return Depth(rqueue, wqueue)

    def tcp_connections(self, port: int) -> list[Connection]:
        """Return the connections to a local port, accepted or not, that are past their handshake.

        The kernel counts a FIN that was received as one byte of the receive queue (tcp_diag_get_info); it is
        no byte that anybody could read.
        """
        return [
            Connection(inode, max(0, unread - (state == TCP_CLOSE_WAIT)))
            for inode, state, unread in self._tcp_sockets(port, TCP_HELD_STATES)
        ]

    def _tcp_sockets(self, port: int, states: int) -> Iterator[tuple[int, int, int]]:
        """Yield inode, state and rqueue of each IPv4 TCP socket on a local port."""
        for body in self._ask(_inet_request(port, states, _ANY_ADDRESS), NLM_F_REQUEST | NLM_F_DUMP):
            (_family, state, _timer, _retrans, sport, _dport, _src, _dst, _if, _c0, _c1,
             _expires, rqueue, _wqueue, _uid, inode) = _INET_MESSAGE.unpack_from(body)  # fmt: skip
            if int.from_bytes(sport, "big") == port:
                yield inode, state, rqueue

    def _ask(self, request: bytes, flags: int) -> list[bytes]:
        """Send one request and return the bodies of its answer, read to its very end."""
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, flags, self._sequence, 0)
        self._socket.send(header + request)
        dump = flags & NLM_F_DUMP == NLM_F_DUMP
        bodies: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 16)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, kind, _flags, sequence, _pid = _HEADER.unpack_from(data, offset)
                body = data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue  # the rest of an answer whose reading was interrupted by an error
                if kind == NLMSG_DONE:
                    return bodies
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    raise Unreadable(_explain(-code))
                bodies.append(body)
            if bodies and not dump:
                return bodies


def _inet_request(port: int, states: int, address: bytes) -> bytes:
    """Return the question for TCP sockets with a local port and address."""
    return _INET_REQUEST.pack(
        socket.AF_INET, socket.IPPROTO_TCP, 0, 0, states,
        port.to_bytes(2, "big"), b"\0\0", address, _ANY_ADDRESS, 0, _NO_COOKIE, _NO_COOKIE,
    )  # fmt: skip


def _explain(code: int) -> str:
    name = errno.errorcode.get(code, str(code))
    return f"sock_diag: {name} {os.strerror(code)}"


def _attributes(body: bytes, offset: int) -> dict[int, bytes]:
    """Split the netlink attributes behind a message's fixed part: type -> payload."""
    attributes = {}
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        attributes[kind] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return attributes
