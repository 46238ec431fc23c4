"""MEMHEFT=1 python app.py: recorded without `memheft run` in front."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from conftest import Result, Workplace
from test_launch_fidelity import PROBE

import memheft
from memheft.environment import Settings

pytestmark = pytest.mark.skipif(
    not (Path(sysconfig.get_path("platlib")) / "memheft.pth").exists(),
    reason="memheft is not installed as a package",
)

APP = "import sys\nkept = [bytes(1000) for _ in range(1000)]\nprint('done')\n"
HINT = re.compile(r"memheft: next: \S+( -m memheft)? report (.*)\n")


def run(place: Workplace, settings: str, *words: str, **options: Any) -> Result:
    place.write("app.py", APP)
    environment = {"MEMHEFT": settings} | options.pop("environment", {})
    return place.python(*(words or ("app.py",)), environment=environment, **options)


def recordings(place: Workplace) -> list[str]:
    return sorted(path.name for path in place.folder.glob("*.heft"))


def test_recorded_from_the_first_line_to_the_end(workplace: Workplace) -> None:
    result = run(workplace, "1")
    assert (result.code, result.out) == (0, "done\n")
    hint = HINT.fullmatch(result.err)
    assert hint is not None, result.err
    assert recordings(workplace) == [hint[2]]
    assert re.fullmatch(r"app\.\d+\.heft", hint[2])
    recording = memheft.open(workplace.folder / hint[2])
    assert recording.complete
    second = [row.blocks for row in recording.live if str(row.file).endswith("app.py") and row.line == 2]
    assert 1000 <= sum(second) <= 1005
    info: Any = recording.to_dict()
    assert info["recording"]["exit_code"] == 0
    assert (info["program"]["script"], info["program"]["kind"]) == ("app.py", "script")
    files = {str(row.file) for row in recording.total.by("file")}
    assert not [file for file in files if "/memheft/" in file]
    report = workplace.memheft("report", hint[2], "--live")
    assert report.code == 0, report.err
    assert "kept = [bytes(1000) for _ in range(1000)]" in report.out


def test_the_hint_can_be_typed(workplace: Workplace) -> None:
    result = run(workplace, "path=a b.heft", environment={"PATH": sysconfig.get_path("scripts")})
    assert result.err == "memheft: next: memheft report 'a b.heft'\n"


@pytest.mark.parametrize(
    "settings", ["quiet=1,path=x.heft", "1,path=x.heft,quiet=1", " path=x.heft , quiet=1"]
)
def test_quiet(workplace: Workplace, settings: str) -> None:
    result = run(workplace, settings)
    assert (result.code, result.out, result.err) == (0, "done\n", "")
    assert recordings(workplace) == ["x.heft"]


@pytest.mark.parametrize("settings", ["", "0", " "])
def test_off(workplace: Workplace, settings: str) -> None:
    result = run(workplace, settings)
    assert (result.code, result.out, result.err) == (0, "done\n", "")
    assert recordings(workplace) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("sample=0", "no mean distance of samples"),
        ("1,paht=x", "no setting 'paht'"),
        ("quiet", "quiet needs 0 or 1"),
        ("path=", "path needs a name"),
        ("path={rank}.heft", "no {rank}"),
        ("path=no/such/x.heft", "No such file or directory"),
        ("path=none/", "cannot create none/: No such file or directory"),
        ("path=app.py/", "cannot create app.py/: Not a directory"),
    ],
)
def test_settings_that_make_no_sense(workplace: Workplace, settings: str, said: str) -> None:
    """One line, and the program runs."""
    result = run(workplace, settings)
    assert (result.code, result.out) == (0, "done\n")
    assert result.err.startswith("memheft: not recorded: ")
    assert said in result.err
    assert result.err.count("\n") == 1
    assert recordings(workplace) == []


def test_settings() -> None:
    assert (Settings("1").path, Settings("1").quiet) == ("{script}.{pid}.heft", False)
    assert (Settings("path=x=y.heft,quiet=1").path, Settings("quiet=1").quiet) == ("x=y.heft", True)
    assert not Settings("quiet=0").quiet


@pytest.mark.parametrize("flag", ["-E", "-I", "-S"])
def test_an_interpreter_that_ignores_the_environment(workplace: Workplace, flag: str) -> None:
    result = run(workplace, "1", flag, "app.py")
    assert (result.code, result.out, result.err) == (0, "done\n", "")
    assert recordings(workplace) == []


def test_only_memhefts_own_folder(workplace: Workplace) -> None:
    """A package of our name elsewhere on the path is not imported."""
    workplace.write("other/memheft/__init__.py", "print('wrong')")
    workplace.write("other/memheft/environment.py", "print('wrong')")
    result = run(workplace, "quiet=1", environment={"PYTHONPATH": str(workplace.folder / "other")})
    assert (result.code, result.out, result.err) == (0, "done\n", "")
    assert len(recordings(workplace)) == 1


def test_the_program_finds_what_it_would_find(workplace: Workplace) -> None:
    workplace.write("probe.py", PROBE)
    bare = workplace.python("probe.py").json
    recorded = workplace.python("probe.py", environment={"MEMHEFT": "quiet=1"}).json
    assert ["MEMHEFT", "quiet=1"] in recorded["environ"]
    recorded["environ"].remove(["MEMHEFT", "quiet=1"])
    recorded["fds"] = [fd for fd in recorded["fds"] if int(fd[0]) < 900]  # ours are out of the way
    for key in bare:
        assert recorded[key] == bare[key], key
    assert len(recordings(workplace)) == 1


def test_children_record_themselves(workplace: Workplace) -> None:
    workplace.write(
        "app.py",
        "import json, os, subprocess, sys\n"
        "both = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT}\n"
        "done = subprocess.run([sys.executable, 'child.py'], check=True, **both)\n"
        "assert json.loads(done.stdout) == {}\n"
        "pid = os.fork()\nif pid == 0: os._exit(0)\nos.waitpid(pid, 0)\n",
    )
    workplace.write("child.py", "kept = [bytes(1000) for _ in range(1000)]\nprint('{}')\n")
    result = workplace.python("app.py", environment={"MEMHEFT": "1"})
    assert result.code == 0
    names = recordings(workplace)
    assert [name.partition(".")[0] for name in names] == ["app", "child"]
    hint = HINT.fullmatch(result.err)  # one line, the program's own
    assert hint is not None, result.err
    assert hint[2] == names[0]
    result = workplace.python("app.py", environment={"MEMHEFT": "path=x.heft,quiet=1"})
    assert (result.code, result.err) == (0, "")
    more = [name for name in recordings(workplace) if name not in names]
    assert len(more) == 2
    assert "x.heft" in more
    for name in names + more:
        assert memheft.open(workplace.folder / name).complete


@pytest.mark.parametrize("way", ["MEMHEFT", "run"])
@pytest.mark.parametrize("state", ["", "/proc/none"])
@pytest.mark.parametrize("limit", ["", "ulimit -Sn 200; "])
def test_what_a_child_prints_is_its_own(workplace: Workplace, way: str, state: str, limit: str) -> None:
    """A program that reads its children's stderr finds there what it would find, also without a note."""
    workplace.write("child.py", "import sys; print('{}'); print('mine', file=sys.stderr)")
    workplace.write(
        "parent.py",
        "import os, subprocess, sys\n"
        "files = [open(os.devnull) for _ in range(150)]\n"
        "words = ['sh', '-c', f'{sys.executable} child.py; true']\n"
        "done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)\n"
        "print(sorted(done.stdout.splitlines()))\n",
    )
    start = "parent.py" if way == "MEMHEFT" else "-m memheft run -q -o parent.heft parent.py"
    settings = {"MEMHEFT": "1"} | ({"XDG_STATE_HOME": state, "HOME": "/dev/null"} if state else {})
    command = ["sh", "-c", f"{limit}exec {sys.executable} {start}"]
    result = workplace.command(command, environment=settings)
    assert (result.code, result.out) == (0, "['mine', '{}']\n"), result.err
    assert len(HINT.findall(result.err)) == (way == "MEMHEFT")
    assert [name.partition(".")[0] for name in recordings(workplace)] == ["child", "parent"]


def test_the_hint_under_a_program_that_is_not_recorded_any_more(workplace: Workplace) -> None:
    """One that keeps what it has recorded, and runs others afterwards."""
    workplace.write("app.py", APP)
    code = (
        "import memheft, os, subprocess, sys\n"
        "with memheft.record() as kept: pass\n"
        "with memheft.record('kept.heft') as saved: pass\n"
        "print(len(kept.total), len(saved.total) >= 0)\n"
        "subprocess.run([sys.executable, 'app.py'], check=True, env=os.environ | {'MEMHEFT': '1'})\n"
    )
    result = workplace.python("-c", code)
    assert result.code == 0, result.err
    assert HINT.fullmatch(result.err), result.err


def test_the_last_recording(workplace: Workplace, tmp_path: Path) -> None:
    """The program's, not that of a child; also where a name is no text, and where no note can be left."""

    def last(**environment: str) -> str:
        found = workplace.memheft("report", "--json", environment=environment)
        assert found.code == 0, found.err
        return str(found.json["recording"]["path"])

    other = tmp_path / os.fsdecode(b"else\xffwhere")
    other.mkdir()
    settings = f"path={other}/{{script}}.heft"
    workplace.write("child.py", APP)
    parent = (
        "import subprocess, sys\n"
        "subprocess.run(['sh', '-c', f'{sys.executable} child.py; true'], check=True)\n"
    )
    workplace.write("parent.py", parent)
    assert workplace.memheft("report").code == 1
    assert run(workplace, settings, "parent.py").code == 0
    assert sorted(path.name for path in other.iterdir()) == ["child.heft", "parent.heft"]
    assert last() == str(other / "parent.heft")
    assert run(workplace, settings + ",quiet=1").code == 0
    assert last() == str(other / "parent.heft")
    assert run(workplace, settings + "2").code == 0
    assert last() == str(other / "app.heft2")
    # a program that memheft run records is what was recorded last, whatever it starts
    words = ("run", "-q", "-o", str(other / "run.heft"), "parent.py")
    assert workplace.memheft(*words, environment={"MEMHEFT": settings + "3"}).code == 0
    assert (other / "child.heft3").exists()
    assert last() == str(other / "run.heft")
    for state in ("/proc/none", "/dev/null", "relative"):
        none = {"XDG_STATE_HOME": state, "HOME": "/dev/null"}
        result = run(workplace, f"path={other}/{state.strip('/').replace('/', '-')}.heft", environment=none)
        assert (result.code, result.out, result.err.count("\n")) == (0, "done\n", 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what is another user's")
def test_a_home_of_another_user(workplace: Workplace, tmp_path: Path) -> None:
    """What sudo would leave there, its owner could not change any more."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 12345, 12345)
    assert run(workplace, "1", environment={"XDG_STATE_HOME": "", "HOME": str(home)}).code == 0
    assert list(home.iterdir()) == []
    os.chown(home, 0, 0)
    assert run(workplace, "1", environment={"XDG_STATE_HOME": "", "HOME": str(home)}).code == 0
    assert (home / ".local/state/memheft/last").exists()


def test_a_program_that_replaces_itself(workplace: Workplace) -> None:
    workplace.write(
        "app.py",
        "import os, sys\n"
        "if len(sys.argv) < 2: os.execv(sys.executable, [sys.executable, 'app.py', 'again'])\n",
    )
    result = workplace.python("app.py", environment={"MEMHEFT": "1"})
    assert result.code == 0, result.err
    one, two = recordings(workplace)
    assert re.fullmatch(r"app\.(\d+)-2\.heft", one)
    assert re.fullmatch(r"app\.(\d+)\.heft", two)
    assert memheft.open(workplace.folder / one).complete


@pytest.mark.parametrize(
    ("words", "start"),
    [(("-m", "app"), "app."), (("-c", "print('done')"), "command."), (("-Xdev", "-u", "./app.py"), "app.")],
)
def test_kinds_of_programs(workplace: Workplace, words: tuple[str, ...], start: str) -> None:
    result = run(workplace, "quiet=1", *words)
    assert (result.code, result.out, result.err) == (0, "done\n", "")
    (name,) = recordings(workplace)
    assert name.startswith(start)
    info: Any = memheft.open(workplace.folder / name).to_dict()
    assert info["recording"]["command"][1:] == list(words)


def test_under_memheft_itself(workplace: Workplace) -> None:
    """`memheft run` records, and only the program; the other verbs are not recorded."""
    workplace.write("app.py", APP)
    environment = {"MEMHEFT": "1"}
    result = workplace.memheft("run", "-q", "-o", "x.heft", "app.py", environment=environment)
    assert (result.code, result.out, result.err) == (0, "done\n", "")
    result = workplace.memheft("report", "x.heft", environment=environment)
    assert (result.code, result.err) == (0, "")
    command = os.path.join(sysconfig.get_path("scripts"), "memheft")
    assert workplace.command([command, "info", "x.heft"], environment=environment).err == ""
    assert recordings(workplace) == ["x.heft"]


def test_with_the_api_inside(workplace: Workplace) -> None:
    code = "import memheft\ntry:\n  memheft.record().start()\nexcept memheft.RecordingError as e: print(e)"
    result = run(workplace, "quiet=1", "-c", code)
    assert result.code == 0, result.err
    assert "one at a time" in result.out
    assert len(recordings(workplace)) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(3)", 3),
        ("1 / 0", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
    ],
)
def test_ends(workplace: Workplace, code: str, status: int) -> None:
    result = run(workplace, "1", "-c", code)
    assert result.code == status
    assert HINT.search(result.err)
    (name,) = recordings(workplace)
    recording = memheft.open(workplace.folder / name)
    assert recording.complete
    assert recording.to_dict()["recording"]["exit_code"] == (status if status >= 0 else 128 - status)  # type: ignore[index]


def test_a_stderr_that_is_another_one_is_left_alone(workplace: Workplace) -> None:
    code = (
        "import os, signal\nfd = os.open('log', os.O_CREAT | os.O_WRONLY)\nos.dup2(fd, 2)\n"
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)"
    )
    result = run(workplace, "1", "-c", code)
    assert (result.code, result.err) == (0, "")
    assert (workplace.folder / "log").read_text() == ""


def test_a_reader_of_stderr_that_has_left(workplace: Workplace) -> None:
    workplace.write(
        "app.py", "import signal, sys\nsignal.signal(signal.SIGPIPE, signal.SIG_DFL)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=workplace.folder,
        env=workplace.environment | {"MEMHEFT": "1"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        assert program.stderr is not None
        assert program.stdin is not None
        program.stderr.close()
        program.stdin.close()
        assert program.wait(30) == 0
