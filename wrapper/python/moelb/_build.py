"""Builds libmoelb with Go. Also used to build the wheel, so it imports nothing of the package."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import stat
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

NAME = {"darwin": "libmoelb.dylib", "win32": "moelb.dll"}.get(sys.platform, "libmoelb.so")

# The folders of the module that the library is made of.
_SOURCES = ("placement", "eplb", "prefill", "decode", "internal", "wrapper/c")


class BuildError(Exception):
    """Says in one line why there is no library, with Go's own words below."""


def module_root() -> Path | None:
    """The root of the Go module that this file is part of; None = it was installed without."""
    here = Path(__file__).resolve()
    if len(here.parents) < 4:
        return None
    root = here.parents[3]
    return root if (root / "go.mod").is_file() and (root / "wrapper/c/moelb.h").is_file() else None


def fingerprint(root: Path) -> str:
    """Names the content of the sources and the platform, for the cache."""
    h = hashlib.sha256(f"{sys.platform} {platform.machine()} {sys.maxsize}".encode())
    files = [root / "go.mod"]
    for folder in _SOURCES:
        for parent, _, names in os.walk(root / folder):
            files += [Path(parent, n) for n in names if n.endswith((".go", ".h")) and not n.endswith("_test.go")]
    for f in sorted(files):
        content = f.read_bytes()
        h.update(f"\n{f.relative_to(root).as_posix()} {len(content)}\n".encode())
        h.update(content)
    return h.hexdigest()[:24]


def build(root: Path, to: Path) -> None:
    """Builds the library at a path, in one stroke: others see all of it or nothing."""
    go = shutil.which("go")
    if go is None:
        raise BuildError("Go is not installed, which builds moelb's library: install Go 1.26 (https://go.dev/dl), or set MOELB_LIBRARY to a library built elsewhere")
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".build-") as folder:
        made = Path(folder, NAME)
        command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-buildmode=c-shared", "-o", str(made), "./wrapper/c"]
        try:
            done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        except OSError as e:
            raise BuildError(f"Go cannot be run to build moelb's library: {e}") from None
        if done.returncode != 0:
            said = done.stdout.strip()
            hint = " (it needs a C compiler: install gcc)" if "cgo" in said or "gcc" in said or "C compiler" in said else ""
            raise BuildError(f"Go cannot build moelb's library{hint}:\n{said}")
        os.replace(made, to)


def cached(root: Path) -> Path:
    """The library of these sources in the user's cache, built where it is not there yet."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = Path(base, "moelb", fingerprint(root), NAME)
    try:
        private(path.parent.parent)
        private(path.parent)
        if not path.is_file():
            with locked(path.with_name("lock")):
                if not path.is_file():
                    build(root, path)
        if hasattr(os, "getuid"):
            _owned(path)
    except OSError as e:
        raise BuildError(f"moelb's library cannot be kept in {path.parent}: {e}; XDG_CACHE_HOME names another folder") from None
    return path


def private(folder: Path) -> None:
    """Makes a folder that its owner alone can write, or refuses one that others can: what
    is loaded from there runs."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if hasattr(os, "getuid"):
        info = _owned(folder)
        if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            folder.chmod(stat.S_IMODE(info.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))


def _owned(path: Path) -> os.stat_result:
    info = path.stat()
    if info.st_uid != os.getuid():
        raise BuildError(f"{path} belongs to another user (uid {info.st_uid}), whose library is not loaded: XDG_CACHE_HOME names another folder")
    return info


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process holds the lock; it ends with the process that holds it."""
    with open(path, "a", encoding="ascii") as f:
        try:
            import fcntl
        except ImportError:  # elsewhere each builds for itself, in one stroke
            yield
            return
        fcntl.flock(f, fcntl.LOCK_EX)
        yield
