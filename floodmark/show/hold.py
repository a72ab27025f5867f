"""What somebody is told for whom a case is held: how it is reached, and what to look at."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from floodmark.inputs.status_page import StatusPage
from floodmark.model.run import Server


def how_to_reach(
    host: str,
    title: str,
    *,
    target: str,
    page: StatusPage,
    servers: Sequence[Server],
    shell: Sequence[str],
    folder: str,
    at_most_s: float,
) -> str:
    """Return what to send to a case that is held, and where to look.

    Args:
        host: that it is applied on.
        title: of the case.
        target: URL of nginx.
        page: its status page.
        servers: behind nginx.
        shell: the command that opens a shell on the host; empty where that is this machine.
        folder: where nginx and the agent write there.
        at_most_s: for so long.
    """
    port = target.rpartition(":")[2]
    lines = [("requests", f"curl {target}/")]
    if shell:
        lines.append(("a shell", shlex.join(shell)))
    lines.append(("on the host:", ""))
    lines.append(("status page", f"curl http://127.0.0.1:{port}{page.path}{_others(target, page)}"))
    lines += [line for one in servers for line in _queue(one)]
    lines.append(("logs", f"{folder}/nginx-access.log and nginx-error.log; tables of the agent beside them"))
    said = [f"  {name:<12} {what}".rstrip() for name, what in lines]
    return "\n".join(
        [
            f"{title}: applied on host {host}.",
            *said,
            f"Enter or Ctrl-C restores the host; after {at_most_s:g} s it is restored by itself.",
        ]
    )


def _others(target: str, page: StatusPage) -> str:
    """Say who else may read the status page."""
    others = [one for one in page.allow if one != "127.0.0.1"]
    return f"   (from {', '.join(others)}: {target}{page.path})" if others else ""


def _queue(server: Server) -> Iterator[tuple[str, str]]:
    """Yield where to see the accept queue of a server."""
    where = server.listener
    if where.transport == "unix":
        yield "queue", f"ss -lx src unix:{where.path}   (Recv-Q wait, Send-Q is the limit)"
        yield "states", f"grep {where.path} /proc/net/unix   (02 waits for accept(), 03 is accepted)"
    else:
        yield "queue", f"ss -lnt 'sport = :{where.port}'   (Recv-Q wait, Send-Q is the limit)"
