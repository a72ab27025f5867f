"""Runs one flood from several processes or machines: a master here, workers wherever the inventory has load generators.

    python -m floodmark.runner.fleet < fleet.json

Locust's master listens for its workers without asking who they are, so it listens on loopback alone. Workers elsewhere
come to it through the ssh session that they were started by, and what they wrote comes back through the same session.
A flood ends with the process that it belongs to. Workers elsewhere end when their session does, or when they hear
nothing through it for as long as a host keeps a lease.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO

from floodmark.disk import open_log
from floodmark.owner import Owner
from floodmark.paths import ROOT
from floodmark.runs.archive import unpack
from floodmark.values import ParameterValues

# How long Locust may take to end after it was asked to (s), and when somebody is waiting for the end.
PATIENCE_S = 10
HASTE_S = 3
# What a machine sends of its results may pause for so long (s).
STALL_S = 30
# How often workers elsewhere hear that they are still wanted (s), and for how long they flood without.
RENEW_S = 2
LEASE_S = 15
# The flood was ended because the process that it belongs to has ended, or is to end.
ENDED = 130
# How long workers may take to come to their master: a machine far away starts Python first.
CONNECT_TIMEOUT_S = 60

# ssh's own exit status; any other one is of what it has run.
SSH_FAILED = 255

# Run by a shell of the load generator. The worker is a unit of its own: with as many descriptors as it wants, an end
# by itself, and a journal. What it wrote goes to standard output, everything else to standard error. The first line of
# standard input is the password for sudo, if it takes one: there nobody sees it. Each further line says that the worker
# is still wanted; the last one, that its results have arrived.
WORKER = """
set -e
read -r secret
as_root() {{
    if [ "$(id -u)" = 0 ]; then "$@"
    elif [ -z "$secret" ]; then sudo -n "$@"
    # Where sudo takes none, what it runs must not read it.
    else printf '%s\\n' "$secret" | sudo -S -p '' sh -c 'exec "$@" </dev/null' sh "$@"
    fi
}}
room=$(mktemp -d)
lease() {{
    while read -r -t {lease_s} line && [ "$line" = renew ]; do :; done
    as_root systemctl stop {unit} 2>/dev/null || true
    [ "$line" = arrived ]
}}
lease <&0 & lease=$!
as_root systemd-run --quiet --wait --collect --pipe --unit={unit} --property=LimitNOFILE=1048576 \\
    --property=RuntimeMaxSec={at_most_s} --working-directory="$room" {environment} {command} </dev/null >&2 || true
as_root tar --create --gzip --directory "$room" .
exec >&-
if wait $lease; then as_root rm -rf "$room"; else echo "floodmark: what the workers wrote stays in $room" >&2; fi
"""


@dataclass(frozen=True)
class Generator:
    """A machine that floods.

    Attributes:
        name: in the inventory.
        reach: the ssh command that ends in options, before the host; empty for this machine.
        host: what ssh calls it.
        home: folder of the locustfiles there.
        locust: the program there.
        secret: the password for sudo there, if it takes one.
    """

    name: str
    reach: Sequence[str]
    host: str
    home: str
    locust: str
    secret: str = field(default="", repr=False)


@dataclass(frozen=True)
class Fleet:
    """A flood, and who sends it.

    Attributes:
        generators: the machines.
        processes: how many on each of them.
        options: of locustfiles/flood.py, with underscores.
        target: URL that is flooded.
        results: folder here for what all of them write.
        at_most_s: time after which the flood is ended.
        flood_id: names the units of the workers.
        owner: the process that the flood belongs to; None for one that ends with this program.
    """

    generators: Sequence[Generator]
    processes: int
    options: ParameterValues
    target: str
    results: Path
    at_most_s: float
    flood_id: str
    owner: Owner | None = None

    @classmethod
    def parse(cls, text: str) -> Fleet:
        """Read it as the role locust has written it, in JSON."""
        content = json.loads(text)
        generators = [Generator(**one) for one in content.pop("generators")]
        owner = Owner(**content["owner"]) if content.get("owner") else None
        return cls(**{**content, "generators": generators, "results": Path(content["results"]), "owner": owner})

    def own_options(self) -> list[str]:
        """Return the options that every process has."""
        return [f"--{name.replace('_', '-')}={value}" for name, value in self.options.items()] + [
            f"--host={self.target}",
            f"--leader-version={version('locust')}",
        ]

    def is_alone(self) -> bool:
        """Tell whether one process here does it all, so that there is nobody to lead."""
        return self.processes == 1 and not any(one.reach for one in self.generators) and len(self.generators) == 1


Workers = list[tuple[Generator, "subprocess.Popen[bytes]"]]


def run(fleet: Fleet) -> int:
    """Flood, and return Locust's exit status.

    It is 124 when the flood took too long, 1 when a load generator was lost, and ENDED when it was not wanted any more.
    """
    if fleet.owner and (fleet.owner.is_gone() or fleet.owner.is_to_end()):
        return ENDED
    port = _free_port()
    # The leader asks the workers to end; so it is asked first, whatever ends this process.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    leader = _start(leader_command(fleet, port), fleet.results)
    workers: Workers = []
    status = ENDED  # unless it is found to be otherwise
    with _renewed(workers):
        try:
            if not fleet.is_alone():
                workers += [(one, _start_worker(fleet, one, port)) for one in fleet.generators]
            status = _wait(fleet, leader, workers)
        finally:
            _end(leader, HASTE_S if status == ENDED else PATIENCE_S)
            for generator, process in workers:
                _collect(fleet, generator, process)
    return status


def leader_command(fleet: Fleet, port: int) -> list[str]:
    """Return how Locust is started that leads, or does it all."""
    users = fleet.options["users"]
    command = [
        str(Path(sys.executable).parent / "locust"), f"--locustfile={ROOT}/locustfiles/flood.py",
        "--headless", "--only-summary", "--exit-code-on-error=0", f"--spawn-rate={users}", "--csv=locust",
        "--html=locust.html", "--logfile=locust.log", *fleet.own_options(),
    ]  # fmt: skip
    if fleet.is_alone():
        return command
    return [
        *command, "--master", "--master-bind-host=127.0.0.1", f"--master-bind-port={port}",
        f"--expect-workers={len(fleet.generators) * fleet.processes}",
        f"--expect-workers-max-wait={CONNECT_TIMEOUT_S}",
    ]  # fmt: skip


def worker_command(fleet: Fleet, generator: Generator, port: int) -> list[str]:
    """Return how the workers of one machine are started, without the way to it."""
    processes = [f"--processes={fleet.processes}"] if fleet.processes > 1 else []
    return [
        generator.locust, f"--locustfile={generator.home}/locustfiles/flood.py", "--worker", "--master-host=127.0.0.1",
        f"--master-port={port}", *processes, *fleet.own_options(),
    ]  # fmt: skip


def worker_script(fleet: Fleet, generator: Generator, port: int) -> str:
    """Return what the shell of another machine is given to run."""
    return WORKER.format(
        unit=shlex.quote(f"floodmark-locust-{fleet.flood_id}"),
        at_most_s=int(fleet.at_most_s + CONNECT_TIMEOUT_S),
        lease_s=LEASE_S,
        environment=f"--setenv=PYTHONPATH={shlex.quote(generator.home)} --setenv=PYTHONDONTWRITEBYTECODE=1",
        command=shlex.join(worker_command(fleet, generator, port)),
    )


def _start_worker(fleet: Fleet, generator: Generator, port: int) -> subprocess.Popen[bytes]:
    if not generator.reach:
        return _start(worker_command(fleet, generator, port), fleet.results, log=f"{generator.name}.log")
    tunnel = ["-S", "none", "-R", f"127.0.0.1:{port}:127.0.0.1:{port}", "-o", "ExitOnForwardFailure=yes"]
    script = worker_script(fleet, generator, port)
    command = [*generator.reach, *tunnel, generator.host, f"exec bash -c {shlex.quote(script)}"]
    process = _start(command, fleet.results, log=f"{generator.name}.log", stdin=subprocess.PIPE)
    say(process, generator.secret)
    return process


def _start(
    command: Sequence[str], folder: Path, log: str = "", stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a program that ends with this one. With a log its standard error goes there, and its output comes to us."""
    with (folder / log).open("wb") if log else contextlib.nullcontext() as errors:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            cwd=folder, stdin=stdin, stdout=subprocess.PIPE if log else None, stderr=errors,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip


def _wait(fleet: Fleet, leader: subprocess.Popen[bytes], workers: Workers) -> int:
    """Wait for the end of a flood; 124 when it does not come, as timeout(1) says it, 1 when a machine is lost."""
    deadline = time.monotonic() + fleet.at_most_s
    everybody: list[tuple[Generator | None, subprocess.Popen[bytes]]] = [(None, leader), *workers]
    watched = {os.pidfd_open(process.pid): (generator, process) for generator, process in everybody}
    unwanted = fleet.owner.descriptors if fleet.owner else ()
    try:
        while (left_s := deadline - time.monotonic()) > 0:
            for ended in select.select([*watched, *unwanted], [], [], left_s)[0]:
                if ended in unwanted:
                    return ENDED
                generator, process = watched.pop(ended)
                os.close(ended)
                status = process.wait()
                if generator is None:
                    return status
                if status == SSH_FAILED:
                    log = (fleet.results / f"{generator.name}.log").read_text(encoding="utf-8", errors="replace")
                    said = (log.strip().splitlines() or ["ssh did not say why"])[-1]
                    print(f"floodmark: load generator {generator.name} cannot be reached: {said}", file=sys.stderr)
                    return 1
        return 124
    finally:
        for descriptor in watched:
            os.close(descriptor)


def say(process: subprocess.Popen[bytes], line: str) -> None:
    """Say something to workers elsewhere; what they do not hear ends them."""
    if process.stdin:
        with contextlib.suppress(OSError, ValueError):
            os.write(process.stdin.fileno(), line.encode() + b"\n")


@contextlib.contextmanager
def _renewed(workers: Workers) -> Iterator[None]:
    """Let workers elsewhere know that they are still wanted."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(RENEW_S):
            for _, process in workers:
                say(process, "renew")

    renewing = threading.Thread(target=renew, daemon=True)
    renewing.start()
    try:
        yield
    finally:
        over.set()
        renewing.join()


def _end(process: subprocess.Popen[bytes], patience_s: float) -> None:
    """Ask a process to end, then insist."""
    process.terminate()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _collect(fleet: Fleet, generator: Generator, process: subprocess.Popen[bytes]) -> None:
    """Unpack the results of one machine's workers. If they are damaged or missing, name the machine.

    They may be of any size, as long as they come. The verdict then reports these processes as lost.
    """
    results = f"the results of load generator {generator.name}"
    with tempfile.TemporaryFile(dir=fleet.results) as packed:
        whole = _receive(process, packed)
        size = packed.tell()
        try:
            if generator.reach and size:
                check_gzip(packed)
                packed.seek(0)
                with tarfile.open(fileobj=packed) as archive:
                    unpack(archive, fleet.results)
                say(process, "arrived")
        except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
            _complain(fleet, f"{results} are damaged: {error}")
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(PATIENCE_S if whole else 0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if generator.reach and (not size or process.returncode):
        _complain(
            fleet,
            f"{results} are {'incomplete' if size else 'missing'}: its session ended with status "
            f"{process.returncode}; {generator.name}.log may say why",
        )


def _receive(process: subprocess.Popen[bytes], packed: IO[bytes]) -> bool:
    """Write what a process sends into a file, and return whether it came to its end without a long pause."""
    assert process.stdout
    while select.select([process.stdout], [], [], STALL_S)[0]:
        data = os.read(process.stdout.fileno(), 1 << 20)
        if not data:
            return True
        packed.write(data)
    return False


def check_gzip(packed: IO[bytes]) -> None:
    """Read a gzip file to its end and so check its CRC; tarfile stops at the end of the archive, before the CRC.

    Raises:
        OSError: it is no gzip file, or the CRC is wrong.
        EOFError: its end is missing.
        zlib.error: it cannot be unpacked.
    """
    packed.seek(0)
    with gzip.open(packed) as stream:
        while stream.read(1 << 20):
            pass


def _complain(fleet: Fleet, problem: str) -> None:
    """Print a problem, and add it to locust.log: the verdict sends readers there when processes are lost."""
    print(f"floodmark: {problem}", file=sys.stderr)
    with open_log(fleet.results / "locust.log") as log:
        log.write(f"floodmark: {problem}\n")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    sys.exit(run(Fleet.parse(sys.stdin.read())))
