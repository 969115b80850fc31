"""`gpt-kit` and `python -m gpt_kit`."""

import sys

from gpt_kit.cli import main

if __name__ == "__main__":
    sys.exit(main())
