"""Where nginx's status page is and who may read it, as an inventory or -e says."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from floodmark.errors import ParameterError
from floodmark.inputs.status_page import StatusPage, check_flood_from, status_pages
from tests.conftest import ROOT


def page_of(extra: dict[str, Any], **variables: Any) -> StatusPage:
    return status_pages(["proxy1"], {"proxy1": variables}, extra)["proxy1"]


def test_what_nobody_says_is_what_the_role_has() -> None:
    defaults = yaml.safe_load((ROOT / "roles/nginx/defaults/main.yml").read_text())
    usual = StatusPage(path=defaults["nginx_status_path"], allow=defaults["nginx_status_allow"])
    assert page_of({}) == usual == StatusPage()
    assert status_pages(["proxy1"], {}, {}) == {"proxy1": usual}


def test_each_host_has_its_own_and_the_command_line_has_the_last_word() -> None:
    variables: dict[str, dict[str, Any]] = {
        "a": {"nginx_status_path": "/stats"},
        "b": {"nginx_status_allow": ["10.0.0.0/8", "::1"]},
    }
    assert status_pages(["a", "b"], variables, {}) == {
        "a": StatusPage(path="/stats"), "b": StatusPage(allow=["10.0.0.0/8", "::1"]),
    }  # fmt: skip
    assert status_pages(["a"], variables, {"nginx_status_path": "/nginx/status"})["a"].path == "/nginx/status"


@pytest.mark.parametrize("path", ["/stats", "/stats/", "/nginx/status.txt", "/a~b_c-d", "/1"])
def test_a_path_is_one(path: str) -> None:
    assert page_of({"nginx_status_path": path}).path == path


@pytest.mark.parametrize(
    "path",
    [
        "stats",
        "/",
        "",
        "/a b",
        "/x;",
        "//x",
        "/../x",
        "/a/./b",
        "/x{",
        "/x?y",
        "/x#y",
        "/%41",
        "/$uri",
        '/"',
        None,
        5,
        [1],
    ],
)
def test_what_is_no_path_is_one_sentence(path: Any) -> None:
    with pytest.raises(ParameterError) as error:
        page_of({"nginx_status_path": path})
    assert str(error.value) == (
        f"-e: nginx_status_path={path} is not allowed: it must begin with / and go on with letters, digits and . _ ~ - "
        "/, such as /stats or /nginx/status; / itself is what the flood asks for."
    )
    with pytest.raises(ParameterError, match=r"^host proxy1: nginx_status_path="):
        page_of({}, nginx_status_path=path)


@pytest.mark.parametrize(
    "entry", ["everybody", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0", "", "1;", "fe80::1%eth0", None, 7]
)
def test_who_is_no_address_and_no_network_is_one_sentence(entry: Any) -> None:
    with pytest.raises(ParameterError) as error:
        page_of({}, nginx_status_allow=["127.0.0.1", entry])
    assert str(error.value) == (
        f"host proxy1: nginx_status_allow has {entry!r}, which is no address and no network: name some like 192.0.2.7 "
        "or 192.0.2.0/24; 0.0.0.0/0 is everybody."
    )


@pytest.mark.parametrize("given", ["10.0.0.1", {"a": 1}, None, 7])
def test_who_may_read_it_is_a_list(given: Any) -> None:
    with pytest.raises(ParameterError) as error:
        page_of({"nginx_status_allow": given})
    assert f"-e: nginx_status_allow={given} is not allowed: it must be a list of addresses and networks" in str(
        error.value
    )
    assert """-e '{"nginx_status_allow": ["192.0.2.0/24"]}'""" in str(error.value)


@pytest.mark.parametrize("wrong", ["192.0.2.7", ["gateway.example.net"], ["192.0.2.0/255.255.255.0"], [None], {}])
def test_where_a_host_is_flooded_from_is_a_list_of_addresses(wrong: Any) -> None:
    check_flood_from(["proxy1"], {"proxy1": {"floodmark_flood_from": ["192.0.2.7", "198.51.100.0/24"]}})
    check_flood_from(["proxy1"], {})
    with pytest.raises(ParameterError, match="host proxy1: floodmark_flood_from"):
        check_flood_from(["proxy1"], {"proxy1": {"floodmark_flood_from": wrong}})
