"""The console script, and `python -m flowsched`."""

import io
import os
import sys


def main() -> None:
    """Run the command line. Ctrl-C is minded already while the commands are being imported."""
    for name in ("stdout", "stderr"):
        _prepare(name)
    try:
        from flowsched import cli  # noqa: PLC0415

        sys.exit(cli.main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


def _prepare(name: str) -> None:
    """Let a stream take every text: nobody below should have to think of what it is, or of its encoding."""
    stream = getattr(sys, name)
    if stream is None:  # closed before we came
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - for life
    elif isinstance(stream, io.TextIOWrapper):
        # Documents are UTF-8 in every locale; a terminal of another encoding gets what it can show.
        encoding = stream.encoding if stream.isatty() else "utf-8"
        stream.reconfigure(encoding=encoding, errors="backslashreplace")


if __name__ == "__main__":
    main()
