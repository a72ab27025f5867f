"""Locust's own users, as one would write them for this target: what the flood is compared with.

locust -f bench/locustfiles.py --headless --users 50 --spawn-rate 50 --run-time 5s FastUser
"""

from __future__ import annotations

import os

from locust import FastHttpUser, HttpUser, constant, task

PATH = os.environ.get("BENCH_PATH", "/")
HEADERS = {"Connection": "close"} if os.environ.get("BENCH_CLOSE") else {}


class PlainUser(HttpUser):
    """requests, one session for each user."""

    wait_time = constant(0)

    @task
    def get(self) -> None:
        """Ask for the page."""
        self.client.get(PATH, headers=HEADERS)


class FastUser(FastHttpUser):
    """geventhttpclient."""

    wait_time = constant(0)

    @task
    def get(self) -> None:
        """Ask for the page."""
        self.client.get(PATH, headers=HEADERS)
