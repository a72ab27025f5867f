_RESERVED_NAMES: frozenset[str]
