"""Reads all files of a folder with one YAML library; prints what it took as JSON."""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from pathlib import Path


def main(library: str, root: str) -> None:
    module = importlib.import_module(library)
    load = module.YAML().load if library == "ruamel.yaml" else module.loads
    wall, cpu = time.perf_counter(), time.process_time()
    read = [load(path.read_text()) for path in sorted(Path(root).iterdir())]
    figures = {
        "CPU s": time.process_time() - cpu,
        "load s": time.perf_counter() - wall,
        "RSS MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    assert all(each["schedules"] for each in read)
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
