"""Experts of a mapped crystal, numbered through all layers: their planes, and the pages those lie
in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from h2q.codec.planes import Plane
from h2q.crystal import Crystal, mapped
from h2q.engine.expert_room import ABOVE, BASE, IntArray, Place
from h2q.engine.mlp import GatedMLP
from h2q.engine.projections import FloatArray, PlaneProjection
from h2q.geometry.rotation import rotation


class LatePlanes:
    """A projection whose planes are looked at when it first runs."""

    def __init__(
        self, names: Sequence[str], planes: Callable[[str], tuple[Plane, ...]], seed: int
    ) -> None:
        self.names, self._planes, self._seed = tuple(names), planes, seed
        self._bound: PlaneProjection | None = None

    def __call__(self, x: FloatArray) -> list[FloatArray]:
        """See Projection. Raises CrystalError where the planes are damaged."""
        if self._bound is None:
            stacks = {name: self._planes(name) for name in self.names}
            self._bound = PlaneProjection(stacks, rotation(self._seed, x.shape[1]))
        return self._bound(x)

    def unbind(self) -> None:
        """The planes have changed."""
        self._bound = None


class ExpertFiles:
    """groups: refinement groups that may take part, None for all. `mlps`: by number an expert with
    its base planes alone, and with all.
    """

    def __init__(self, crystal: Crystal, groups: int | None) -> None:
        self.crystal, self.groups = crystal, groups
        self.mlps: list[tuple[GatedMLP, GatedMLP]] = []
        self._pages: list[tuple[list[mapped.Stretch], list[mapped.Stretch]]] = []

    def projection(self, names: Sequence[str], base: bool = False) -> LatePlanes:
        """Matrices of one expert that read one input."""

        def planes(name: str) -> tuple[Plane, ...]:
            return tuple(self.crystal.planes(name, 0 if base else self.groups))

        return LatePlanes(names, planes, self.crystal.rotation_seed)

    def add(self, mlps: Sequence[GatedMLP]) -> range:
        """Numbers for experts that were bound by `projection`. Raises CrystalError where a plane is
        missing.
        """
        first = len(self.mlps)
        for mlp in mlps:
            gate_up = self.projection(mlp.gate_up.names, base=True)
            down = self.projection(mlp.down.names, base=True)
            self.mlps.append((replace(mlp, gate_up=gate_up, down=down), mlp))
            self._pages.append(self._placed(mlp))
            for pages in self._pages[-1]:
                mapped.at_random(pages, len(self._pages) % 2 == 1)
        return range(first, len(self.mlps))

    def use(self, groups: int | None) -> None:
        """Other refinement groups; none of the planes above the base may be in memory."""
        self.groups = groups
        for number, (_, mlp) in enumerate(self.mlps):
            self._pages[number] = self._placed(mlp)
            mapped.at_random(self._pages[number][ABOVE], number % 2 == 0)
            for part in (mlp.gate_up, mlp.down):
                if isinstance(part, LatePlanes):
                    part.unbind()

    def sizes(self) -> IntArray:
        """Bytes of whole pages by level and expert: int64 (2, experts)."""
        found: list[npt.NDArray[np.int64]] = [
            np.array([mapped.byte_count(pages[level]) for pages in self._pages], np.int64)
            for level in (BASE, ABOVE)
        ]
        return np.stack(found)

    def ask(self, place: Place) -> None:
        """See mapped.ask."""
        mapped.ask(self._at(place))

    def bring(self, place: Place) -> None:
        """See mapped.bring."""
        mapped.bring(self._at(place))

    def let_go(self, places: Iterable[Place], forget: bool) -> None:
        """See mapped.let_go and mapped.forget."""
        for place in places:
            mapped.let_go(self._at(place))
            if forget:
                mapped.forget(self._at(place))

    def forget(self, place: Place) -> None:
        """See mapped.forget."""
        mapped.forget(self._at(place))

    def _at(self, place: Place) -> list[mapped.Stretch]:
        level, number = place
        return self._pages[number][level]

    def _placed(self, mlp: GatedMLP) -> tuple[list[mapped.Stretch], list[mapped.Stretch]]:
        names = (*mlp.gate_up.names, *mlp.down.names)
        planes = [plane for name in names for plane in self.crystal.held(name, self.groups)]
        base = self.crystal.pages(plane for plane in planes if plane[1] == 0)
        return base, self.crystal.pages(plane for plane in planes if plane[1] > 0)
