"""A static estimate of what NEON loops cost: Clang's code for an Apple core, judged by llvm-mca.

Nothing is run. LLVM judges every Apple core by its model of an old one (Cyclone: three vector units
where an M1 has four, tables of two registers as cheap as those of one), so a figure says how two
ways of writing a loop compare, not how fast a Mac is. Needs clang, llvm-mca and the headers of
g++-aarch64-linux-gnu.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "native/src/path_neon.cpp"
FUNCTION = re.compile(r"^_Z\w+:")
LABEL = re.compile(r"^(\.L\w+):")
BRANCH = re.compile(r"^\s+(?:b\.\w+|cbn?z|tbn?z)\s.*?(\.L\w+)$")
ITERATIONS = 100
SHOWN = ("tbl", "eor3", "eor", "sdot", "mov")


@dataclass(frozen=True)
class Loop:
    """One innermost loop: its instructions, and cycles of one round by llvm-mca."""

    body: tuple[str, ...]
    cycles: float

    def count(self, *names: str) -> int:
        return sum(line.split()[0] in names for line in self.body)

    def stack(self) -> int:
        return sum("[sp" in line for line in self.body)


def assembly(clang: str, cpu: str) -> list[str]:
    """Lines of what Clang makes of the path. Raises CalledProcessError."""
    flags = ["--target=aarch64-linux-gnu", "-std=gnu++20", "-O3", "-ffp-contract=off", "-fno-pic"]
    command = [clang, *flags, f"-mcpu={cpu}", f"-I{SOURCE.parent}", "-S", "-o", "-", str(SOURCE)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def bodies(lines: list[str]) -> list[tuple[str, ...]]:
    """Instructions of every innermost loop of these lines."""
    at: dict[str, int] = {}
    out = []
    for i, line in enumerate(lines):
        if found := LABEL.match(line):
            at[found[1]] = i
        elif (found := BRANCH.match(line)) and found[1] in at:
            part = [text.split("//")[0].rstrip() for text in lines[at[found[1]] + 1 : i + 1]]
            if not any(LABEL.match(text) for text in part):
                out.append(tuple(text for text in part if text and text.lstrip()[0] not in ".;"))
    return out


def cycles(mca: str, cpu: str, body: tuple[str, ...]) -> float:
    """Cycles of one round when nothing misses the first cache. Raises CalledProcessError."""
    text = re.sub(r"\.L\w+$", ".Lagain", "\n".join([".Lagain:", *body]), flags=re.MULTILINE)
    with tempfile.NamedTemporaryFile("w", suffix=".s") as file:
        file.write(text + "\n")
        file.flush()
        flags = ["-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={ITERATIONS}"]
        command = [mca, *flags, file.name]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", shown)[1]) / ITERATIONS  # type: ignore[index]


def show(title: str, loop: Loop, share: float, unit: str) -> None:
    counts = Counter(line.split()[0] for line in loop.body)
    parts = ", ".join(f"{counts[name]} {name}" for name in SHOWN if counts[name])
    print(
        f"{title}: {loop.cycles * share:.1f} cycles per {unit} "
        f"({len(loop.body)} instructions: {parts}; {loop.stack()} on the stack)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clang", default="clang")
    parser.add_argument("--mca", default="llvm-mca")
    parser.add_argument("--cpu", default="apple-m1")
    chosen = parser.parse_args()
    lines = assembly(chosen.clang, chosen.cpu)
    starts = [i for i, line in enumerate(lines) if FUNCTION.match(line)] + [len(lines)]
    for bits in (2, 1):
        found = [
            Loop(body, cycles(chosen.mca, chosen.cpu, body))
            for first, last in pairwise(starts)
            if re.search(rf"(one_token|stretch|decode_lines|run_turns)\w*Li{bits}E", lines[first])
            for body in bodies(lines[first:last])
        ]
        symbols = 8 // bits
        turn = max((x for x in found if x.count("sdot") == 16), key=lambda x: x.count("tbl"))
        line = f"line of {64 * symbols} weights"
        show(f"K={bits}, one token, R=16", turn, 4 * symbols / 16, line)
        for loop in found:
            if not loop.count("sdot") and loop.count("tbl") == 4 * symbols:
                show(f"K={bits}, decoding once and for all", loop, 4, line)
                break
        tiles = [x for x in found if x.count("sdot") == 16 and not x.count("tbl")]
        slowest = max(tiles, key=lambda x: x.cycles)
        show(f"K={bits}, tiles of tokens, from levels", slowest, 1, "16 products")


if __name__ == "__main__":
    main()
