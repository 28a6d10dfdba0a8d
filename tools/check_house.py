"""Gates no linter knows: short modules, a small root, environment variables in one place, no
foreign data.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LINE_CAP = 300
ROOT_CAP = 20
CODE = {".py", ".cpp", ".hpp", ".inl", ".h"}
SETTINGS = Path("src/h2q/core/settings.py")
VARIABLE = re.compile(r"environ\w*\b.*H2Q_[A-Z_]+|getenv\(.*H2Q_")


def tracked() -> list[Path]:
    """Files git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for line in listing.splitlines() if (path := Path(line)).is_file()]


def problems(paths: list[Path]) -> list[str]:
    """One sentence per broken rule."""
    found = []
    roots = {path.parts[0] for path in paths}
    if len(roots) > ROOT_CAP:
        found.append(f"The repository root has {len(roots)} entries, the cap is {ROOT_CAP}.")
    for path in paths:
        if path.suffix not in CODE:
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > LINE_CAP:
            found.append(f"{path} has {len(lines)} lines, the cap is {LINE_CAP}.")
        if path.parts[0] == "src" and path != SETTINGS:
            found += [
                f"{path}:{number} reads an environment variable of ours; {SETTINGS} does that."
                for number, line in enumerate(lines, 1)
                if VARIABLE.search(line)
            ]
    return found


def main() -> int:
    found = problems(tracked())
    print("\n".join(found) or "House rules hold.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
