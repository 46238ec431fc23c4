"""The options that the benches against peers have in common."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def parser(description: str, *, runs: int, peers: str, rows: str, listed: str) -> argparse.ArgumentParser:
    """Make a parser; `peers`, `rows` and `listed` say what --peer-runs, --only and --list are of."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--python", default=sys.executable, help="interpreter whose venv has the requirements")
    made.add_argument("--runs", type=int, default=runs, help="repetitions (default: %(default)s)")
    made.add_argument("--peer-runs", type=int, default=1, help=f"repetitions of {peers}")
    made.add_argument("--only", default="*", help=f"{rows}: patterns with commas between")
    made.add_argument("--json", type=Path, help="write every sample here")
    made.add_argument("--markdown", type=Path, help="write the tables here")
    made.add_argument("--list", action="store_true", help=f"list the {listed} and stop")
    return made
