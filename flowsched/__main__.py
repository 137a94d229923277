"""The console script, and `python -m flowsched`."""

import os
import sys


def main() -> None:
    """Run the command line. Ctrl-C is minded already while the commands are being imported."""
    # A stream that was closed before we came is None; nobody below should have to think of that.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for life
    try:
        from flowsched import cli  # noqa: PLC0415

        sys.exit(cli.main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
