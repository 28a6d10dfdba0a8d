"""Twenty updates of a crystal that two hundred people are asking, one of them killed.

    python benchmarks/hot_update.py CRYSTAL --out benchmarks/results

The other crystal is the same with a quarter of its refinement groups. Ends with code 1 when an
answer was lost or mixed, or a process was left.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from h2q.bench import slug, write_result
from h2q.bench.hot_update import Crowd, bench_hot_update


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("crystal", type=Path)
    parser.add_argument("--people", type=int, default=Crowd.people)
    parser.add_argument("--tokens", type=int, default=Crowd.tokens)
    parser.add_argument("--updates", type=int, default=Crowd.updates)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        crowd = Crowd(given.people, given.tokens, given.updates)
        found = bench_hot_update(given.crystal, Path(folder), crowd)
    print(json.dumps(found))
    if given.out is not None:
        write_result(given.out / f"hot-update-{slug()}.json", found)
    got = found["results"]
    bad = got["lost"] or got["mixed"] or got["wrong_after_update"] or got["processes_left"] != 1
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
