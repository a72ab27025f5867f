"""What strace prints becomes rows; the lines are of strace 6.1 on nginx 1.22.1, case 2 over a unix socket."""

from __future__ import annotations

from floodmark.verdict.strace import Call, parse_strace, roles_of

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


def test_what_a_call_returned_is_a_number_however_it_is_printed() -> None:
    lines = [
        "1796069023.916134 umask(000)            = 022 <0.000012>",
        "1796069023.916150 brk(NULL)             = 0x5615e5f06000 <0.000005>",
        "1796069023.916160 lseek(4, 0, SEEK_SET) = 0 <0.000005>",
        "1796069023.916170 open(0)               = -1 EACCES (Permission denied) <0.000005>",
    ]
    assert [call.result for call in parsed(lines)] == [0o22, 0x5615E5F06000, 0, -1]


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


# --- nginx's start ---------------------------------------------------------------------------------

START = r"""
1796066086.626476 execve("/usr/sbin/nginx", ["/usr/sbin/nginx", "-c", "/etc/floodmark/nginx.conf"], 0x7ffc1c0d8d30 /* 9 vars */) = 0 <0.000310>
1796066086.649155 read(3, "TZif2\0\0\0\0"..., 4096) = 114 <0.000009>
1796066086.650788 prlimit64(0, RLIMIT_NOFILE, NULL, {rlim_cur=20000, rlim_max=20000}) = 0 <0.000008>
1796066086.651060 socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0) = 4 <0.000021>
1796066086.651101 connect(4, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory) <0.000023>
1796066086.651151 close(4)              = 0 <0.000014>
1796066086.652072 epoll_create(100)     = 4 <0.000012>
1796066086.652103 close(4)              = 0 <0.000010>
1796066086.653427 socket(AF_INET, SOCK_STREAM, IPPROTO_IP) = 4 <0.000016>
1796066086.653462 setsockopt(4, SOL_SOCKET, SO_REUSEADDR, [1], 4) = 0 <0.000010>
1796066086.653494 ioctl(4, FIONBIO, [1]) = 0 <0.000008>
1796066086.653526 bind(4, {sa_family=AF_INET, sin_port=htons(8080), sin_addr=inet_addr("0.0.0.0")}, 16) = 0 <0.000014>
1796066086.653569 listen(4, 511)        = 0 <0.000010>
1796066086.653813 listen(4, 511)        = 0 <0.000008>
1796066086.654319 clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, child_tidptr=0x7f9330b7aa10) = 2383 <0.000333>
1796066086.655202 exit_group(0)         = ?
1796066086.655458 +++ exited with 0 +++
""".strip().splitlines()  # noqa: E501 - real lines are long


def test_what_nginx_opens_at_its_start_is_its_own() -> None:
    objects = [(call.name, call.object) for call in parsed(START) if call.fd == 4 or call.name == "socket"]
    resolver, listener = objects[:3], objects[4:]
    assert resolver == [("socket", None), ("connect", None), ("close", None)], "of no upstream"
    assert listener == [(name, "listener") for name in ("socket", "setsockopt", "ioctl", "bind", "listen", "listen")]
    assert {call.client for call in parsed(START)} == {None}


def test_a_number_that_is_no_descriptor_is_none() -> None:
    numbers = {call.name: call.fd for call in parsed(START)}
    assert {numbers[name] for name in ("execve", "prlimit64", "epoll_create", "clone", "exit_group")} == {None}


def test_the_process_that_daemonizes_is_the_master_and_what_the_daemon_clones_are_workers() -> None:
    cloned = "1796066086.655918 clone(child_stack=NULL, flags=SIGCHLD, child_tidptr=0x7f9330b7aa10) = {} <0.000146>"
    calls = {
        2372: parsed(START),
        2383: parsed([cloned.format(2384), cloned.format(2385)]),
        2384: parsed(ONE_REQUEST),
        2385: parsed([]),
    }
    assert roles_of(calls) == {
        2372: "nginx-master", 2383: "nginx-master", 2384: "nginx-worker", 2385: "nginx-worker",
    }  # fmt: skip


def test_a_worker_of_which_only_the_clone_is_known_makes_no_row() -> None:
    assert roles_of({7: parsed(["1796066086.655918 clone(child_stack=NULL, flags=SIGCHLD) = 8 <0.1>"])}) == {
        7: "nginx-master"
    }


def test_a_mode_is_an_octal_number() -> None:
    (call,) = parsed(["1796066086.655485 umask(000)            = 022 <0.000008>"])
    assert (call.fd, call.result) == (None, 0o22)
