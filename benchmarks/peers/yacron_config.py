"""Has yacron read its configuration; prints what it took as JSON."""

from __future__ import annotations

import json
import sys
import time

from yacron.config import parse_config


def main(path: str) -> None:
    wall, cpu = time.perf_counter(), time.process_time()
    parse_config(path)
    print(json.dumps({"in force s": time.perf_counter() - wall, "CPU s": time.process_time() - cpu}))


if __name__ == "__main__":
    main(sys.argv[1])
