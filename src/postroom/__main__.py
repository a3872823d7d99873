"""`python -m postroom`, and the program `postroom`."""

import sys

from postroom.cli.main import main as run


def main() -> None:
    """Run the program and leave with its exit code."""
    sys.exit(run())


if __name__ == "__main__":
    main()
