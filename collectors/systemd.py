"""What a service tells systemd."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> None:
    """Tell systemd a state, as sd_notify(3) does; nothing happens without systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
            notifier.connect("\0" + address[1:] if address.startswith("@") else address)
            notifier.sendall(state.encode())
