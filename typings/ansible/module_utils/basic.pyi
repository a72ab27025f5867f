from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

# An option, a value of it, the options that it needs, and whether any one of them will do.
_Condition = tuple[str, object, Sequence[str]] | tuple[str, object, Sequence[str], bool]

class AnsibleModule:
    params: dict[str, Any]
    check_mode: bool

    def __init__(
        self,
        argument_spec: Mapping[str, Mapping[str, object]],
        *,
        mutually_exclusive: Sequence[Sequence[str]] | None = None,
        required_one_of: Sequence[Sequence[str]] | None = None,
        supports_check_mode: bool = False,
        required_if: Sequence[tuple[str, object, Sequence[str]] | tuple[str, object, Sequence[str], bool]]
        | None = None,
        required_by: Mapping[str, Sequence[str]] | None = None,
    ) -> None: ...
    def get_bin_path(self, arg: str) -> str | None: ...
    def run_command(
        self, args: str | Sequence[str], *, environ_update: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]: ...
    def exit_json(self, **kwargs: object) -> NoReturn: ...
    def fail_json(self, msg: str, **kwargs: object) -> NoReturn: ...
