"""What is given with `-e`: how the command line reads it, and what of it is never written down.

That is how Ansible gets into hosts, and whatever an inventory marks:

    floodmark_secrets: [sudo_word]
    ansible_become_password: "{{ sudo_word }}"

An inventory with these lines allows `-e sudo_word=…`. Its value is in no result, no report and no list of processes,
nor is that of any variable of Ansible's own (`ansible_*`): who goes on with a lab gives them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import yaml

from floodmark.errors import ParameterError
from floodmark.values import Variables

# The variable of an inventory that marks others, by their names.
MARK = "floodmark_secrets"
OF_ANSIBLE = "ansible_"


def read_given(texts: Iterable[str]) -> dict[str, object]:
    """Return the variables that are given with `-e`, each as a text.

    Args:
        texts: `NAME=VALUE`, or `@FILE` for a file of YAML: what is in a file is in no list of processes.

    Raises:
        ParameterError: there is no such file, or it maps no names to values.
    """
    given: dict[str, object] = {}
    for text in texts:
        if text.startswith("@"):
            given.update(_read_file(Path(text[1:])))
        else:
            name, _, value = text.partition("=")
            given[name] = value
    return given


def _read_file(path: Path) -> dict[str, object]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except OSError as error:
        raise ParameterError(f"-e: {path} cannot be read: {error.strerror}.") from None
    except (UnicodeError, yaml.YAMLError):
        content = ""  # what is wrong in it may be the secret
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ParameterError(f"-e: {path} is no YAML that maps names to values: write a line NAME: VALUE for each.")
    return content


def marked_by(inventory: Variables) -> frozenset[str]:
    """Return the names of the variables that an inventory marks as secret.

    Args:
        inventory: its variables.

    Raises:
        ParameterError: what marks them is no list of names.
    """
    given = inventory.get(MARK, [])
    if not isinstance(given, list) or not all(isinstance(one, str) and one.isidentifier() for one in given):
        raise ParameterError(
            f"{MARK} of the inventory is no list of names of variables: write them as [sudo_word, vault_word], and "
            "their values somewhere else."
        )
    return frozenset(map(str, given))


def is_secret(name: str, marked: Collection[str]) -> bool:
    """Tell whether the value of a variable is never written down.

    Args:
        name: of the variable.
        marked: what the inventory marks.
    """
    return name.startswith(OF_ANSIBLE) or name in marked


def without_secrets(given: Variables, marked: Collection[str] = ()) -> dict[str, object]:
    """Return what may be written down of the variables that were given with `-e`.

    Args:
        given: name -> value.
        marked: what the inventory marks.
    """
    return {name: value for name, value in given.items() if not is_secret(name, marked)}


def secrets_of(given: Variables, marked: Collection[str] = ()) -> dict[str, object]:
    """Return the others of them.

    Args:
        given: name -> value.
        marked: what the inventory marks.
    """
    return {name: value for name, value in given.items() if is_secret(name, marked)}
