"""A generated program whose allocations come from a chosen number of distinct stacks.

Ten modules for 100,000 stacks; in each a function that calls from 25 lines a function that calls 20 leaf
functions, each of 20 lines keeping a string: 4,000 allocating lines in 220 functions.
"""

from __future__ import annotations

from pathlib import Path

LEAVES = 20
LINES = 20
CALLS = 25
PER_MODULE = CALLS * LEAVES * LINES


def module() -> str:
    """The text of one module: PER_MODULE stacks below `top`."""
    text = ["from keep import keep", ""]
    for leaf in range(LEAVES):
        text.append(f"def leaf_{leaf}(n):")
        text += [f"    keep(str(n + {line}))" for line in range(LINES)]
    text.append("def middle(n):")
    text += [f"    leaf_{leaf}(n)" for leaf in range(LEAVES)]
    text.append("def top(n):")
    text += ["    middle(n)"] * CALLS
    return "\n".join(text) + "\n"


def generate(folder: Path, stacks: int) -> Path:
    """Write the program of about that many stacks; its main script."""
    modules = max(1, round(stacks / PER_MODULE))
    (folder / "keep.py").write_text("kept = []\nkeep = kept.append\n")
    main = []
    for number in range(modules):
        (folder / f"part_{number}.py").write_text(module())
        main.append(f"import part_{number}")
    main += [f"part_{number}.top({number * 1_000_000 + 1000})" for number in range(modules)]
    script = folder / "stacks.py"
    script.write_text("\n".join(main) + "\n")
    return script
