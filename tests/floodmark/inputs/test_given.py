"""What is given with `-e`, and what of it is never written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from floodmark.errors import ParameterError
from floodmark.inputs.given import marked_by, read_given, secrets_of, without_secrets

GIVEN = {"users": "9", "ansible_become_password": "s3cret", "sudo_word": "hush"}


def test_ansibles_own_variables_and_those_that_are_marked_are_secret() -> None:
    marked = marked_by({"floodmark_secrets": ["sudo_word"]})
    assert without_secrets(GIVEN, marked) == {"users": "9"}
    assert secrets_of(GIVEN, marked) == {"ansible_become_password": "s3cret", "sudo_word": "hush"}
    assert without_secrets(GIVEN) == {"users": "9", "sudo_word": "hush"}
    assert marked_by({}) == frozenset()


@pytest.mark.parametrize("marks", ["sudo_word", {"sudo_word": "s3cret"}, ["a b"], [1], None])
def test_what_marks_secrets_is_a_list_of_names_and_is_not_shown(marks: Any) -> None:
    with pytest.raises(ParameterError, match="floodmark_secrets of the inventory is no list of names") as error:
        marked_by({"floodmark_secrets": marks})
    assert "s3cret" not in str(error.value)


def test_a_file_says_what_a_list_of_processes_shall_not(tmp_path: Path) -> None:
    file = tmp_path / "how-to-get-in.yml"
    file.write_text("ansible_become_password: s3cret\nansible_port: 22\nnginx_status_allow: [192.0.2.0/24]\n")
    assert read_given(["users=9", f"@{file}", "rate=100:10=x"]) == {
        "users": "9", "ansible_become_password": "s3cret", "ansible_port": "22", "rate": "100:10=x",
        "nginx_status_allow": ["192.0.2.0/24"],
    }  # fmt: skip
    file.write_text("")
    assert read_given([f"@{file}"]) == {}


@pytest.mark.parametrize("content", [b"s3cret", b"[s3cret]", b"a: [s3cret", b"\xff", b"{1: {2: s3cret}}"[:-1]])
def test_a_file_that_is_none_is_refused_without_its_content(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "how-to-get-in.yml"
    file.write_bytes(content)
    with pytest.raises(ParameterError, match=r"how-to-get-in.yml is no YAML that maps names to values") as error:
        read_given([f"@{file}"])
    assert "s3cret" not in str(error.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"none.yml cannot be read: No such file or directory"):
        read_given([f"@{tmp_path}/none.yml"])
