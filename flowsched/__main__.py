"""`python -m flowsched` is the console script."""

from flowsched.cli import main

if __name__ == "__main__":
    main()
