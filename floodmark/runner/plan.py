"""The plan of a run: the case and its parameters resolved, and everything checked before a host is touched."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import re
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import yaml

from collectors.exporter import parse_address
from floodmark import __version__
from floodmark.disk import make_folder
from floodmark.errors import FloodmarkError, ParameterError, RunError, shown
from floodmark.inputs.cases import Case, find_case, load_cases
from floodmark.inputs.given import MARK, is_secret, marked_by
from floodmark.inputs.inventory import (
    Inventory,
    check_caps,
    check_ownership,
    clock_of_a_run,
    hosts_of_a_run,
    inventory_parameters,
)
from floodmark.inputs.labs import Lab, Point, find_lab, refuse_other_case
from floodmark.inputs.parameters import (
    Parameters,
    given_parameters,
    resolve_parameters,
    unknown_parameter,
    whole_number,
)
from floodmark.inputs.status_page import StatusPage, check_flood_from, status_pages
from floodmark.model.run import ControlNode, Plan, PlannedListener, RecordedCase, Server
from floodmark.model.stored import save
from floodmark.paths import ROOT
from floodmark.runner.capacity import Capacity, check_capacity
from floodmark.runner.hold import hold_s_of
from floodmark.runner.room import room_of
from floodmark.runs.folders import RESULTS, RunFolder, is_host_name, new_run, unwritable
from floodmark.study.sentences import with_questions
from floodmark.values import Variables
from floodmark.verdict.views import check_sql
from floodmark.web.options import RANGES, WebOptions, check_hosts, refuse_virtual

# What `-e` may set besides parameters: how a run goes, where on a host, and what the testbed is made of. Other
# variables of the roles follow from the parameters; set by hand they would make the record of a run untrue.
RUN_OPTIONS = frozenset(
    {
        "case",
        "guard_free_mb",
        "guard_margin_s",  # of versions that had a timer on the host; it does nothing
        "lab",
        "metrics",
        "nginx_listen_port",
        "nginx_status_allow",
        "nginx_status_path",
        "point",
        "provision",
        "run_order",
        "run_serial",
        "upstream_port",
    }
)
# What the role testbed is told by a run itself.
FROM_THE_PLAN = {"testbed_start_state", "testbed_measurement"}
# Where the servers behind nginx listen: in the folder that systemd makes for their unit, or from this port on.
UPSTREAM_DIR = "/run/floodmark-upstream"
UPSTREAM_PORT = 9000
# What the units say among themselves, for a boot in virtual time.
ORDER_OF_A_BOOT = "nginx,sysctl,upstream"
# Where nginx does, unless it is told otherwise; playbooks/vars/case.yml has it as well.
LISTEN_PORT = 8080
# Ansible's names for the order in which the hosts of a run take turns.
HOST_ORDERS = ("inventory", "reverse_inventory", "sorted", "reverse_sorted", "shuffle")
# When hosts are provisioned: when something of it has changed, or in any case.
PROVISIONS = ("once", "always")


@dataclass(frozen=True)
class PlannedRun:
    """A run that was planned: its folder, and what is in `plan.json`."""

    folder: RunFolder
    plan: Plan


def make_plan(
    extra: Variables, inventory: Variables, ansible_pid: int, *, web: bool = False, case_number: object = None
) -> PlannedRun:
    """Resolve and check a run, and write its plan.

    Args:
        extra: all that was given with `-e`.
        inventory: variables of the inventory: `groups` (name -> hosts), `floodmark_parameters` (what its hosts need
            other than the cases have), `floodmark_lab_parameters` (other than a lab has).
        ansible_pid: the process that runs the playbook; while it lives, the run holds its hosts.
        web: the case is held up for Locust's web page instead of being measured.
        case_number: when it is not the one that was given with `-e`.

    Raises:
        FloodmarkError: something is not as it must be; nothing was written then.
    """
    known = Inventory.read(inventory)
    lab = find_lab(extra["lab"]) if extra.get("lab") else None
    point = _point_of(lab, extra)
    if point and case_number is None:
        case_number = point.case
    case = find_case(extra.get("case") if case_number is None else case_number, load_cases())
    hold_s = None if web or lab else hold_s_of(extra)
    check_names(extra, RUN_OPTIONS | _options_of(web=web, lab=lab, hold_s=hold_s), marked_by(inventory))
    given = given_parameters(extra)
    of_inventory = inventory_parameters(inventory, lab)
    layers = lab.layers(point, case, of_inventory) if lab and point else [case.parameters.model_dump(), of_inventory]
    resolve_parameters(*layers, origin="parameters of the inventory")
    parameters = resolve_parameters(*layers, given, origin="-e")
    case = lab.extend(case) if lab else case
    case = with_questions(case, lab.name if lab else None, point.name if point else None)
    check_caps(parameters, inventory)
    hosts = hosts_of_a_run(known.groups)
    _check_host_names(hosts.proxies)
    clock = clock_of_a_run(hosts, known.host_variables)
    check_ownership(hosts, known.host_variables)
    if clock == "virtual":
        if lab:
            raise FloodmarkError(measured_in_host_time(lab))
        _check_virtual(case, parameters)
        if "testbed_virtual_timeout_s" in inventory:
            whole_number("testbed_virtual_timeout_s", inventory["testbed_virtual_timeout_s"], 1, 86400)
    check_sql(case)
    if clock == "host" and not web and hold_s is None:
        for one in hosts.load_generators:
            if known.host_variables.get(one, {}).get("ansible_connection") == "local":
                check_capacity(one, Capacity.here(), parameters)
    servers = servers_of_a_run(case, parameters, extra.get("upstream_port", UPSTREAM_PORT))
    _check_listen_ports(parameters, extra.get("nginx_listen_port", LISTEN_PORT), servers)
    longest_s = parameters.baseline_s + parameters.flood_at_most_s + parameters.drain_s
    if web:
        check_hosts(hosts, known.host_variables, clock)
        longest_s = WebOptions.read(extra).hold_s
    if hold_s is not None:
        refuse_virtual(hosts, clock)
        longest_s = hold_s
    generators = len(known.groups.get("load_generators", [])) or 1
    room = room_of(parameters, longest_s=longest_s, servers=len(servers), generators=generators)
    room.check_results(RESULTS, len(hosts.proxies))
    check_flood_from(hosts.proxies, known.host_variables)
    pages = status_pages(hosts.proxies, known.host_variables, extra)
    _check_metrics(str(extra.get("metrics", "")))
    _check_host_order(extra.get("run_order", HOST_ORDERS[0]))
    _check_others(extra)
    kind = "-virtual" if clock == "virtual" else f"-{lab.name}" if lab else ""
    run = new_run(case.number, parameters.transport + kind)
    plan = Plan(
        run_id=run.run_id,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        lab=lab.name if lab else None,
        point=point.name if point else None,
        case=RecordedCase.model_validate(case.model_dump(mode="json", by_alias=True, exclude={"parameters"})),
        parameters=parameters.model_dump(),
        flood=parameters.flood,
        longest_s=longest_s,
        flood_at_most_s=parameters.flood_at_most_s,
        answer_timeout_s=parameters.answer_timeout_s,
        free_mb=room.free_mb,
        most_bytes=dict(room.most_bytes(held=web or hold_s is not None)),
        rates_hz=parameters.rates_hz,
        hosts=hosts,
        inventory=list(known.sources),
        inventory_parameters=of_inventory,
        clock=clock,
        hold=hold_s is not None,
        web=web,
        servers=servers,
        status_pages=pages,
        start_state=start_state(case, servers, parameters, inventory, pages) if clock == "virtual" else "",
        owner=owner(ansible_pid),
        fingerprint=provisioning_fingerprint(),
        control_node=control_node(),
    )
    try:
        for host in hosts.proxies:
            make_folder(run.load(host))
            make_folder(run.host(host).path)
        save(run.plan, plan)
    except OSError as error:
        raise RunError(unwritable(run.path, error)) from None
    return PlannedRun(run, plan)


def _point_of(lab: Lab | None, extra: Variables) -> Point | None:
    """Return the point of a lab that a run is of, or what all of its points share; None where it is of no lab."""
    if lab:
        refuse_other_case(extra, lab)
        return lab.point(extra)
    if "point" in extra:
        raise ParameterError(
            f"-e: point={extra['point']} is of a lab, and none was given: name it with lab=; `floodmark lab` lists "
            "them."
        )
    return None


def _options_of(*, web: bool, lab: Lab | None, hold_s: int | None) -> frozenset[str]:
    """Return what `-e` may set besides what it may for any run."""
    if web:
        return frozenset(RANGES)
    if lab:
        return frozenset()
    return frozenset({"hold"} if hold_s is None else {"hold", "hold_s"})


def check_names(extra: Variables, options: frozenset[str], marked: frozenset[str] = frozenset()) -> None:
    """Refuse names that nothing reads, because a misspelt parameter must not be silence, and those that follow.

    Args:
        extra: what is given with `-e`.
        options: what may be besides parameters.
        marked: what the inventory marks as secret; its own templates read that.

    Raises:
        ParameterError: there is such a name, or a secret would have to be written down.
    """
    allowed = role_variables("testbed") - FROM_THE_PLAN | options
    if written := sorted(marked & (Parameters.model_fields.keys() | options | role_variables())):
        raise ParameterError(
            f"{MARK} of the inventory has {', '.join(written)}, which a run writes down: mark variables of your own."
        )
    for name in extra:
        if name in Parameters.model_fields or name in allowed or is_secret(name, marked):
            continue
        if name in role_variables():
            raise ParameterError(
                f"-e: {name} follows from the parameters of a run and cannot be given: 'floodmark cases' lists the "
                "parameters."
            )
        raise ParameterError(unknown_parameter(name, "-e", allowed))


@cache
def role_variables(role: str = "*") -> frozenset[str]:
    """Return the names of all inputs of a role, or of all roles."""
    names: set[str] = set()
    for defaults in (ROOT / "roles").glob(f"{role}/defaults/main.yml"):
        names.update(yaml.safe_load(defaults.read_text(encoding="utf-8")) or {})
    return frozenset(names)


def measured_in_host_time(lab: Lab) -> str:
    """Return the sentence for a lab on hosts whose clock counts instructions."""
    return (
        f"-e: lab={lab.name} is measured in the host's time, and these hosts have testbed_clock=virtual: take another "
        "inventory."
    )


def _check_virtual(case: Case, parameters: Parameters) -> None:
    if not case.virtual:
        known = [one for one in load_cases().values() if one.virtual]
        raise FloodmarkError(
            f"case {case.number} ({case.name}) names nothing that is measured in virtual time: cases "
            f"{', '.join(str(one.number) for one in known)} do (the key virtual of their files), or take "
            "testbed_clock: host."
        )
    if parameters.order != ORDER_OF_A_BOOT:
        raise ParameterError(
            f"-e: order={parameters.order} is not possible in virtual time, where the boot itself starts everything: "
            "leave it out."
        )
    needs_unix = [name for name in case.virtual if name in ("connection_refused", "request_refused")]
    if parameters.transport != "unix" and needs_unix:
        raise ParameterError(
            f"-e: transport={parameters.transport} is not possible in virtual time with case {case.number}: "
            f"{' and '.join(needs_unix)} need the EAGAIN of a unix socket. Leave it out."
        )


def servers_of_a_run(case: Case, parameters: Parameters, first_port: object) -> list[Server]:
    """Return what nginx chooses among: how each server behaves, and where it listens.

    Args:
        case: the first server is the one that the case is about, `upstream`; then come `upstream_2` and so on.
        parameters: of the run.
        first_port: of the first one on TCP; the others have those after it.

    Raises:
        ParameterError: that is no port.
    """
    behaviours = [case.upstream, *case.others]
    port = whole_number("upstream_port", first_port, 1, 65536 - len(behaviours))
    servers = []
    for number, behaviour in enumerate(behaviours, start=1):
        name = "upstream" if number == 1 else f"upstream_{number}"
        unix = parameters.transport == "unix"
        listener = PlannedListener(
            name=name,
            transport=parameters.transport,
            path=f"{UPSTREAM_DIR}/{name}.sock" if unix else "",
            port=0 if unix else port + number - 1,
        )
        address = f"unix:{listener.path}" if unix else f"127.0.0.1:{listener.port}"
        servers.append(Server(behaviour=behaviour, listener=listener, address=address))
    return servers


def _check_listen_ports(parameters: Parameters, first_port: object, servers: Sequence[Server]) -> None:
    """Refuse ports that nginx cannot listen on: it takes so many from the first one upwards."""
    first = whole_number("nginx_listen_port", first_port, 1, 65536 - parameters.nginx_listens)
    ports = range(first, first + parameters.nginx_listens)
    taken = [one.listener.port for one in servers if one.listener.port in ports]
    if taken:
        raise ParameterError(
            f"-e: nginx_listen_port={first} is not allowed: nginx would listen on ports {ports[0]} to {ports[-1]}, and "
            f"an upstream listens on {taken[0]}. Choose another, or another upstream_port."
        )


def start_state(
    case: Case,
    servers: Sequence[Server],
    parameters: Parameters,
    inventory: Variables,
    pages: Mapping[str, StatusPage],
) -> str:
    """Return a name for the disk that a boot in virtual time begins with; what would be on it decides."""
    on_disk = {name: value for name, value in parameters.model_dump().items() if not name.startswith("virtual_")}
    # Its packages are for the role testbed to know, and its other variables leave the disk as it is.
    inputs = role_variables() - role_variables("testbed")
    given = {name: str(inventory[name]) for name in inputs if name in inventory}
    roles = _digest([ROOT / "roles/virtual", ROOT / "roles/testbed"])
    planned = [one.model_dump() for one in servers]
    own_pages = {host: page.model_dump() for host, page in pages.items() if page != StatusPage()}
    content = [provisioning_fingerprint(), roles, case.number, planned, on_disk, given, own_pages]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _check_host_names(names: Sequence[str]) -> None:
    for name in names:
        if not is_host_name(name):
            raise FloodmarkError(
                f"the inventory has a host {name!r}, and results are kept in a folder of that name: give it a name "
                "that is not 'load' and has no '/', and its address as ansible_host."
            )


def _check_metrics(address: str) -> None:
    if address:
        try:
            parse_address(address)
        except ValueError as error:
            raise ParameterError(f"-e: {error}.") from None


def _check_others(extra: Variables) -> None:
    """Refuse what Ansible would refuse in the middle of a run, or take for something else."""
    serial, provision = str(extra.get("run_serial", 1)), extra.get("provision", PROVISIONS[0])
    if not re.fullmatch(r"(?!0)\d{1,3}|1000|(?!0)\d{1,2}%|100%", serial, re.ASCII):
        raise ParameterError(
            f"-e: run_serial={shown(serial)} is not allowed: it must be 1 to 1000, or a share such as 50%: so many "
            "hosts are measured at a time."
        )
    if provision not in PROVISIONS:
        raise ParameterError(f"-e: provision={shown(provision)} is not allowed: it must be {' or '.join(PROVISIONS)}.")
    whole_number("guard_free_mb", extra.get("guard_free_mb", 0), 0, 10_000_000)


def _check_host_order(order: object) -> None:
    if order not in HOST_ORDERS:
        raise ParameterError(f"-e: run_order={order} is not allowed: it must be {', '.join(HOST_ORDERS)}.")


def owner(pid: int) -> str:
    """Say whose run it is, so that it can be seen later whether that process still lives."""
    return f"{getpass.getuser()}@{_machine()} pid {pid} since {_start_of(pid)}"


def owner_is_gone(text: str) -> bool:
    """Tell whether a run's process has ended; of another machine's processes nothing is known, so no."""
    who, _, rest = text.partition(" pid ")
    pid, _, since = rest.partition(" since ")
    if who.partition("@")[2] != _machine() or not pid.isdigit():
        return False
    return _start_of(int(pid)) != since


def _machine() -> str:
    """Return a name that two machines, two boots or two containers do not share, however they are called."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    processes = Path("/proc/self/ns/pid").stat().st_ino
    return f"{socket.gethostname()} ({boot[:8]}-{processes})"


def _start_of(pid: int) -> str:
    """Return when a process started, in clock ticks since boot: with its number it names a process for ever."""
    try:
        # 812 (nginx: worker) S 811 …: the name may hold blanks and brackets, the rest may not; field 22.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return "-"


@cache
def provisioning_fingerprint() -> str:
    """Return a digest of all that provisioning puts on a host; equal digests mean that there is nothing to do."""
    return _digest(
        [
            ROOT / "collectors",
            *(ROOT / "roles" / role for role in ("nginx", "sysctl", "upstream", "collector", "guard")),
        ]
    )


def _digest(folders: list[Path]) -> str:
    """Return a digest of all files in some folders."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md":
                digest.update(f"{path.relative_to(ROOT)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def control_node() -> ControlNode:
    """Return what makes a run: programs with their versions, and the state of this checkout."""
    return ControlNode(
        python=platform.python_version(),
        floodmark=__version__,
        ansible_core=version("ansible-core"),
        locust=version("locust"),
        git_commit=_git("rev-parse", "HEAD"),
        git_dirty=None if (changes := _git("status", "--porcelain")) is None else bool(changes),
    )


def _git(*arguments: str) -> str | None:
    """Return what git says of this checkout, None where there is no git."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
