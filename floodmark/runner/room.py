"""How much a run may write on a host: counted before it begins, rather too much, and enforced while it goes on.

Each process is held to its part. The agent and the trace count what they write; nginx's files, and those that strace
writes of it, have a limit of size (RLIMIT_FSIZE) from what starts nginx.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from floodmark.errors import ParameterError, RunError
from floodmark.inputs.parameters import MOST_PER_S, Parameters
from floodmark.runs.archive import MOST_BYTES

MB = 1_000_000
# What is not counted: descriptions, what the upstream notes, answers that do not fit into nginx's memory.
LEAST_BYTES = 200 * MB
# A row of a table (74 were seen in accept_queue.csv, 84 in agent.csv). Each reading has one in agent.csv besides.
ROW_BYTES = 120
ROWS_OF_MACHINE = 5
# A connection to a server in queue_waits.csv.
WAIT_BYTES = 100
# A line of nginx-access.log, and its times for each server that was tried.
ACCESS_BYTES, TRY_BYTES = 400, 80
# A line of nginx-error.log; a request may cause one for each server, and one for a body that does not stay in memory.
ERROR_BYTES = 450
# One process of the flood sends no more with a connection for each request (docs/load.md).
MOST_CONNECTIONS_PER_S = 20_000
# What strace prints of one request (2,800 bytes were seen), and of one call: two for each piece of a body that does not
# stay in memory.
TRACED_BYTES, CALL_BYTES, PIECE_BYTES = 6_000, 200, 4096
# An archive has a fifth of what is in it, and lies beside that.
ARCHIVE_SHARE = 1 / 3
# What the flood logs of a request, and what becomes of it in the tables.
REQUEST_BYTES = 300
# A file of nginx in a case that is held, where nobody can count beforehand who sends how much.
HELD_FILE_BYTES = 1000 * MB


@dataclass(frozen=True)
class Room:
    """What a run may write on a host (bytes).

    Attributes:
        agent: the tables of the agent.
        trace: the table of the trace.
        access_log: of nginx.
        error_log: of nginx.
        strace: of all processes of nginx.
        bodies: of requests that nginx keeps in files.
        requests: how many are sent at most.
    """

    agent: float
    trace: float
    access_log: float
    error_log: float
    strace: float
    bodies: float
    requests: float

    @property
    def written(self) -> float:
        """What is packed in the end."""
        return self.agent + self.trace + self.access_log + self.error_log + self.strace

    @property
    def free_mb(self) -> int:
        """What has to be free on the host."""
        return math.ceil((LEAST_BYTES + self.written * (1 + ARCHIVE_SHARE) + self.bodies) / MB)

    def check_results(self, results: Path, hosts: int) -> None:
        """Refuse a run whose results have no room on the control node.

        Args:
            results: where runs are kept.
            hosts: that are measured.

        Raises:
            RunError: it has not.
        """
        # The tables take as much as the archive that they are made of.
        needed_mb = math.ceil(hosts * (2 * self.written * ARCHIVE_SHARE + self.requests * REQUEST_BYTES) / MB)
        free_mb = shutil.disk_usage(results if results.exists() else results.parent).free // MB
        if free_mb < needed_mb:
            raise RunError(
                f"{results} has {free_mb} MB free, and this run may leave {needed_mb} MB there: free some space, or "
                "make it shorter."
            )

    def most_bytes(self, *, held: bool) -> Mapping[str, int]:
        """Return who may write how much: all tables of the agent and the trace, and each file of nginx.

        Args:
            held: the case is kept applied, and who sends requests is not the flood alone.
        """
        file = max(self.access_log, self.error_log, self.strace, self.bodies, HELD_FILE_BYTES if held else 0)
        parts = {"agent": self.agent, "trace": self.trace, "nginx_file": file}
        return {name: math.ceil(LEAST_BYTES + part) for name, part in parts.items()}


def room_of(parameters: Parameters, *, longest_s: float, servers: int, generators: int) -> Room:
    """Count what a run may write on a host.

    Args:
        parameters: of the run.
        longest_s: upper bound of all phases.
        servers: how many nginx chooses among.
        generators: machines that flood.

    Raises:
        ParameterError: it is more than an archive may have.
    """
    requests = most_requests(parameters, generators)
    rows = {"accept_queue": servers + 1, "process": parameters.nginx_workers + 2, "machine": ROWS_OF_MACHINE}
    rows_per_s = sum(hz * (rows.get(table, 1) + 1) for table, hz in parameters.rates_hz.items())
    calls = 2 * math.ceil(parameters.payload_bytes / PIECE_BYTES)
    buffer_bytes = parameters.client_body_buffer_size_kb * 1024
    polls = parameters.stub_status_hz * longest_s
    room = Room(
        agent=longest_s * rows_per_s * ROW_BYTES,
        trace=requests * servers * WAIT_BYTES if parameters.trace else 0,
        access_log=requests * (ACCESS_BYTES + servers * TRY_BYTES),
        error_log=requests * (servers + (parameters.payload_bytes > buffer_bytes)) * ERROR_BYTES,
        strace=(requests * (TRACED_BYTES + calls * CALL_BYTES) + polls * TRACED_BYTES) if parameters.strace else 0,
        bodies=parameters.users * parameters.payload_bytes,
        requests=requests,
    )
    if room.written > MOST_BYTES:
        raise ParameterError(
            f"-e: a run with these parameters may write {math.ceil(room.written / MB)} MB on a host, and "
            f"{MOST_BYTES // MB} MB are allowed: make it shorter (duration_s), let its users think (think_time_ms), "
            "leave strace or trace out, or read less often."
        )
    return room


def most_requests(parameters: Parameters, generators: int) -> float:
    """Return how many requests a flood sends at most.

    Args:
        parameters: of the run.
        generators: machines that flood.
    """
    if parameters.load_shape == "burst":
        return parameters.users * parameters.bursts
    if parameters.load_shape == "open":
        planned = sum(step.arrivals for step in parameters.steps)
        return planned + 6 * math.sqrt(planned)  # those that come at random are not always as many
    of_a_process = MOST_PER_S if parameters.keepalive else MOST_CONNECTIONS_PER_S
    fastest_per_s: float = of_a_process * parameters.locust_processes * generators
    if parameters.think_time_ms:
        fastest_per_s = min(fastest_per_s, parameters.users * 1000 / parameters.think_time_ms)
    return parameters.users + fastest_per_s * parameters.sending_s
