"""`python -m memheft` is the command `memheft`."""

import os
import sys

# `-m` puts the current folder first on the path, and with it the user's own `json.py` or `types.py`.
# We are found already; nothing that we import may come from there.
try:
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
except FileNotFoundError:
    pass  # the current folder is gone, and nothing can come from it

from memheft.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
