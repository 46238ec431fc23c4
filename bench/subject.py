"""What is measured, and on what: the interpreter, the packages it has, the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.tools import NONE, TOOLS

PACKAGES = ("memheft", "memray", "scalene", "pyperformance", "tomli", "black", "Sphinx", "SQLAlchemy")

PROBE = """
import importlib.metadata, json, platform, sys, sysconfig
packages = {}
for name in sys.argv[1:]:
    try:
        packages[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
benchmarks = ""
if "pyperformance" in packages:
    for file in importlib.metadata.files("pyperformance") or ():
        if file.match("data-files/benchmarks/MANIFEST"):
            benchmarks = str(file.locate().parent)
print(json.dumps({
    "python": platform.python_version(), "executable": sys.executable, "packages": packages,
    "benchmarks": benchmarks, "compiler": platform.python_compiler(),
    "pgo": "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
    "lto": "--with-lto" in (sysconfig.get_config_var("CONFIG_ARGS") or ""),
}))
"""


def probe(python: str) -> dict[str, Any]:
    """What an interpreter is and has; ends the bench if it cannot be asked."""
    try:
        answer = subprocess.run(
            [python, "-c", PROBE, *PACKAGES], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench: --python {python}: {error}")
    found: dict[str, Any] = json.loads(answer)
    return found


def present(asked: Sequence[str], python: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The tools that can be measured, no tool first, and the reasons why others cannot."""
    missing = {
        tool: f"{TOOLS[tool].package} is not installed for {python['executable']}"
        for tool in asked
        if TOOLS[tool].package and TOOLS[tool].package not in python["packages"]
    }
    return [NONE, *(tool for tool in asked if tool != NONE and tool not in missing)], missing


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    processor = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        processor = next(
            (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor
        )
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "load": os.getloadavg()[0],
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def available_memory() -> int:
    """Bytes that new programs can have without swapping, as the kernel estimates it."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def setting(python: dict[str, Any], facts: dict[str, Any], packages: Sequence[str] = PACKAGES) -> str:
    """The interpreter, the versions of what was measured with it, and the machine, in one line."""
    build = " and ".join(f"{'with' if python[name.lower()] else 'without'} {name}" for name in ("PGO", "LTO"))
    versions = ", ".join(
        f"{name} {python['packages'][name]}" for name in packages if name in python["packages"]
    )
    return (
        f"CPython {python['python']} ({python['compiler']}, {build}); {versions}; "
        f"{facts['processor']}, {facts['cores']} cores, Linux {facts['kernel']}."
    )


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
