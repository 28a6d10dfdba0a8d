"""Which endpoint a path and a method mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from h2q.server.dialect import Dialect, Route

_PART = re.compile(r"\{(\w+)(:path)?\}")


@dataclass(frozen=True)
class Match:
    """An endpoint, whose it is, and the named parts of the path."""

    route: Route
    dialect: Dialect
    arguments: dict[str, str]


class Router:
    """Plain paths by table, others in the order they were given."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self._plain: dict[str, dict[str, Match]] = {}
        self._patterns: list[tuple[re.Pattern[str], Route, Dialect]] = []
        for dialect in dialects:
            for route in dialect.routes():
                if "{" in route.path:
                    self._patterns.append((_pattern(route.path), route, dialect))
                else:
                    methods = self._plain.setdefault(route.path, {})
                    methods.setdefault(route.method, Match(route, dialect, {}))

    def find(self, method: str, path: str) -> Match | frozenset[str]:
        """The endpoint, or the methods that the path knows: none for an unknown path. HEAD is
        answered as GET where it is not its own.
        """
        methods = self._plain.get(path)
        if methods is None:
            methods = {}
            for pattern, route, dialect in self._patterns:
                if found := pattern.fullmatch(path):
                    methods.setdefault(route.method, Match(route, dialect, found.groupdict()))
        match = methods.get(method)
        if match is None and method == "HEAD":
            match = methods.get("GET")
        return match or frozenset(methods)


def _pattern(path: str) -> re.Pattern[str]:
    place, pieces = 0, list[str]()
    for part in _PART.finditer(path):
        pieces.append(re.escape(path[place : part.start()]))
        pieces.append(f"(?P<{part[1]}>{'.+' if part[2] else '[^/]+'})")
        place = part.end()
    return re.compile("".join(pieces) + re.escape(path[place:]), re.DOTALL)
