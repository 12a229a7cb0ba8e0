"""Times how long a folder takes to plan, and what memory the plan takes.

python bench/planning.py FOLDER     prints JSON; run by run.py, in a process of its own
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from driver import resident

from hw1.jobs.plan import write_plan
from hw1.pipeline.find import find


def main(folder: str) -> None:
    before = resident()
    start = time.perf_counter()
    found = find(folder)
    with tempfile.TemporaryDirectory() as scratch:
        write_plan(found.images, Path(scratch) / "plan.jsonl")
    seconds = time.perf_counter() - start
    grown = resident() - before
    print(json.dumps({"seconds": seconds, "bytes": grown, "images": len(found.images)}))


if __name__ == "__main__":
    main(sys.argv[1])
