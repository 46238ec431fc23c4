"""`memheft run`: its options, what it says when something is wrong, the summary."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import MEMHEFT, Workplace

KEEP = "keep = [bytes(100) for _ in range(20_000)]\n"


def one_error(workplace: Workplace, *words: str, code: int, says: str, **options: Any) -> None:
    """The verb fails with one line, before the program is started and without leaving a file."""
    before = sorted(workplace.folder.rglob("*"))
    result = workplace.memheft(*words, **options)
    assert result.code == code, result.err
    assert result.out == ""
    assert result.err.startswith("memheft: error: ")
    assert result.err.count("\n") == 1, result.err
    assert says in result.err
    assert sorted(workplace.folder.rglob("*")) == before


# -- the recording's name --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (["app.py"], r"app\.\d+\.heft"),
        (["sub/tool"], r"tool\.\d+\.heft"),
        (["-m", "pkg.mod"], r"pkg\.mod\.\d+\.heft"),
        (["-c", "pass"], r"command\.\d+\.heft"),
        (["-o", "{script}-x-{pid}", "app.py"], r"app-x-\d+"),
        (["--output=some.heft", "app.py"], r"some\.heft"),
        (["-osome.heft", "app.py"], r"some\.heft"),
        (["--out", "some.heft", "app.py"], r"some\.heft"),
        (["-qo", "some.heft", "app.py"], r"some\.heft"),
        (["-o", "folder", "app.py"], r"folder/app\.\d+\.heft"),
        (["-o", "folder/", "-c", "pass"], r"folder/command\.\d+\.heft"),
        (["-o", "{script}-{n}.heft", "app.py"], r"app-1\.heft"),
        (["a{pid}.py"], r"a\{pid\}\.\d+\.heft"),
        (["-o", "{script}", "folder/tool.py"], r"tool"),
        (["-o", "{script}", "sub/folder"], r"folder/folder\.\d+\.heft"),
        (["-qc", "pass"], r"command\.\d+\.heft"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_name(workplace: Workplace, target: list[str], name: str) -> None:
    workplace.write("app.py", "import os; os.chdir('/')")
    workplace.write("sub/tool", "pass")
    workplace.write("pkg/mod.py", "pass")
    workplace.write("a{pid}.py", "pass")
    workplace.write("folder/tool.py", "pass")
    workplace.write("sub/folder", "pass")
    before = {path for path in workplace.folder.rglob("*") if "__pycache__" not in str(path)}
    result = workplace.memheft("run", *target)
    assert result.code == 0, result.err
    after = {path for path in workplace.folder.rglob("*") if "__pycache__" not in str(path)}
    (made,) = after - before
    assert re.fullmatch(name, str(made.relative_to(workplace.folder)))


def test_nothing_is_overwritten(workplace: Workplace) -> None:
    workplace.write("app.py", "print('started')")
    path = workplace.folder / "x.heft"
    assert workplace.memheft("run", "-q", "-o", "x.heft", "app.py").code == 0
    before = path.read_bytes()
    one_error(workplace, "run", "-o", "x.heft", "app.py", code=2, says="--force")
    assert path.read_bytes() == before
    assert workplace.memheft("run", "-q", "-fo", "x.heft", "app.py").code == 0
    assert path.read_bytes() != before


def test_force_spares_what_is_no_recording(workplace: Workplace) -> None:
    app = workplace.write("app.py", "print('started')")
    one_error(workplace, "run", "--force", "-o", "app.py", "app.py", code=2, says="is not a recording")
    assert app.read_text() == "print('started')"
    one_error(workplace, "run", "--force", "-o", "/dev/null", "app.py", code=2, says="not a regular file")
    workplace.write("empty.heft", "")
    assert workplace.memheft("run", "-q", "--force", "-o", "empty.heft", "app.py").code == 0


# -- errors ----------------------------------------------------------------------------------------------


def test_usage_errors(workplace: Workplace) -> None:
    workplace.write("app.py", "print('started')")
    (workplace.folder / "empty").mkdir()
    for words, says in [
        ([], "nothing to run"),
        (["-q"], "nothing to run"),
        (["--"], "nothing to run"),
        (["-m"], "-m needs"),
        (["-m", ""], "-m needs"),
        (["-c"], "-c needs"),
        ([""], "is empty"),
        (["-X"], "-X needs"),
        (["-S", "app.py"], "-S"),
        (["-Z", "app.py"], "unknown option -Z"),
        (["--unknown", "app.py"], "--unknown"),
        (["-o"], "expected one argument"),
        (["-o", "{host}.heft", "app.py"], "-o: the name of a recording knows {pid}, {script} and {n}, but"),
        (["-o", "a|b.heft", "app.py"], "|"),
        (["-o", "", "app.py"], "-o needs"),
    ]:
        one_error(workplace, "run", *words, code=2, says=says)


def test_missing_files(workplace: Workplace) -> None:
    """What is not there, or is not what it should be, is a failure, not wrong usage: 1 for every verb."""
    workplace.write("app.py", "print('started')")
    (workplace.folder / "empty").mkdir()
    (workplace.folder / "dangling.py").symlink_to("nowhere")
    (workplace.folder / "dangling").symlink_to("nowhere")
    for words, says in [
        (["nothing.py"], "cannot find nothing.py"),
        (["sub/nothing.py"], "cannot find sub/nothing.py"),
        (["nothing"], "memheft run -m nothing"),
        (["empty"], "has no __main__.py"),
        (["dangling.py"], "cannot read dangling.py (no such file"),
        (["-o", "missing/x.heft", "app.py"], "missing does not exist"),
        (["-o", "missing/", "app.py"], "does not exist"),
        (["-o", "dangling/x.heft", "app.py"], "dangling does not exist"),
        (["-o", "app.py/x.heft", "app.py"], "app.py is not a folder"),
        (["-o", "app.py/", "app.py"], "app.py/ is not a folder"),
    ]:
        one_error(workplace, "run", *words, code=1, says=says)
    for verb in ("report", "info"):
        one_error(workplace, verb, "nothing.heft", code=1, says="nothing.heft: no such file")


def test_unwritable_folder(workplace: Workplace) -> None:
    workplace.write("app.py", "print('started')")
    says = "cannot write the recording into /proc: it takes no new files"
    one_error(workplace, "run", "-o", "/proc/x.heft", "app.py", code=1, says=says)
    if os.geteuid() != 0:
        (workplace.folder / "locked").mkdir(mode=0o500)
        one_error(
            workplace, "run", "-o", "locked/x.heft", "app.py", code=1, says="cannot write the recording into"
        )


def test_full_disk(workplace: Workplace) -> None:
    workplace.write("app.py", "print('started')")
    full = Path("/dev/full")
    assert full.exists()
    small = workplace.folder.parent / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(small)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk takes root")
    try:
        one_error(workplace, "run", "-o", f"{small}/x.heft", "app.py", code=1, says="no space left")
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_disk_that_becomes_full(workplace: Workplace) -> None:
    """The program runs to its end, the sums are right, and the summary says what is missing."""
    small = workplace.folder.parent / "small"
    small.mkdir()
    workplace.write("app.py", "import asyncio, csv, decimal, json, unittest\n" + KEEP)
    mount = ["mount", "-t", "tmpfs", "-o", "size=320k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk takes root")
    try:
        result = workplace.memheft("run", "-o", f"{small}/x.heft", "app.py")
        assert result.code == 0
        assert "memheft: app.py exited 0 after" in result.err
        assert "memheft: the disk was full: some call paths were not kept; up to" in result.err
        document = workplace.memheft("report", "--live", "--json").json
        assert document["totals"]["bytes"] > 20_000 * 130
        assert 0 < document["totals"]["uncertain_bytes"] <= document["totals"]["bytes"]
        assert "lost       no block, but call paths; see below" in workplace.memheft("info").out
        assert sum(row["bytes"] for row in document["rows"]) == document["totals"]["bytes"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_disk_too_small_to_begin(workplace: Workplace) -> None:
    """The program runs; all that is said of the recording agrees."""
    small = workplace.folder.parent / "small"
    small.mkdir()
    workplace.write("app.py", "raise SystemExit(3)")
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk takes root")
    try:
        result = workplace.memheft("run", "-o", f"{small}/x.heft", "app.py")
        assert result.code == 3
        assert (
            "memheft: not recorded: the recording cannot be opened: No space left on device\n" in result.err
        )
        deadline = time.monotonic() + 10
        while "exited 3" not in (info := workplace.memheft("info").out) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "complete   no, the program exited 3: there was no space for it on the disk\n" in info
        assert "note:" not in info
        report = workplace.memheft("report").out
        assert "note: nothing was recorded: there was no space for it on the disk\n" in report
        assert "not begun" not in info + report
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_file_size_limit(workplace: Workplace) -> None:
    """RLIMIT_FSIZE would kill by SIGXFSZ; Python ignores that, and so it is an error like others."""
    workplace.write("app.py", "print('started')")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    one_error(workplace, "run", "app.py", code=1, says="cannot create the recording", preexec_fn=limit)


def test_vanished_folder(workplace: Workplace) -> None:
    gone = workplace.folder / "gone"
    gone.mkdir()
    script = "cd gone && rmdir ../gone && exec " + " ".join(MEMHEFT) + " run -c 'print(1)'"
    result = workplace.command(["sh", "-c", script])
    assert result.code == 1
    assert result.err.count("\n") == 1, result.err


def test_not_a_python_program(workplace: Workplace) -> None:
    one_error(workplace, "run", "ls", code=1, says="is not a Python program")
    one_error(workplace, "run", "/bin/true", code=1, says="/bin/true is a compiled program")
    assert not list(workplace.folder.glob("*.heft"))
    tool = workplace.write("bin/tool", "#!/bin/sh\necho started\n")
    tool.chmod(0o755)
    path = {"PATH": f"{workplace.folder / 'bin'}:{os.environ['PATH']}"}
    one_error(workplace, "run", "tool", code=1, says="is started by /bin/sh", environment=path)


def test_command_of_another_python(workplace: Workplace) -> None:
    other = another_python(workplace.folder / "other")
    for interpreter in (str(other), "/usr/bin/env -S " + str(other)):
        tool = workplace.write("bin/tool", f"#!{interpreter}\nprint('started')\n")
        tool.chmod(0o755)
        path = {"PATH": f"{workplace.folder / 'bin'}:{os.environ['PATH']}"}
        one_error(workplace, "run", "tool", code=1, says=str(other), environment=path)


def another_python(folder: Path) -> Path:
    """Make a virtual environment of our own interpreter, as far as a first line can tell."""
    (folder / "bin").mkdir(parents=True)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (folder / "bin" / "python").symlink_to(os.path.realpath(sys.executable))
    return folder / "bin" / "python"


def test_script_that_names_another_python(workplace: Workplace, tmp_path: Path) -> None:
    """A script may name any Python, and is run by ours with a word; the commands of another are refused."""
    other = another_python(tmp_path / "other")
    run = "import sys\nif __name__ == '__main__':\n"
    command = run + "    sys.argv[0] = sys.argv[0].removesuffix('.exe')\n    sys.exit(print('started'))\n"
    workplace.write("app.py", f"#!{other}\nimport sys\nprint('started')\nsys.argv[0] or sys.exit(1)\n")
    for words in (["app.py"], ["./app.py"], ["-q", str(workplace.folder / "app.py")]):
        result = workplace.memheft("run", *words)
        assert (result.code, result.out) == (0, "started\n")
        first, *rest = result.err.splitlines()
        assert first.startswith("memheft: warning: the first line of ")
        assert f"names {other};" in first
        assert sys.executable in first
        assert (rest == []) == ("-q" in words)
    # a command, by its place, by a link to it, by what installers write
    for path in ("../other/bin/tool", "tool"):
        workplace.write(path, f"#!{other}\n" + (command if path == "tool" else "print('started')\n"))
    (workplace.folder / "link").symlink_to("../other/bin/tool")
    for name in ("../other/bin/tool", "link", "tool", "./tool"):
        one_error(workplace, "run", name, code=1, says=f"{other} -m pip install memheft")
    its_own = workplace.write("../other/bin/memheft", "")
    one_error(
        workplace, "run", "./tool", code=1, says=f"use {its_own.parent.resolve() / 'memheft'} run ./tool"
    )


def test_script_that_names_our_python(workplace: Workplace) -> None:
    """By whatever name; what names none in particular, is not there, or is no Python, does not matter."""
    folder = Path(sys.executable).parent
    version = f"python3.{sys.version_info[1]}"
    workplace.write("python3", "#!/bin/sh\n").chmod(0o755)
    path = {"PATH": f"{workplace.folder}:{os.environ['PATH']}"}
    for interpreter in (
        sys.executable,
        folder / "python3",
        folder / version,
        "/usr/bin/env python3",
        "/usr/bin/env python",
        f"/usr/bin/env {version}",
        "/usr/bin/env -S python3 -u",
        "/nowhere/python3",
        workplace.folder / "python3",
        "/usr/bin/env",
        "/bin/sh",
        "",
    ):
        workplace.write("tool", f"#!{interpreter}\nprint('started')\n")
        result = workplace.memheft("run", "-q", "./tool", environment=path)
        assert (result.code, result.out, result.err) == (0, "started\n", ""), interpreter


def test_bad_settings_are_no_traceback(workplace: Workplace) -> None:
    workplace.write("app.py", "print('started')")
    for name, value in [
        ("MEMHEFT_BOOT", "nonsense"),
        ("MEMHEFT_BOOT", "1|/nowhere.so|/nowhere.heft"),
        ("MEMHEFT_BOOT", "|"),
        ("MEMHEFT_BOOT", "||"),
        ("MEMHEFT_CHECK", "nonsense"),
        ("MEMHEFT_FULL_WALK", "-1"),
        ("MEMHEFT_DEBUG", "x"),
        ("XDG_STATE_HOME", "/proc/nothing"),
        ("HOME", "relative"),
    ]:
        result = workplace.memheft("run", "app.py", environment={name: value})
        assert (result.code, result.out) == (0, "started\n"), (name, result.err)
        assert "Traceback" not in result.err, name
        assert "memheft: app.py exited 0" in result.err, (name, result.err)


def test_debug_shows_the_traceback(workplace: Workplace) -> None:
    result = workplace.memheft("run", "nothing.py", environment={"MEMHEFT_DEBUG": "1"})
    assert result.code == 1
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("memheft: error: cannot find nothing.py")


def test_the_command_line_finds_verbs(workplace: Workplace) -> None:
    assert workplace.memheft("--version").out.startswith("memheft ")
    assert "memheft run app.py" in workplace.memheft("--help").out
    assert workplace.memheft("ru", "-q", "-c", "print(1)").out == "1\n"
    assert workplace.memheft("help", "rep").out.startswith("usage: memheft report")
    for words, says in [
        ([], "no verb"),
        (["r"], "run or report"),
        (["frobnicate"], "no verb"),
        (["--frobnicate"], "unknown option"),
    ]:
        one_error(workplace, *words, code=2, says=says)
    workplace.write("app.py", "")
    one_error(workplace, "app.py", code=2, says="did you mean: memheft run app.py")
    for verb in ("run", "report", "diff", "export", "plot", "info"):
        text = workplace.memheft(verb, "--help").out
        assert "exit code" in text
        assert max(map(len, text.splitlines())) <= 80, verb


def test_version_is_quick_and_imports_little(workplace: Workplace) -> None:
    probe = "import sys; from memheft.cli.main import main; main(['--version']); print(sorted(sys.modules))"
    loaded = workplace.python("-c", probe).out
    for module in ("memheft._engine", "rich", "argparse", "json", "memheft.cli.run"):
        assert f"'{module}'" not in loaded
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        workplace.memheft("--version")
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.1


# -- the summary -----------------------------------------------------------------------------------------


def test_summary(workplace: Workplace) -> None:
    workplace.write(
        "load.py",
        "import json\n\ndef read(n):\n    rows = []\n    for i in range(n):\n"
        "        rows.append({'i': str(i)})\n    return rows\n\nrows = read(20_000)\n"
        "other = json.loads('[' + ','.join(['[1.5, 2.5]'] * 20_000) + ']')\n",
    )
    result = workplace.memheft("run", "load.py", environment={"PATH": "/usr/bin:/bin"})
    lines = result.err.splitlines()
    assert re.fullmatch(r"memheft: load\.py exited 0 after \d+\.\d+ s", lines[0])
    size = r"\d[\d.]* (?:B|KiB|MiB)"
    peak = rf"  peak  {size} at \d+\.\d+ s \(resident {size}\)      left  {size} in [\d.]+ [kM] blocks"
    assert re.fullmatch(peak, lines[1]), lines[1]
    assert lines[2] == "  at the peak"
    row = rf"    +\d[\d.]* %  +{size}  +[\d.]+( [kM])? blocks?  .*"
    rows = lines[3:-1]
    assert all(re.fullmatch(row, line) for line in rows), rows
    assert any(re.search(r"load\.py:6 read  +rows\.append\(\{'i': str\(i\)\}\)$", line) for line in rows)
    assert any(
        re.search(r"json/decoder\.py:\d+ \S*raw_decode  +<- load\.py:10 <module>$", line) for line in rows
    )
    (made,) = workplace.folder.glob("*.heft")
    assert lines[-1] == f"next: {sys.executable} -m memheft report {made.name}"
    assert workplace.memheft("run", "-q", "load.py").err == ""


def test_the_next_command_can_be_typed(workplace: Workplace) -> None:
    """It finds us, not another memheft or python on PATH, and works in the folder of the start."""
    workplace.write("app.py", KEEP)
    folder = Path(sys.executable).parent
    (workplace.folder / "out").mkdir()
    (workplace.folder / "env").symlink_to(folder.parent)
    other = workplace.write("other/memheft", "#!/bin/sh\n").parent
    (other / "python").symlink_to(sys.executable)
    for name in ("memheft", "python"):
        (other / name).chmod(0o755)

    def hint(*words: str, path: Path) -> str:
        environment = {"PATH": f"{path}:/usr/bin:/bin"}
        command = [*words, "run", "-fo", "out/-x y.heft", "app.py"]
        result = workplace.command(command, environment=environment)
        last = result.err.splitlines()[-1]
        assert last.startswith("next: ")
        assert workplace.command(["sh", "-c", last[6:]], environment=environment).code == 0
        return last[6:]

    report = "report 'out/-x y.heft'"
    assert hint("env/bin/python", "-m", "memheft", path=folder) == f"python -m memheft {report}"
    assert hint("env/bin/python", "-m", "memheft", path=other) == f"env/bin/python -m memheft {report}"
    assert hint(sys.executable, "-m", "memheft", path=other) == f"{sys.executable} -m memheft {report}"
    if (folder / "memheft").exists():
        assert hint("memheft", path=folder) == f"memheft {report}"
        assert hint("env/bin/memheft", path=folder) == f"memheft {report}"
        assert hint("env/bin/memheft", path=other) == f"env/bin/memheft {report}"


def test_summary_of_an_import(workplace: Workplace) -> None:
    workplace.write("app.py", "\nimport big\n")
    workplace.write(
        "big.py", "\n".join(f"def f{i}(a, b, c):\n    return [a, {i}.5, 'text {i}']" for i in range(3000))
    )
    lines = workplace.memheft("run", "app.py").err.splitlines()
    assert re.search(r" %  .* app\.py:2 <module>  +import big$", lines[3]), lines
    assert not any("importlib" in line for line in lines)


@pytest.mark.parametrize("columns", [60, 80, 132])
def test_summary_fits_the_terminal(workplace: Workplace, columns: int) -> None:
    from memheft.views.text import width

    name = "データ処理/" + "long_folder_name/" * 4 + "ファイル.py"
    workplace.write(
        name,
        "def 読む():\n    return [bytes(100) for _ in range(20_000)]  # 日本語の注釈\nx = 読む()\n",
    )
    text = on_terminal(workplace, ["run", "-o", "x.heft", name], columns)
    lines = [
        line
        for line in text.replace("\r", "").split("\n")
        if line and not line.startswith(("next:", "memheft:"))
    ]
    assert any("%" in line for line in lines)
    for line in lines:
        if " peak " in line or " left " in line:
            continue
        assert width(line) <= columns, line
    assert ":2 読む" in text


def on_terminal(workplace: Workplace, words: list[str], columns: int, **environment: str) -> str:
    """Run memheft on a terminal of that width; what it wrote."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        [*MEMHEFT, *words],
        cwd=workplace.folder,
        env=workplace.environment | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"} | environment,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    data = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        data += piece
    os.close(master)
    assert process.wait(30) == 0
    return data.decode("utf-8")


def test_check_line(workplace: Workplace) -> None:
    workplace.write("app.py", KEEP)
    result = workplace.memheft("run", "app.py", environment={"MEMHEFT_CHECK": "1"})
    assert re.search(r"^memheft: check: [1-9]\d* stacks compared, 0 mismatches$", result.err, re.M), (
        result.err
    )


def test_deleted_recording(workplace: Workplace) -> None:
    workplace.write("app.py", "import os\nos.unlink('x.heft')\n" + KEEP)
    result = workplace.memheft("run", "-o", "x.heft", "app.py")
    assert result.code == 0
    assert len(result.err.splitlines()) == 1
    assert "was deleted or moved" in result.err


def test_a_recording_whose_name_another_file_has_taken(workplace: Workplace) -> None:
    """The summary is of this program or there is none."""
    other = workplace.record(KEEP)
    text = f"import os, shutil\nshutil.copy({str(other)!r}, 'y')\nos.replace('y', 'x.heft')\n"
    workplace.write("app.py", text + KEEP)
    result = workplace.memheft("run", "-o", "x.heft", "app.py")
    assert result.code == 0
    assert len(result.err.splitlines()) == 1
    assert "another file has taken the recording's place" in result.err
    assert (workplace.folder / "x.heft").read_bytes() == other.read_bytes()


def test_a_start_that_fails_leaves_no_file(workplace: Workplace) -> None:
    workplace.write("app.py", "print('started')")
    code = (
        "import os, sys\n"
        "def execve(*args): raise OSError(7, 'Argument list too long')\n"
        "os.execve = execve\n"
        "from memheft.cli.main import main\n"
        "sys.exit(main(['run', 'app.py']))"
    )
    result = workplace.python("-c", code)
    time.sleep(0.5)  # for a watcher that says more than it should
    assert result.code == 1
    assert re.fullmatch(r"memheft: error: cannot start \S+: Argument list too long\n", result.err)
    assert not list(workplace.folder.glob("*.heft"))


def test_a_killed_program_has_its_summary(workplace: Workplace) -> None:
    workplace.write("app.py", KEEP + "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    result = workplace.memheft("run", "-o", "x.heft", "app.py")
    assert result.code == -signal.SIGKILL
    # The kernel gives the caller its child back at once; the watcher needs a moment more.
    assert "was killed by SIGKILL" in result.err
    assert re.search(r"app\.py:1 <(module|listcomp)>  +keep = \[bytes", result.err)
    info = workplace.memheft("info", "x.heft", "--json").json["recording"]
    assert (info["complete"], info["exit_code"]) == (False, 137)
    says = "complete   no, the program was killed by SIGKILL: the numbers are right up to that moment\n"
    assert says in workplace.memheft("info", "x.heft").out


def test_last_recording(workplace: Workplace, tmp_path: Path) -> None:
    workplace.write("app.py", KEEP)
    other = tmp_path / "elsewhere"
    other.mkdir()
    one_error(workplace, "report", code=1, says="no recording named")
    assert workplace.memheft("run", "-q", "-o", str(other / "x.heft"), "app.py").code == 0
    assert workplace.memheft("report", "--json").json["recording"]["path"] == str(other / "x.heft")
    (other / "x.heft").rename(workplace.folder / "moved.heft")
    assert workplace.memheft("report", "--json").json["recording"]["path"] == str(
        workplace.folder / "moved.heft"
    )


def test_the_last_recording_is_one_of_this_folder(workplace: Workplace, tmp_path: Path) -> None:
    def path(**options: Any) -> str:
        text = workplace.memheft("report", **options)
        assert (text.code, text.err) == (0, "")
        path = str(workplace.memheft("report", "--json", **options).json["recording"]["path"])
        folder = options.get("cwd", workplace.folder)
        assert text.out.splitlines()[1] == "from " + path.removeprefix(f"{folder}/")
        assert workplace.memheft("info", **options).out.startswith(path + ": ")
        return path

    workplace.write("app.py", KEEP)
    here, there = workplace.folder, tmp_path / "elsewhere"
    there.mkdir()
    assert workplace.memheft("run", "-q", "-o", "old.heft", "app.py").code == 0
    assert workplace.memheft("run", "-q", "-o", "new.heft", "app.py").code == 0
    # what was last recorded in another folder is not what is meant here, but where there is no other it is
    assert workplace.memheft("run", "-q", str(here / "app.py"), cwd=there).code == 0
    (made,) = there.iterdir()
    assert path() == str(here / "new.heft")
    assert path(cwd=there) == str(made)
    assert path(cwd=tmp_path) == str(made)
    # what was last recorded from here into another folder is
    assert workplace.memheft("run", "-q", "-o", str(there / "x.heft"), "app.py").code == 0
    assert path() == str(there / "x.heft")
    # one that left no note, made afterwards
    code = "import memheft\nwith memheft.record('api.heft'): kept = bytes(1000)"
    assert workplace.python("-c", code).code == 0
    assert path() == str(here / "api.heft")
    (here / "folder.heft").mkdir()
    assert path() == str(here / "api.heft")
    named = workplace.memheft("report", "old.heft").out
    assert "from " not in named.splitlines()[1]


def test_the_last_recording_is_no_copy_of_an_older_one(workplace: Workplace) -> None:
    """Files are copied and touched; what counts is when the recording was made."""
    none = {"XDG_STATE_HOME": "/proc/none"}
    workplace.write("app.py", KEEP)
    for name in ("m-old.heft", "m-new.heft"):
        assert workplace.memheft("run", "-q", "-o", name, "app.py").code == 0

    def found(**environment: str) -> str:
        result = workplace.memheft("report", "--json", environment=environment)
        return os.path.basename(str(result.json["recording"]["path"]))

    now = time.time()
    for name, old, age in (
        ("m-old.heft", "m-old.heft", -50),
        ("a.heft", "m-new.heft", -100),
        ("z.heft", "m-new.heft", -100),
        ("zz.heft", "m-old.heft", -200),
    ):
        if name != old:
            shutil.copyfile(workplace.folder / old, workplace.folder / name)
        os.utime(workplace.folder / name, (now - age,) * 2)
    assert found() == found(**none) == "m-new.heft"
    same = workplace.memheft("diff", "m-new.heft")
    assert (same.code, "is the last recording itself" in same.err) == (2, True)
    # the program is what was recorded, not the child that it started, and not either of two while they run
    workplace.write(
        "parent.py",
        "import shutil, subprocess, sys, memheft\n"
        "subprocess.run([sys.executable, 'child.py'], check=True)\n"
        "seen = subprocess.run([sys.executable, '-m', 'memheft', 'info'], capture_output=True, text=True)\n"
        "print(seen.stdout.splitlines()[0].split(':')[0])\n",
    )
    workplace.write(
        "child.py", "import memheft\nwith memheft.record('child.heft', force=True): kept = bytes(1000)\n"
    )
    for environment in ({}, none):
        words = ("run", "-q", "-f", "-o", "parent.heft", "parent.py")
        result = workplace.memheft(*words, environment=environment)
        assert (result.code, os.path.basename(result.out)) == (0, "parent.heft\n"), result.err
        assert found(**environment) == "parent.heft"
    # one that is damaged may be it, and that is said
    (workplace.folder / "broken.heft").write_bytes((workplace.folder / "a.heft").read_bytes()[:5000])
    result = workplace.memheft("report", environment=none)
    assert (result.code, "broken.heft: the recording is cut short" in result.err) == (1, True), result.err


def test_a_note_of_the_last_recording_by_an_older_version(workplace: Workplace, tmp_path: Path) -> None:
    path = workplace.record(KEEP)
    state = tmp_path / "state" / "memheft" / "last"
    path.rename(tmp_path / "x.heft")
    for text in (f"{tmp_path}/x.heft\n", f"{tmp_path}/x.heft\0\n", f"{tmp_path}/x.heft\0relative\n"):
        state.write_text(text)
        assert workplace.memheft("report").code == 0
    for text in ("", "\n", "\0\n", "\0/\n", "a\0b\0c\n"):
        state.write_text(text)
        assert workplace.memheft("report").code == 1
