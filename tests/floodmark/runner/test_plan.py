from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from floodmark.errors import FloodmarkError
from floodmark.inputs.status_page import StatusPage
from floodmark.model.run import Plan, PlannedListener
from floodmark.runner import plan
from floodmark.runs.folders import RunFolder
from tests.conftest import ROOT

GROUPS = {"proxies": ["proxy1"], "load_generators": ["localhost"], "testbed": ["proxy1"]}


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(plan, "new_run", lambda number, transport: new_run(tmp_path, number, transport))
    return tmp_path


def new_run(folder: Path, number: int, transport: str) -> RunFolder:
    (folder / f"{number}-{transport}").mkdir()
    return RunFolder(folder / f"{number}-{transport}")


def make(**extra: Any) -> Plan:
    return plan.make_plan(extra, {"groups": GROUPS, **extra}, os.getpid()).plan


def test_a_plan_holds_the_case_as_resolved(results: Path) -> None:
    made = make(case="2", transport="tcp", users="64")
    assert (made.case.number, made.parameters["transport"], made.parameters["users"]) == (2, "tcp", 64)
    assert RunFolder(results / "2-tcp").read_plan() == made


def test_a_plan_says_where_each_server_listens() -> None:
    assert [one.address for one in make(case="2").servers] == ["unix:/run/floodmark-upstream/upstream.sock"]
    one, other = make(case="11", transport="tcp", upstream_port="9100").servers
    assert (one.address, other.address) == ("127.0.0.1:9100", "127.0.0.1:9101")
    assert one.listener == PlannedListener(name="upstream", transport="tcp", path="", port=9100)
    assert other.listener.name == "upstream_2"
    assert (one.behaviour.accept, other.behaviour.accept) == (False, True)


def test_results_that_cannot_be_written_are_a_sentence(results: Path) -> None:
    def full(_number: int, _transport: str) -> RunFolder:
        (results / "run").mkdir()
        (results / "run" / "load").write_text("a file, where a folder belongs")
        return RunFolder(results / "run")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "new_run", full)
        with pytest.raises(FloodmarkError, match=r"run cannot be written: Not a directory\. Make it writable"):
            make(case="2")


def test_the_sockets_are_in_the_folder_that_systemd_makes() -> None:
    defaults = yaml.safe_load((ROOT / "roles/upstream/defaults/main.yml").read_text())
    assert f"/run/{defaults['upstream_runtime_dir']}" == plan.UPSTREAM_DIR


def test_nginx_listens_where_the_playbooks_say() -> None:
    assert yaml.safe_load((ROOT / "playbooks/vars/case.yml").read_text())["nginx_listen_port"] == plan.LISTEN_PORT


def test_a_longer_run_needs_more_space() -> None:
    short, long = make(case="3"), make(case="3", transport="tcp", load_shape="sustained", duration_s="3600")
    assert 200 < short.free_mb < 220
    assert 4500 < long.free_mb < 5500
    assert short.most_bytes["agent"] < long.most_bytes["agent"] < long.free_mb * 1e6


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"case": "2", "somaxcon": "8"}, "there is no parameter 'somaxcon': did you mean 'somaxconn'?"),
        ({"case": "2", "nginx_listen_prot": "1"}, "did you mean 'nginx_listen_port'?"),
        ({"case": "2", "nginx_worker_processes": "4"}, "nginx_worker_processes follows from the parameters of a run"),
        ({"case": "2", "locust_target": "http://example.com"}, "locust_target follows from the parameters of a run"),
        ({"case": "2", "metrics": "0.0.0.0:9177"}, "metrics=0.0.0.0:9177 is not allowed: it must be an address on"),
        ({"case": "11", "upstream_port": "65535"}, "upstream_port=65535 is not allowed: it must be 1 to 65534"),
        (
            {"case": "2", "nginx_listen_port": "65535", "nginx_listens": "2"},
            "=65535 is not allowed: it must be 1 to 65534",
        ),
        (
            {"case": "2", "transport": "tcp", "upstream_port": "8082", "nginx_listens": "3"},
            "=8080 is not allowed: nginx would listen on ports 8080 to 8082, and an upstream listens on 8082.",
        ),
        (
            {"case": "2", "run_serial": "eight"},
            "run_serial=eight is not allowed: it must be 1 to 1000, or a share such as",
        ),
        ({"case": "2", "run_serial": "0%"}, "run_serial=0% is not allowed: it must be 1 to 1000, or a share such as"),
        ({"case": "2", "provision": "never"}, "provision=never is not allowed: it must be once or always"),
        ({"case": "2", "guard_free_mb": "much"}, "guard_free_mb=much is not allowed: it must be 0 to 10000000"),
        ({"case": "2", "run_order": "random"}, "run_order=random is not allowed: it must be inventory, reverse_"),
        (
            {"case": "2", "nginx_status_path": "stats"},
            "-e: nginx_status_path=stats is not allowed: it must begin with /",
        ),
        ({"case": "2", "nginx_status_allow": ["all"]}, "-e: nginx_status_allow has 'all', which is no address and no"),
        ({}, "no case was given"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(extra: dict[str, Any], sentence: str, results: Path) -> None:
    with pytest.raises(FloodmarkError) as error:
        make(**extra)
    assert sentence in str(error.value)
    assert list(results.iterdir()) == []


@pytest.mark.parametrize("missing", ["proxies", "load_generators"])
def test_an_inventory_without_a_group_is_refused(missing: str) -> None:
    with pytest.raises(FloodmarkError, match=f"no host in the group '{missing}'"):
        plan.make_plan({"case": "2"}, {"groups": {**GROUPS, missing: []}}, os.getpid())


def test_where_on_a_host_and_ansibles_own_variables_may_be_given() -> None:
    assert make(case="2", nginx_listen_port="8181", ansible_user="me", provision="always").case.number == 2


def test_a_plan_says_where_the_status_page_of_each_host_is() -> None:
    inventory = {"groups": GROUPS, "hostvars": {"proxy1": {"nginx_status_path": "/stats"}}}
    made = plan.make_plan({"case": "2"}, inventory, os.getpid()).plan
    assert made.status_pages == {"proxy1": StatusPage(path="/stats")}


def test_a_case_that_is_held_stays_as_long_as_somebody_is_there() -> None:
    made = make(case="2", hold="true")
    assert (made.hold, made.longest_s) == (True, 3600)
    assert make(case="3", hold=True, hold_s="600").longest_s == 600
    assert not make(case="4", hold="false").hold


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"hold": "maybe"}, "-e: hold=maybe is not allowed: it must be true or false"),
        ({"hold": ""}, "-e: hold= is not allowed: it must be true or false"),
        ({"hold": "true", "hold_s": "5"}, "hold_s=5 is not allowed: it must be 60 to 86400"),
        ({"hold_s": "600"}, "there is no parameter 'hold_s'"),
        ({"case": "2", "lab": "single-request", "hold": "true"}, "there is no parameter 'hold'"),
    ],
)
def test_what_cannot_be_held_is_refused(extra: dict[str, Any], sentence: str, results: Path) -> None:
    with pytest.raises(FloodmarkError) as error:
        make(**{"case": "3", **extra})
    assert sentence in str(error.value)
    assert list(results.iterdir()) == []


def test_a_page_has_a_hold_of_its_own() -> None:
    with pytest.raises(FloodmarkError, match="there is no parameter 'hold'"):
        plan.make_plan({"case": "2", "hold": "true"}, {"groups": GROUPS}, os.getpid(), web=True)


def test_the_owner_of_a_run_is_gone_when_its_process_has_ended() -> None:
    assert not plan.owner_is_gone(plan.owner(os.getpid()))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = plan.owner(process.pid)
        assert not plan.owner_is_gone(owner)
        process.kill()
    assert plan.owner_is_gone(owner)


@pytest.mark.parametrize("owner", ["", "nobody", "root@another-machine pid 1 since 2"])
def test_of_other_owners_nothing_is_known_and_so_they_are_not_gone(owner: str) -> None:
    assert not plan.owner_is_gone(owner)


def test_the_fingerprint_of_provisioning_does_not_change_by_itself() -> None:
    first = plan.provisioning_fingerprint()
    plan.provisioning_fingerprint.cache_clear()
    assert plan.provisioning_fingerprint() == first


def test_an_inventory_may_set_parameters_and_the_command_line_has_the_last_word() -> None:
    slow = {"groups": GROUPS, "floodmark_parameters": {"accept_queue_hz": 100, "users": 8}}
    made = plan.make_plan({"case": "2", "users": "4"}, slow, os.getpid()).plan
    assert (made.parameters["accept_queue_hz"], made.parameters["users"]) == (100, 4)


def test_a_point_of_a_lab_has_its_case_and_its_parameters_and_the_command_line_has_the_last_word() -> None:
    made = make(lab="single-request", point="transport=tcp", users="3")
    assert (made.lab, made.point, made.case.number) == ("single-request", "transport=tcp", 2)
    assert (made.parameters["transport"], made.parameters["users"]) == ("tcp", 3)
    assert make(lab="worker-connections", transport="tcp").point == "as it is"
    assert make(case="2").point is None


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ({"case": "2", "point": "transport=tcp"}, "-e: point=transport=tcp is of a lab, and none was given"),
        (
            {"lab": "single-request", "point": "tcp"},
            "lab single-request has no point 'tcp': Allowed are 'transport=unix'",
        ),
        ({"lab": "single-request", "case": "3"}, "case=3 is not that of lab single-request, which is 2"),
    ],
)
def test_a_point_that_is_not_there_is_named_with_those_that_are(extra: dict[str, str], sentence: str) -> None:
    with pytest.raises(FloodmarkError, match=sentence):
        make(**extra)


def test_of_a_lab_an_inventory_sets_what_it_leaves_open_and_what_is_for_just_this_lab() -> None:
    slow = {
        "floodmark_parameters": {"accept_queue_hz": 100, "start_spread_ms": 500, "drain_s": 9},
        "floodmark_lab_parameters": {"memory-stability": {"start_spread_ms": 30000}},
    }
    made = plan.make_plan({"lab": "memory-stability", "users": "4"}, {"groups": GROUPS, **slow}, os.getpid()).plan
    names = ("accept_queue_hz", "start_spread_ms", "drain_s", "users")
    assert [made.parameters[name] for name in names] == [100, 30000, 4, 4]
    assert made.inventory_parameters == {"accept_queue_hz": 100, "start_spread_ms": 30000}
    other = plan.make_plan({"lab": "worker-connections"}, {"groups": GROUPS, **slow}, os.getpid()).plan
    assert other.inventory_parameters == {"accept_queue_hz": 100}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"memory-stabilty": {}}, "there is no lab 'memory-stabilty': did you mean 'memory-stability'"),
        ({"memory-stability": 3}, "memory-stability of the inventory is 3: it must map names to values"),
        ({"memory-stability": {"users": 0}}, "inventory: users=0 is not allowed"),
        ("slow", "floodmark_lab_parameters of the inventory is 'slow'"),
    ],
)
def test_wrong_parameters_of_an_inventory_for_labs_are_refused(given: Any, sentence: str) -> None:
    inventory = {"groups": GROUPS, "floodmark_lab_parameters": given}
    with pytest.raises(FloodmarkError, match=sentence):
        plan.make_plan({"lab": "memory-stability"}, inventory, os.getpid())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"accept_queue_hz": 0}, "inventory: accept_queue_hz=0 is not allowed"), ("fast", "inventory is 'fast'")],
)
def test_wrong_parameters_of_an_inventory_are_refused(given: Any, sentence: str) -> None:
    with pytest.raises(FloodmarkError, match=sentence):
        plan.make_plan({"case": "2"}, {"groups": GROUPS, "floodmark_parameters": given}, os.getpid())


QEMU = {"testbed_driver": "qemu", "testbed_clock": "virtual"}


def make_virtual(extra: dict[str, Any], *variables: dict[str, Any], testbed: bool = True) -> Plan:
    names = [f"linux{number}" for number, _ in enumerate(variables)]
    groups = {"proxies": names, "load_generators": ["localhost"], "testbed": names if testbed else []}
    inventory = {"groups": groups, "hostvars": dict(zip(names, variables, strict=True))}
    return plan.make_plan(extra, inventory, os.getpid()).plan


def test_a_run_in_virtual_time_says_so_and_names_its_disk() -> None:
    made = make_virtual({"case": "1"}, QEMU, QEMU)
    assert (made.clock, made.run_id) == ("virtual", "1-unix-virtual")
    assert made.start_state
    assert make(case="1").clock == "host"


def test_the_disk_depends_on_what_is_on_it_alone(results: Path) -> None:
    def disk(**extra: str) -> str:
        for folder in results.iterdir():
            shutil.rmtree(folder)
        return make_virtual({"case": "1", **extra}, QEMU).start_state

    assert disk() == disk(virtual_seed="7", virtual_window_ms="50")
    assert disk() != disk(somaxconn="16")


@pytest.mark.parametrize(
    ("extra", "variables", "sentence"),
    [
        ({}, {**QEMU, "testbed_clock": "sundial"}, "testbed_clock=sundial is not allowed: it must be host or virtual"),
        ({}, {**QEMU, "testbed_driver": "nspawn"}, "it is testbed_driver=nspawn: set testbed_driver: qemu"),
        ({}, {"testbed_clock": "virtual"}, "it is testbed_driver=nspawn"),
        ({}, {**QEMU, "testbed_accelerator": "kvm"}, "testbed_accelerator=kvm runs them on the real one"),
        ({}, {**QEMU, "testbed_kernel": "disk"}, "testbed_kernel=disk is the kernel on the disk"),
        ({"hold": "true"}, QEMU, "linux0 has testbed_clock=virtual, where nobody can look on"),
        ({"case": "5"}, QEMU, "case 5 (no-close) names nothing that is measured in virtual time: cases 1, 2, 3, 4 do"),
        ({"case": "2", "transport": "tcp"}, QEMU, "transport=tcp is not possible in virtual time with case 2"),
        ({"order": "nginx,upstream,sysctl"}, QEMU, "order=nginx,upstream,sysctl is not possible in virtual time"),
        ({"virtual_window_ms": "2"}, QEMU, "virtual_window_ms=2 is not allowed: it must be 4 to 10000 ms"),
        ({"testbed_start_state": "x"}, QEMU, "testbed_start_state follows from the parameters of a run"),
    ],
)
def test_what_cannot_be_in_virtual_time_is_refused(
    extra: dict[str, Any], variables: dict[str, Any], sentence: str, results: Path
) -> None:
    with pytest.raises(FloodmarkError) as error:
        make_virtual({"case": "1", **extra}, variables)
    assert sentence in str(error.value)
    assert list(results.iterdir()) == []


def test_the_hosts_of_a_run_have_one_clock() -> None:
    with pytest.raises(FloodmarkError, match="the hosts of one run have one clock, and these differ: linux0 has"):
        make_virtual({"case": "1"}, QEMU, {"testbed_driver": "qemu"})


def test_a_host_of_ones_own_has_no_virtual_time() -> None:
    with pytest.raises(FloodmarkError, match="it is not in the group testbed"):
        make_virtual({"case": "1"}, QEMU, testbed=False)


@pytest.mark.parametrize("name", ["load", "a/b", ".."])
def test_results_have_a_folder_of_the_name_of_each_host(results: Path, name: str) -> None:
    inventory = {"groups": {**GROUPS, "proxies": [name], "testbed": [name]}}
    with pytest.raises(FloodmarkError, match="give it a name that is not 'load' and has no '/'"):
        plan.make_plan({"case": "2"}, inventory, os.getpid())
    assert list(results.iterdir()) == []


def test_an_inventory_marks_what_else_may_be_given_and_it_is_not_written_down() -> None:
    inventory = {"groups": GROUPS, "floodmark_secrets": ["sudo_word"]}
    extra = {"case": "2", "sudo_word": "s3cret", "ansible_become_password": "s3cret"}
    made = plan.make_plan(extra, inventory, os.getpid())
    assert "s3cret" not in made.folder.plan.read_text()
    with pytest.raises(FloodmarkError, match="there is no parameter 'sudo_word'"):
        plan.make_plan(extra, {"groups": GROUPS}, os.getpid())


@pytest.mark.parametrize("name", ["users", "guard_margin_s", "nginx_log_dir"])
def test_what_a_run_writes_down_is_no_secret(name: str) -> None:
    with pytest.raises(FloodmarkError, match=f"floodmark_secrets of the inventory has {name}, which a run writes down"):
        plan.make_plan({"case": "2"}, {"groups": GROUPS, "floodmark_secrets": [name]}, os.getpid())
