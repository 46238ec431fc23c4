# SPDX-License-Identifier: MIT
"""Check that the extension shows exactly one symbol to the process that loads it: exports.py EXTENSION."""

from __future__ import annotations

import subprocess
import sys

EXPECTED = ["PyInit__engine"]


def main(extension: str) -> int:
    """Compare nm's list of dynamic definitions with what is meant to be there."""
    command = ["nm", "--dynamic", "--defined-only", "--format=posix", extension]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    symbols = sorted(line.split()[0] for line in output.splitlines() if line.strip())
    if symbols != EXPECTED:
        print(f"{extension} exports {symbols}, expected {EXPECTED}")
        return 1
    print(f"{extension} exports {EXPECTED[0]} alone")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
