# SPDX-License-Identifier: MIT
"""A Debian unstable root, for the CPythons that this machine does not have.

Made once with debootstrap (root only), kept in the cache, entered by chroot.  Everything that is mounted for
a visit is mounted in a mount namespace of its own: it is gone when the visit ends, however it ends.  The
packages come from the mirror that this machine's own apt uses.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ci import pythons
from ci.pythons import Python
from ci.steps import Done, Step, StepError, clean_env

SUITE = "sid"
BASE_PACKAGES = ("ca-certificates", "gcc", "libc6-dev", "git")
PYTHON_PACKAGES = ("python3.{}-dev", "python3.{}-venv", "libpython3.{}-testsuite")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# $0 root, $1 working directory, $2 folders to bring along (one a line), $3.. the command
ENTER = """
set -e
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
mount --rbind /sys "$0/sys"
printf '%s\\n' "$2" | while read -r folder; do
    mkdir -p "$0$folder"
    mount --bind "$folder" "$0$folder"
done
root=$0 cwd=$1
shift 2
exec chroot "$root" /usr/bin/env -C "$cwd" "$@"
"""


class DebianRoot:
    """The root at `path`; `shared`: folders that it sees at the same place as we do."""

    def __init__(self, path: Path, shared: tuple[Path, ...]) -> None:
        self.path = path
        self.shared = shared

    @staticmethod
    def why_not() -> str | None:
        """Why no root can be made or entered here, None if it can."""
        if os.geteuid() != 0:
            return "not root"
        if shutil.which("unshare") is None or shutil.which("chroot") is None:
            return "no unshare or chroot"
        probe = ["unshare", "--mount", "--propagation", "private", "true"]
        if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
            return "no permission to mount"
        return None

    def enter(self, cwd: str | Path = "/") -> tuple[str, ...]:
        """Words to put before a command so that it runs inside."""
        folders = [folder for folder in (*self.shared, *find_links()) if folder.is_dir()]
        shared = "\n".join(str(folder) for folder in folders)
        namespace = ("unshare", "--mount", "--propagation", "private")
        return (*namespace, "sh", "-c", ENTER, str(self.path), str(cwd), shared)

    def run(
        self,
        step: Step,
        command: Sequence[str],
        *,
        cwd: str | Path = "/",
        check: bool = True,
        timeout: float = 1500,
    ) -> Done:
        """Run a command of a step inside."""
        words = [*self.enter(cwd), *command]
        shown = f"{shlex.join(command)}  # in {self.path}"
        return step.run(words, env=self.env(), check=check, timeout=timeout, shown=shown)

    @staticmethod
    def env(**changes: str) -> dict[str, str]:
        """The environment inside: ours, with Debian's own paths."""
        language = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
        return clean_env(PATH=PATH, DEBIAN_FRONTEND="noninteractive", **language, **changes)

    def prepare(self, step: Step, minors: tuple[int, ...]) -> tuple[dict[int, Python], dict[int, str]]:
        """Make the root if there is none, and get it these Pythons, as far as Debian has them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with lock(self.path.with_name(self.path.name + ".lock")):
            if not self.is_complete():
                self.make(step)
            self.copy_settings()
            return self.get_pythons(step, minors)

    def is_complete(self) -> bool:
        """Whether debootstrap has come to its end here."""
        return (self.path / "usr" / "bin" / "apt-get").exists() and not (self.path / "debootstrap").exists()

    def make(self, step: Step) -> None:
        """Make the root beside its place, then put it there."""
        mirror = debian_mirror()
        if mirror is None:
            raise StepError("this machine's apt names no Debian mirror (MEMHEFT_DEBIAN_MIRROR can)")
        fresh = self.path.with_name(self.path.name + ".new")
        for old in (fresh, self.path):
            if old.exists():
                # a folder that somebody has bound into it would be emptied as well
                if f" {old}/" in read_text(Path("/proc/self/mounts")):
                    raise StepError(f"{old} is incomplete, and something is mounted in it: unmount that")
                step.run(["rm", "-rf", "--one-file-system", old])
        include = f"--include={','.join(BASE_PACKAGES)}"
        step.run(["debootstrap", "--variant=minbase", include, SUITE, fresh, mirror], env=self.env())
        fresh.rename(self.path)

    def copy_settings(self) -> None:
        """Bring along what the network needs: resolver, certificates, the settings of pip and apt."""
        certificates = "/etc/ssl/certs/ca-certificates.crt"
        for name in ("/etc/resolv.conf", "/etc/hosts", certificates, "/etc/pip.conf"):
            copy_into(self.path, Path(name))
        home = Path.home()
        for path in (home / ".config/pip/pip.conf", home / ".pip/pip.conf", home / ".netrc"):
            copy_into(self.path, path)
        for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CONFIG_FILE"):
            if os.environ.get(name):
                copy_into(self.path, Path(os.environ[name]))
        for path in sorted(Path("/etc/apt/apt.conf.d").glob("*")):
            if re.search(r"(?i)^\s*acquire::(https?|check|retries)", read_text(path), re.MULTILINE):
                copy_into(self.path, path)

    def get_pythons(self, step: Step, minors: tuple[int, ...]) -> tuple[dict[int, Python], dict[int, str]]:
        """Install what is missing; say which versions Debian does not have."""
        found: dict[int, Python] = {}
        missing: dict[int, str] = {}
        updated = False
        for minor in minors:
            python = self.python(minor)
            if python is None:
                if not updated:
                    self.run(step, ["apt-get", "-q", "update"])
                    updated = True
                packages = [name.format(minor) for name in PYTHON_PACKAGES]
                install = ["apt-get", "-q", "-y", "--no-install-recommends", "install", *packages]
                self.run(step, install, check=False)
                python = self.python(minor)
            if python is None:
                missing[minor] = f"Debian {SUITE} has none that can be used"
            else:
                found[minor] = python
        return found, missing

    def python(self, minor: int) -> Python | None:
        """The root's CPython 3.<minor>, if it is there and has all that is needed."""
        path = f"/usr/bin/python3.{minor}"
        if not (self.path / path[1:]).exists():
            return None
        answer = pythons.probe(path, self.enter())
        if answer is None or pythons.objection(answer) is not None:
            return None
        return Python(path, str(answer["version"]), minor, self.path)


def debian_mirror() -> str | None:
    """The mirror of Debian's main archive that this machine's apt uses."""
    if os.environ.get("MEMHEFT_DEBIAN_MIRROR"):
        return os.environ["MEMHEFT_DEBIAN_MIRROR"]
    sources = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for path in sources:
        for line in read_text(path).splitlines():
            # "deb [options] URI suite ..." or "URIs: URI ..."; the main archive is the one called /debian
            words = line.split()
            if words and words[0] in ("deb", "URIs:"):
                for word in words[1:]:
                    if re.fullmatch(r"https?://\S+/debian/?", word):
                        return word
    return None


def find_links() -> tuple[Path, ...]:
    """Folders of wheels that pip has been told to look into."""
    words = os.environ.get("PIP_FIND_LINKS", "").split()
    return tuple(Path(word) for word in words if word.startswith("/"))


def copy_into(root: Path, path: Path) -> None:
    """Copy a file to its own place inside a root."""
    if path.is_absolute() and path.is_file():
        target = root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_symlink():
            target.unlink()
        shutil.copyfile(path, target)


def read_text(path: Path) -> str:
    """A settings file's text; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """One at a time on this machine."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
