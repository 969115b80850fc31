"""`gpt-kit` and `python -m gpt_kit`."""

import os
import sys

from gpt_kit.cli import main

if __name__ == "__main__":
    exit_code = main()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # gloo's threads may outlive the interpreter and abort the process at its end (pytorch issue 190489): leave before that.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
