"""Types of the values that pass between packages and that have no model of their own."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

# What SQL of a case, a lab or a claim can give, and everything else that JSON can hold.
Value = JsonValue
# An object of JSON: the content of a stored file, or a JSON Schema.
Content = dict[str, JsonValue]
# A parameter as people write it and as a run records it; an older run may lack some that there are now.
ParameterValue = bool | int | float | str
ParameterValues = dict[str, ParameterValue]
# Variables of Ansible by name: those of an inventory, and all that was given with `-e`. Nothing is known of a value
# until it is read.
Variables = Mapping[str, object]
