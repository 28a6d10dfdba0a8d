"""What a chat template may reach: filters, and methods by the kind of value."""

from __future__ import annotations

from collections.abc import Mapping

# fmt: off
FILTERS = frozenset((
    "abs", "attr", "batch", "capitalize", "count", "d", "default", "dictsort", "e", "escape",
    "first", "float", "groupby", "indent", "int", "items", "join", "last", "length", "list",
    "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe",
    "select", "selectattr", "sort", "string", "sum", "title", "tojson", "trim", "unique",
    "upper",
))
STRING_METHODS = frozenset((
    "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdigit",
    "islower", "isspace", "isupper", "join", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "replace", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "title", "upper",
))
# fmt: on
# Filters that look at little of what they are given.
CHEAP = frozenset(("count", "d", "default", "first", "items", "last", "length", "safe"))
METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, STRING_METHODS),
    (Mapping, frozenset(("get", "items", "keys", "values"))),
    (list, frozenset(("count", "index"))),
    (tuple, frozenset(("count", "index"))),
)
