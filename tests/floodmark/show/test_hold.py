from __future__ import annotations

from typing import Literal

from floodmark.inputs.cases import load_cases
from floodmark.inputs.status_page import StatusPage
from floodmark.model.run import PlannedListener, Server
from floodmark.show.hold import how_to_reach


def text(transport: Literal["unix", "tcp"], page: StatusPage, shell: list[str]) -> str:
    path, port = ("/run/u/upstream.sock", 0) if transport == "unix" else ("", 9000)
    listener = PlannedListener(name="upstream", transport=transport, path=path, port=port)
    server = Server(behaviour=load_cases()[2].upstream, listener=listener, address="")
    return how_to_reach(
        "proxy1", "Case 2, The upstream never calls accept()", target="http://192.0.2.7:8080", page=page,
        servers=[server], shell=shell, folder="/var/lib/floodmark/runs/run", at_most_s=3600,
    )  # fmt: skip


def test_what_is_held_says_how_it_is_reached() -> None:
    assert (
        text("unix", StatusPage(), ["ssh", "-o", "Port=22", "root@192.0.2.7"])
        == """\
Case 2, The upstream never calls accept(): applied on host proxy1.
  requests     curl http://192.0.2.7:8080/
  a shell      ssh -o Port=22 root@192.0.2.7
  on the host:
  status page  curl http://127.0.0.1:8080/floodmark-status
  queue        ss -lx src unix:/run/u/upstream.sock   (Recv-Q wait, Send-Q is the limit)
  states       grep /run/u/upstream.sock /proc/net/unix   (02 waits for accept(), 03 is accepted)
  logs         /var/lib/floodmark/runs/run/nginx-access.log and nginx-error.log; tables of the agent beside them
Enter or Ctrl-C restores the host; after 3600 s it is restored by itself."""
    )


def test_over_tcp_the_queue_is_at_a_port_and_others_may_read_the_page() -> None:
    said = text("tcp", StatusPage(path="/stats", allow=["127.0.0.1", "192.0.2.0/24"]), [])
    assert "a shell" not in said
    assert "curl http://127.0.0.1:8080/stats   (from 192.0.2.0/24: http://192.0.2.7:8080/stats)" in said
    assert "ss -lnt 'sport = :9000'" in said
    assert "/proc/net/unix" not in said
