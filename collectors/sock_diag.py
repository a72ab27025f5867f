"""The kernel's socket diagnostics (sock_diag(7)) over a raw netlink socket.

Two questions are asked. How deep is the accept queue of one listener: an exact query, packed once and asked a
thousand times a second. Which connections does a listener have: a dump. Errors of the kernel are raised.

Source: include/uapi/linux/{netlink,sock_diag,unix_diag,inet_diag}.h
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from collectors.errors import Unreadable

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST = 0x1
NLM_F_DUMP = 0x300
NLMSG_ERROR = 2
NLMSG_DONE = 3

UDIAG_SHOW_NAME = 0x01
UDIAG_SHOW_ICONS = 0x08
UDIAG_SHOW_RQLEN = 0x10
UDIAG_SHOW_MEMINFO = 0x20
UNIX_DIAG_NAME = 0
UNIX_DIAG_ICONS = 3
UNIX_DIAG_RQLEN = 4
UNIX_DIAG_MEMINFO = 5
INET_DIAG_SKMEMINFO = 7

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
# struct nlmsgerr { int error; struct nlmsghdr msg; }
_ERROR = struct.Struct("=i")
# struct inet_diag_req_v2 { __u8 family, protocol, ext, pad; __u32 states; struct inet_diag_sockid id; }
# struct inet_diag_sockid { __be16 sport, dport; __be32 src[4], dst[4]; __u32 if, cookie[2]; }
_INET_REQUEST = struct.Struct("=BBBBI2s2s16s16sIII")
# struct inet_diag_msg { __u8 family, state, timer, retrans; struct inet_diag_sockid id;
#                        __u32 expires, rqueue, wqueue, uid, inode; }
_INET_MESSAGE = struct.Struct("=BBBB2s2s16s16sIIIIIIII")

# enum { SK_MEMINFO_RMEM_ALLOC, RCVBUF, WMEM_ALLOC, SNDBUF, FWD_ALLOC, WMEM_QUEUED, … }; newer kernels have more.
_MEMINFO = struct.Struct("=6I")

# What is read of an answer to an exact query: type of the message, then
# of unix_diag_msg the one attribute that was asked for: its type, rqueue, wqueue;
_UNIX_DEPTH = struct.Struct(f"=4xH10x{_UNIX_MESSAGE.size}x2xHII")
# of inet_diag_msg: its family, rqueue, wqueue.
_INET_DEPTH = struct.Struct("=4xH10xB55xII8x")

_NOT_OF_THE_KERNEL = "sock_diag: the answer is not put together as those of the kernel are"

_NO_COOKIE = 0xFFFFFFFF
_ANY_ADDRESS = bytes(16)
_LOOPBACK = socket.inet_aton("127.0.0.1") + bytes(12)
# The kernel prepares as much of a dump at a time as the largest recv() on the socket so far had room for, 32 KiB
# at most (netlink_dump in net/netlink/af_netlink.c). A small part takes the kernel a tenth of a millisecond.
LARGEST_PART_BYTES = 1 << 15
SMALL_PART_BYTES = 1 << 13

# Depth and limit of one accept queue, in connections.
Depth = tuple[int, int]


class Connection(NamedTuple):
    """One connection to a listener.

    Attributes:
        inode: 0 while nobody has accepted it.
        unread_bytes: of its receive queue.
        client_left: the client has closed. Of an accepted unix connection it is not asked, and False.
    """

    inode: int
    unread_bytes: int
    client_left: bool


def open_socket() -> socket.socket:
    """Open a netlink socket for diagnostics.

    Raises:
        Unreadable: the kernel has no sock_diag, or refuses it.
    """
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
        opened.bind((0, 0))
    except OSError as error:
        raise Unreadable(f"sock_diag: {error.strerror}") from error
    return opened


# --- exact queries ------------------------------------------------------------------------------


class Question(NamedTuple):
    """An exact query for one listener, packed.

    Attributes:
        message: with its header.
        answer: places of the type of the message, of a mark of what it is about, of rqueue and wqueue.
        mark: the mark of an answer to this question.
        missing: what an error means.
    """

    message: bytes
    answer: struct.Struct
    mark: int
    missing: str


def ask_unix_listener(inode: int) -> Question:
    """Return the question for the accept queue of the unix listener with this inode."""
    request = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << TCP_LISTEN, inode, UDIAG_SHOW_RQLEN, _NO_COOKIE, _NO_COOKIE)
    message = _message(request, NLM_F_REQUEST, 0)
    return Question(message, _UNIX_DEPTH, UNIX_DIAG_RQLEN, f"no unix socket has the inode {inode} any more")


def ask_tcp_listener(port: int) -> Question:
    """Return the question for the accept queue of the IPv4 listener that answers for a port on loopback."""
    message = _message(_inet_request(port, 1 << TCP_LISTEN, _LOOPBACK), NLM_F_REQUEST, 0)
    return Question(
        message, _INET_DEPTH, socket.AF_INET, f"nobody listens on TCP port {port}, or the kernel has no tcp_diag"
    )


class DepthProbe:
    """Asks for the accept queues of some listeners, again and again.

    All questions go with one send(), within which the kernel answers each of them: by one message, or one error.

    Args:
        questions: what to ask; a text stands for a question that cannot be asked, and is its own answer.
    """

    def __init__(self, questions: list[Question | str]) -> None:
        self._socket = open_socket()
        self.close = self._socket.close
        self._send, self._receive = self._socket.send, self._socket.recv_into
        self._questions = questions
        self._messages = b"".join(one.message for one in questions if isinstance(one, Question))
        self._buffer = bytearray(4096)

    def ask(self) -> list[Depth | str]:
        """Return depth and limit for each question, or why there are none."""
        buffer = self._buffer
        answers: list[Depth | str] = []
        if self._messages:
            self._send(self._messages)
        for question in self._questions:
            if isinstance(question, str):
                answers.append(question)
                continue
            self._receive(buffer)
            kind, mark, depth, limit = question.answer.unpack_from(buffer)
            if kind == SOCK_DIAG_BY_FAMILY and mark == question.mark:
                answers.append((depth, limit))
            else:
                answers.append(self._why_not(kind, question))
        return answers

    def _why_not(self, kind: int, question: Question) -> str:
        if kind != NLMSG_ERROR:
            return "sock_diag: the answer has no queue length"
        (code,) = struct.unpack_from("=i", self._buffer, _HEADER.size)
        return f"{question.missing} ({_explain(-code)})"


def depth_of(question: Question) -> Depth:
    """Ask once.

    Raises:
        Unreadable: there is no such listener.
    """
    probe = DepthProbe([question])
    (answer,) = probe.ask()
    probe.close()
    if isinstance(answer, str):
        raise Unreadable(answer)
    return answer


def kernel_has_unix_diag() -> bool:
    """Tell whether the kernel answers for unix sockets: CONFIG_UNIX_DIAG may be missing.

    An exact query cannot tell: of a socket that is not there and of a question that nobody knows the kernel
    says the same, ENOENT.
    """
    diag = SockDiag()
    try:
        for _body in diag.dump(_UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << TCP_LISTEN, 0, 0, 0, 0)):
            pass
    except Unreadable:
        return False
    finally:
        diag.close()
    return True


# --- dumps --------------------------------------------------------------------------------------


class SockDiag:
    """Asks which sockets there are.

    Args:
        part_bytes: room for one part of an answer; a message that does not fit ends a dump without a word.
    """

    def __init__(self, part_bytes: int = SMALL_PART_BYTES) -> None:
        self._part_bytes = part_bytes
        self._socket = open_socket()
        self.close = self._socket.close
        self._sequence = 0
        # The first part of a dump is prepared before anybody has received anything, and would have less than 4 KiB: a
        # listener with more than 919 clients in its queue does not fit, and ends the dump. Any answer will do.
        self._socket.send(_message(b"", NLM_F_REQUEST, 0))
        self._socket.recv(part_bytes)

    def dump(self, request: bytes) -> Iterator[list[bytes]]:
        """Send one request and yield the messages of its answer as they come, some dozens at a time.

        Raises:
            Unreadable: the kernel does not answer this kind of question, or more came than there was room for.
        """
        self._sequence += 1
        self._socket.send(_message(request, NLM_F_REQUEST | NLM_F_DUMP, self._sequence))
        while True:
            data, _ancillary, flags, _sender = self._socket.recvmsg(self._part_bytes)
            if flags & socket.MSG_TRUNC:
                raise Unreadable(f"sock_diag: a part of the answer is longer than {self._part_bytes} bytes")
            bodies: list[bytes] = []
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, kind, _flags, sequence, _pid = _HEADER.unpack_from(data, offset)
                if not _HEADER.size <= length <= len(data) - offset:
                    raise Unreadable(_NOT_OF_THE_KERNEL)
                body = data[offset + _HEADER.size : offset + length]
                offset += (length + 3) & ~3
                if sequence != self._sequence:
                    continue  # the rest of an answer whose reading was interrupted
                if kind == NLMSG_ERROR:
                    (code,) = _unpack(_ERROR, body)
                    raise Unreadable(_explain(-code))
                if kind == NLMSG_DONE:
                    yield bodies
                    return
                bodies.append(body)
            yield bodies

    def unix_listener_clients(self, path: bytes) -> list[int]:
        """Return the inodes of the clients in the accept queue of a unix listener, 0 for each that has closed.

        Raises:
            Unreadable: nobody listens there, or the queue is so long that its clients fill more than one message.
        """
        clients = None
        for part in self.dump(_UNIX_LISTENERS):
            for body in part:
                attributes = _attributes(body, _UNIX_MESSAGE.size)
                if _is_at(attributes, path):
                    queued = attributes.get(UNIX_DIAG_ICONS, b"")
                    clients = list(_unpack(struct.Struct(f"={len(queued) // 4}I"), queued))
        if clients is not None:
            return clients
        raise Unreadable(f"unix_diag does not tell the clients of a listener on {path.decode(errors='replace')}")


_UNIX_LISTENERS = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, 1 << TCP_LISTEN, 0, UDIAG_SHOW_NAME | UDIAG_SHOW_ICONS, 0, 0)
ACCEPTED_UNIX_CONNECTIONS = _UNIX_REQUEST.pack(
    socket.AF_UNIX, 0, 0, 1 << TCP_ESTABLISHED, 0, UDIAG_SHOW_NAME | UDIAG_SHOW_RQLEN, 0, 0
)


def parse_accepted_unix_connections(bodies: Iterable[bytes], path: bytes) -> list[Connection]:
    """Return the accepted connections of the unix listener on a path.

    The kernel leaves out what nobody has accepted: a dump has only sockets with an inode.

    Args:
        bodies: the answer to ACCEPTED_UNIX_CONNECTIONS.
        path: an abstract address begins with @.
    """
    plain = path.lstrip(b"@")
    connections = []
    for body in bodies:
        if plain in body:  # most sockets are clients, which have no name
            attributes = _attributes(body, _UNIX_MESSAGE.size)
            if _is_at(attributes, path):
                _family, _type, _state, _pad, inode, _c0, _c1 = _unpack(_UNIX_MESSAGE, body)
                unread, _unsent = _unpack(_RQLEN, attributes.get(UNIX_DIAG_RQLEN, b""))
                connections.append(Connection(inode, unread, client_left=False))
    return connections


def _is_at(attributes: dict[int, bytes], path: bytes) -> bool:
    # The name of a file may end in a NUL that counts; an abstract one begins with one.
    name = attributes.get(UNIX_DIAG_NAME, b"")
    return name.rstrip(b"\0") == path or name.replace(b"\0", b"@") == path


def tcp_connections(port: int) -> bytes:
    """Return the request for the connections to a local port that are past their handshake."""
    return _inet_request(port, TCP_HELD_STATES, _ANY_ADDRESS)


def parse_tcp_connections(bodies: Iterable[bytes], port: int) -> list[Connection]:
    """Return the connections to a local port, accepted or not, from the answer to `tcp_connections`.

    The kernel counts a FIN that was received as one byte of the receive queue (tcp_diag_get_info); it is
    no byte that anybody could read.
    """
    connections = []
    for body in bodies:
        (_family, state, _timer, _retrans, sport, _dport, _src, _dst, _if, _c0, _c1,
         _expires, rqueue, _wqueue, _uid, inode) = _unpack(_INET_MESSAGE, body)  # fmt: skip
        if int.from_bytes(sport, "big") == port:
            left = state == TCP_CLOSE_WAIT
            connections.append(Connection(inode, max(0, rqueue - left), left))
    return connections


# All sockets that there are: the states of sk_state are 1 to 12 (include/net/tcp_states.h).
_ANY_STATE = 0x1FFE
UNIX_MEMORY = _UNIX_REQUEST.pack(socket.AF_UNIX, 0, 0, _ANY_STATE, 0, UDIAG_SHOW_MEMINFO, 0, 0)


def tcp_memory() -> bytes:
    """Return the request for the memory of all TCP sockets over IPv4."""
    return _inet_request(0, _ANY_STATE, _ANY_ADDRESS, extensions=1 << (INET_DIAG_SKMEMINFO - 1))


class Memory(NamedTuple):
    """What the kernel holds for one socket, with its overhead (bytes)."""

    unread: int
    sent: int
    queued: int


def parse_unix_memory(bodies: Iterable[bytes]) -> Iterator[Memory]:
    """Yield the memory of each socket in an answer to UNIX_MEMORY."""
    return _memory(bodies, _UNIX_MESSAGE.size, UNIX_DIAG_MEMINFO)


def parse_tcp_memory(bodies: Iterable[bytes]) -> Iterator[Memory]:
    """Yield the memory of each socket in an answer to `tcp_memory`; TIME_WAIT has none and is left out."""
    return _memory(bodies, _INET_MESSAGE.size, INET_DIAG_SKMEMINFO)


def _memory(bodies: Iterable[bytes], offset: int, kind: int) -> Iterator[Memory]:
    for body in bodies:
        values = _attributes(body, offset).get(kind)
        if values is not None:
            unread, _rcvbuf, sent, _sndbuf, _forward, queued = _unpack(_MEMINFO, values)
            yield Memory(unread, sent, queued)


def _unpack(shape: struct.Struct, data: bytes) -> tuple[Any, ...]:
    """Return what a part of an answer begins with.

    Raises:
        Unreadable: it is shorter.
    """
    if len(data) < shape.size:
        raise Unreadable(_NOT_OF_THE_KERNEL)
    return shape.unpack_from(data)


def _message(request: bytes, flags: int, sequence: int) -> bytes:
    return _HEADER.pack(_HEADER.size + len(request), SOCK_DIAG_BY_FAMILY, flags, sequence, 0) + request


def _inet_request(port: int, states: int, address: bytes, extensions: int = 0) -> bytes:
    """Return the question for TCP sockets with a local port and address."""
    return _INET_REQUEST.pack(
        socket.AF_INET, socket.IPPROTO_TCP, extensions, 0, states,
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
