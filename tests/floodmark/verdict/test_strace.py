"""What strace prints becomes rows; the lines are of strace 6.1 on nginx 1.22.1, case 2 over a unix socket."""

from __future__ import annotations

from floodmark.verdict.strace import Call, parse_strace

WALL_NS = 1_795_720_000_000_000_000
ONE_REQUEST = r"""
1795720338.390000 epoll_wait(10, [{events=EPOLLIN, data={u32=2198364000, u64=94650392665952}}], 512, -1) = 1 <2.400000>
1795720338.397798 accept4(5, {sa_family=AF_INET, sin_port=htons(54862), sin_addr=inet_addr("198.19.253.1")}, [112 => 16], SOCK_NONBLOCK) = 7 <0.000014>
1795720338.397894 epoll_ctl(10, EPOLL_CTL_ADD, 7, {events=EPOLLIN|EPOLLRDHUP|EPOLLET, data={u32=2198364480, u64=94650392666432}}) = 0 <0.000009>
1795720338.398061 recvfrom(7, "POST / HTTP/1.1\r\nHost: 198.19.253.2:8080\r\nX-Floodmark-Id: 202611"..., 1024, 0, NULL, NULL) = 146 <0.000008>
1795720338.398258 socket(AF_UNIX, SOCK_STREAM, 0) = 8 <0.000023>
1795720338.398365 connect(8, {sa_family=AF_UNIX, sun_path="/run/floodmark-upstream/upstream.sock"}, 110) = 0 <0.000019>
1795720338.398444 writev(8, [{iov_base="POST / HTTP/1.0\r\nConnection: close\r\nHost: floodmark_upstream\r\nCo"..., iov_len=131}, {iov_base="xxxxxxxxxxxxxxxx", iov_len=16}], 2) = 147 <0.000011>
1795720340.404718 gettid()              = 145 <0.000006>
1795720340.404807 close(8)              = 0 <0.000021>
1795720340.405794 shutdown(7, SHUT_WR)  = 0 <0.000045>
1795720340.406066 close(7)              = 0 <0.000017>
1795720340.406100 brk(0x5615e5f27000)   = 0x5615e5f27000 <0.000007>
--- SIGCHLD {si_signo=SIGCHLD} ---
1795720342.407000 epoll_wait(10,  <detached ...>
""".strip().splitlines()  # noqa: E501 - real lines are long


def parsed(lines: list[str]) -> list[Call]:
    return list(parse_strace(lines, WALL_NS))


def test_a_request_and_what_is_opened_for_it_belong_together() -> None:
    of_the_client = [(call.name, call.object) for call in parsed(ONE_REQUEST) if call.client == 1]
    assert of_the_client == [
        ("accept4", "client"),
        ("recvfrom", "client"),
        ("socket", "upstream"),
        ("connect", "upstream"),
        ("writev", "upstream"),
        ("close", "upstream"),
        ("shutdown", "client"),
        ("close", "client"),
    ]


def test_a_line_has_time_arguments_result_and_duration() -> None:
    accepted = parsed(ONE_REQUEST)[1]
    assert (accepted.t_ns, accepted.fd, accepted.result, accepted.error, accepted.took_ns) == (
        338_397_798_000, 5, 7, None, 14_000,
    )  # fmt: skip
    assert accepted.arguments.endswith("[112 => 16], SOCK_NONBLOCK")


def test_a_call_that_had_not_returned_has_no_result_and_an_address_is_a_number() -> None:
    *_, brk, waiting = parsed(ONE_REQUEST)
    assert (brk.name, brk.fd, brk.result) == ("brk", None, 0x5615E5F27000)
    assert (waiting.name, waiting.fd, waiting.result, waiting.took_ns) == ("epoll_wait", 10, None, None)


def test_an_error_has_its_name() -> None:
    line = (
        '1795402563.104101 connect(8, {sa_family=AF_UNIX, sun_path="/u.sock"}, 110) = -1 EAGAIN '
        "(Resource temporarily unavailable) <0.000018>"
    )
    (call,) = parsed([line])
    assert (call.fd, call.result, call.error, call.took_ns) == (8, -1, "EAGAIN", 18_000)


def test_a_number_that_is_used_again_is_another_client() -> None:
    again = [*ONE_REQUEST[:-1], *ONE_REQUEST[1:4]]
    assert [call.client for call in parsed(again) if call.name == "recvfrom"] == [1, 2]
