from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from floodmark.cli import main
from floodmark.compare.diff import differences, print_differences, read_one
from tests.floodmark.made_up_runs import MadeUpRuns

CHANGED = {
    "kernel.config_sha256": "bb",
    "kernel.cmdline": "quiet root=/dev/vda mitigations=off",
    "mitigations.retbleed": "Vulnerable",
    "sysctls": {"net.core.somaxconn": "16"},
    "versions.nginx": "1.24.0",
    "cpu.model": "another",
    "clocks.clocksource": "hpet",
}
# What host.json calls it -> what a user calls it, with both values.
EXPECTED = {
    "kernel_config": ("aa", "bb"),
    "cmdline": ("quiet root=/dev/vda", "quiet root=/dev/vda mitigations=off"),
    "mitigations.retbleed": ("Not affected", "Vulnerable"),
    "sysctls.net.core.somaxconn": ("8", "16"),
    "nginx": ("1.22.1", "1.24.0"),
    "cpu.model": ("AMD EPYC", "another"),
    "clocksource": ("tsc", "hpet"),
    "users": (32, 64),
    "boot_id": ("boot-1", "boot-2"),
    "git.commit": ("commit-1", "commit-2"),
}


@pytest.fixture
def made(tmp_path: Path) -> MadeUpRuns:
    return MadeUpRuns(tmp_path)


def test_all_that_differs_is_found_and_nothing_else(made: MadeUpRuns) -> None:
    one, other = read_one(made.add()), read_one(made.add(CHANGED, {"users": 64}))
    assert differences(one, other) == EXPECTED


def test_a_field_that_only_one_run_has_differs(made: MadeUpRuns) -> None:
    one, other = made.add(), made.add({"boot_id": "boot-1", "versions.systemd": "252"})
    found = differences(read_one(one), read_one(other))
    assert found["versions.systemd"] == (None, "252")
    assert "not recorded" in CliRunner().invoke(main, ["diff", one, other]).output


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_shows_of_a_command_line_what_differs(made: MadeUpRuns, width: int) -> None:
    out = io.StringIO()
    one, other = read_one(made.add()), read_one(made.add(CHANGED, {"users": 64}))
    print_differences(Console(file=out, width=width), one, other)
    text = out.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert "mitigations=off" in text
    assert "root=/dev/vda" not in text
    assert f"{len(EXPECTED)} fields differ" in text


def test_json_is_field_to_both_values(made: MadeUpRuns) -> None:
    done = CliRunner().invoke(main, ["diff", made.add(), made.add({"versions.nginx": "1.24.0"}), "--json"])
    assert json.loads(done.output)["nginx"] == ["1.22.1", "1.24.0"]


def test_a_run_does_not_differ_from_itself(made: MadeUpRuns) -> None:
    run = made.add()
    done = CliRunner().invoke(main, ["diff", run, run])
    assert (done.exit_code, done.output.startswith("0 fields differ")) == (0, True)


def test_a_run_of_two_hosts_has_to_be_named_with_one(made: MadeUpRuns) -> None:
    first, second = Path(made.add()), Path(made.add(name="linux612"))
    content = json.loads((first / "run.json").read_text())
    content["hosts"]["proxies"].append("linux612")
    (first / "run.json").write_text(json.dumps(content))
    (second / "linux612").rename(first / "linux612")
    done = CliRunner().invoke(main, ["diff", str(first), str(first)])
    assert done.exit_code == 2
    assert "has 2 hosts: say which one" in done.output
    done = CliRunner().invoke(main, ["diff", f"{first}:proxy1", f"{first}:linux612", "--json"])
    assert json.loads(done.output)["host"] == ["proxy1", "linux612"]


def test_a_run_that_does_not_exist_is_a_sentence(made: MadeUpRuns) -> None:
    done = CliRunner().invoke(main, ["diff", made.add(), str(made.results / "none")])
    assert done.exit_code == 2
    assert "there is no run" in done.output


def test_options_that_both_kernels_know_are_named_and_new_ones_are_not(made: MadeUpRuns) -> None:
    old = made.add(config="CONFIG_HZ=250\n# CONFIG_KFENCE is not set\nCONFIG_OLD=y\n")
    new = made.add(config='CONFIG_HZ=250\nCONFIG_KFENCE=y\nCONFIG_NEW="a=b"\n')
    done = CliRunner().invoke(main, ["diff", old, new, "--json"])
    found = {name: pair for name, pair in json.loads(done.output).items() if name.startswith("kernel_config.")}
    assert found == {"kernel_config.CONFIG_KFENCE": ["n", "y"]}
    assert "\n4 fields differ, " in CliRunner().invoke(main, ["diff", old, new]).output, "boot, commit, hash and option"
    assert not re.search(r"-\d+ are the same", CliRunner().invoke(main, ["diff", old, new]).output)
