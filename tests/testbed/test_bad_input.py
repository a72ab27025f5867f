"""What a user may get wrong: one clear message, a status other than 0, no traceback, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from floodmark.inputs.cases import load_cases
from tests.testbed.conftest import ROOT, evidence, play, run

NUMBERS = ", ".join(map(str, load_cases()))


def complains(done: object, *sentences: str) -> None:
    """Check that a command has failed with these words and no others of Ansible's or Python's."""
    assert done.returncode != 0, evidence(done)  # type: ignore[attr-defined,arg-type]
    output = done.stdout + done.stderr  # type: ignore[attr-defined]
    for sentence in sentences:
        assert sentence in output, evidence(done)  # type: ignore[arg-type]
    for noise in ("Traceback", "fatal:", "FAILED!", "Origin:", "<<< caused by >>>"):
        assert noise not in output, evidence(done)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("case=99", f"there is no case '99': allowed are {NUMBERS}"),
        ("case=abc", f"there is no case 'abc': allowed are {NUMBERS}"),
        ("case=", f"no case was given: allowed are {NUMBERS}"),
        ("case=2 somaxconn=-1", "somaxconn=-1 is not allowed: it must be 0 to 65535 conns"),
        ("case=2 users=0", "users=0 is not allowed: it must be 1 to 10000 users"),
        ("case=2 transport=udp", "transport=udp is not allowed: it must be unix or tcp"),
        ("case=2 order=upstream,nginx", "it must be nginx,sysctl,upstream or sysctl,nginx,upstream or nginx,"),
        (
            "case=2 nginx_status_path=stats",
            "nginx_status_path=stats is not allowed: it must begin with / and go on with",
        ),
        ("case=2 hold=maybe", "hold=maybe is not allowed: it must be true or false"),
        ("case=2 hold=true", "hold=true waits for Enter, and standard input is no terminal"),
        ("case=2 nginx_listen_backlog=0", "nginx_listen_backlog=0 is not allowed: it must be 1 to 65535 conns"),
        ("case=2 user=5", "there is no parameter 'user': did you mean 'users'?"),
    ],
)
def test_a_wrong_parameter_touches_no_host(arguments: str, sentence: str) -> None:
    before = sorted((ROOT / "results").iterdir())
    done = run("ansible-playbook", "run-case.yml", *(part for one in arguments.split() for part in ("-e", one)))
    complains(done, sentence)
    assert sorted((ROOT / "results").iterdir()) == before
    assert "testbed" not in done.stdout


def test_make_without_a_case_says_how_to_give_one() -> None:
    complains(run("make", "case"), f"no case was given: allowed are {NUMBERS}")


def test_a_release_that_the_mirrors_do_not_have_is_said(tmp_path: Path) -> None:
    folders = [f"testbed_{name}_dir={tmp_path / name}" for name in ("state", "cache")]
    given = [part for one in ("testbed_release=nosuch", *folders) for part in ("-e", one)]
    complains(
        run("ansible-playbook", "playbooks/testbed-up.yml", *given),
        "testbed_release=nosuch is not on the mirrors of this machine's package sources: ",
        " has no nosuch, ",
        "; name a release that they have, such as ",
    )


def inventory(folder: Path, proxies: str, variables: str = "floodmark_i_own_these_hosts: true") -> str:
    path = folder / "hosts.yml"
    path.write_text(
        f"all:\n  vars: {{{variables}}}\n"
        "  children:\n    load_generators:\n      hosts:\n        localhost: {ansible_connection: local}\n" + proxies
    )
    return str(path)


def test_an_inventory_without_proxy_hosts_is_refused(tmp_path: Path) -> None:
    complains(play("-e", "case=2", "-i", inventory(tmp_path, "")), "the inventory has no host in the group 'proxies'")


def test_a_limit_that_leaves_no_proxy_host_is_refused(tmp_path: Path) -> None:
    hosts = inventory(tmp_path, "    proxies:\n      hosts:\n        mine:\n")
    complains(
        play("-e", "case=2", "-i", hosts, "--limit", "load_generators"),
        "--limit load_generators leaves none of the group 'proxies', the measured hosts mine",
    )


def test_a_host_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    hosts = "    proxies:\n      hosts:\n        gone: {ansible_host: 127.0.0.1, ansible_port: 1}\n"
    complains(
        play("-e", "case=2", "-i", inventory(tmp_path, hosts)), "host gone cannot be reached", "Connection refused"
    )


def test_a_host_that_nobody_has_said_to_own_is_not_touched(tmp_path: Path) -> None:
    hosts = "    proxies:\n      hosts:\n        theirs: {ansible_host: 127.0.0.1, ansible_port: 1}\n"
    complains(
        play("-e", "case=2", "-i", inventory(tmp_path, hosts, "floodmark_i_own_these_hosts: false")),
        "host theirs is not of the testbed",
        "Set floodmark_i_own_these_hosts: true",
    )


def test_a_flood_above_the_caps_of_the_inventory_is_refused(tmp_path: Path) -> None:
    hosts = "    proxies:\n      hosts:\n        mine: {ansible_host: 127.0.0.1, ansible_port: 1}\n"
    capped = inventory(tmp_path, hosts, "floodmark_i_own_these_hosts: true, floodmark_caps: {rate: 500}")
    complains(
        play("-e", "case=2", "-e", "load_shape=open", "-e", "rate=501", "-i", capped),
        "this flood would have 501 requests per second of an open flood, and the inventory allows 500",
    )


def on_the_testbed(folder: Path, **variables: str) -> str:
    """Return an inventory with the testbed's host as if it were somebody's own machine."""
    address = (ROOT / ".testbed/hosts/proxy1/address").read_text()
    settings = {
        "ansible_host": address,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(ROOT / ".testbed/ssh/id_ed25519"),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={ROOT / '.testbed/ssh/known_hosts'}",
        "ansible_become": "false",
        **variables,
    }
    lines = "".join(f"          {name}: {value}\n" for name, value in settings.items())
    return inventory(folder, f"    proxies:\n      hosts:\n        mine:\n{lines}")


def test_not_being_root_is_said(testbed: Callable[[str], str], tmp_path: Path) -> None:
    testbed(
        "id plain >/dev/null 2>&1 || useradd -m plain; mkdir -p ~plain/.ssh; "
        "cp ~/.ssh/authorized_keys ~plain/.ssh/; chown -R plain ~plain/.ssh"
    )
    hosts = on_the_testbed(tmp_path, ansible_user="plain")
    complains(play("-e", "case=2", "-i", hosts), "and they need root: set ansible_become: true")


def test_a_port_in_use_is_named_with_who_uses_it(testbed: Callable[[str], str], snapshot: Callable[[], str]) -> None:
    testbed("systemd-run --quiet --unit=squatter python3 -m http.server 8080; "
            "for i in $(seq 100); do ss -Hltn | grep -q :8080 && break; sleep 0.1; done")  # fmt: skip
    try:
        before = snapshot()
        complains(play("-e", "case=2"), "port 8080 is in use by", "python3", "-e nginx_listen_port=N")
        assert snapshot() == before
        done = play("-e", "case=1", "-e", "nginx_listen_port=8181")
        assert done.returncode == 0, evidence(done)
    finally:
        testbed("systemctl stop squatter")


def test_a_full_disk_is_said_before_anything_is_changed(
    testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    testbed("mkdir -p /var/lib/floodmark; mount -t tmpfs -o size=10m tmpfs /var/lib/floodmark")
    try:
        before = snapshot()
        complains(play("-e", "case=2"), "MB free and a run needs 20", "MB: free some space")
        assert snapshot() == before
    finally:
        testbed("umount /var/lib/floodmark")


def test_a_disk_that_fills_up_during_the_run_is_said_and_the_host_restored(
    testbed: Callable[[str], str], snapshot: Callable[[], str]
) -> None:
    before = snapshot()
    testbed(
        "mkdir -p /var/lib/floodmark; mount -t tmpfs -o size=300k tmpfs /var/lib/floodmark; "
        "mkdir /var/lib/floodmark/runs"
    )
    try:
        complains(
            play("-e", "case=3", "-e", "guard_free_mb=0"),
            "floodmark-agent.service failed: floodmark agent: cannot write to", "No space left on device",
        )  # fmt: skip
        assert int(testbed("cat /var/lib/floodmark/runs/*/accept_queue.csv | wc -l")) > 1000, "what was written stays"
    finally:
        testbed("umount /var/lib/floodmark")
    assert snapshot() == before


def test_a_name_that_resolves_to_no_run_is_a_sentence() -> None:
    complains(run("floodmark", "show", "20000101T000000Z-case1-unix"), "there is no run '20000101T000000Z-case1-unix'")
