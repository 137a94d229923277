"""The console script, and `python -m flowsched`."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C is minded already while the commands are being imported."""
    try:
        from flowsched import cli  # noqa: PLC0415

        sys.exit(cli.main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
