"""Finds and loads libmoelb, and speaks its C interface (moelb.h)."""

from __future__ import annotations

import ctypes
import os
import threading
from ctypes import POINTER, Structure, byref, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

from . import _build

OK, SHAPE, VALUE, FIT, HANDLE, INTERNAL, ROOM = range(7)
FLOAT64, FLOAT32, INT64, INT32 = range(4)


class Problem(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("loads", c_void_p),
        ("windows", c_int64),
        ("layers", c_int64),
        ("experts", c_int64),
        ("loads_type", c_int32),
        ("policy", c_int32),
        ("locality", c_int32),
        ("dispatch", c_int32),
        ("num_replicas", c_int64),
        ("num_groups", c_int64),
        ("num_nodes", c_int64),
        ("num_gpus", c_int64),
        ("off_node_replicas", c_int64),
        ("two_nodes", c_int64),
        ("gpu_speed", c_void_p),
        ("previous", c_void_p),
        ("previous_slots", c_int64),
        ("previous_gpus", c_int64),
        ("target", c_double),
        ("max_moves", c_int64),
        ("restarts", c_int64),
        ("tolerance", c_double),
        ("timeout_seconds", c_double),
        ("workers", c_int64),
        ("gpus_per_node", c_void_p),
        ("nodes", c_int64),
        ("domain_gpus", c_void_p),
        ("domains", c_int64),
        ("two_domains", c_int64),
        ("everywhere", c_void_p),
        ("everywhere_experts", c_int64),
    ]


class Result(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("physical_to_logical", c_void_p),
        ("replica_rank", c_void_p),
        ("logical_count", c_void_p),
        ("gpu_slots", c_void_p),
        ("imbalance", c_void_p),
        ("lower_bound", c_void_p),
        ("moves", c_void_p),
        ("status", c_void_p),
        ("max_replicas", c_int64),
    ]


class Placement(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("layers", c_int64),
        ("experts", c_int64),
        ("slots", c_int64),
        ("num_gpus", c_int64),
        ("physical_to_logical", c_void_p),
        ("gpu_slots", c_void_p),
        ("gpu_speed", c_void_p),
    ]


_MESSAGE = (c_char_p, c_size_t)
_FUNCTIONS = {
    "moelb_plan": (POINTER(Problem), POINTER(Result)),
    "moelb_logical_to_physical": (c_int64, c_int64, c_int64, c_void_p, c_void_p, c_int64, c_void_p),
    "moelb_splitter_open": (POINTER(Placement), POINTER(c_uint64)),
    "moelb_split": (c_uint64, c_int64, c_int64, c_void_p, c_void_p, c_void_p),
    "moelb_splitter_close": (c_uint64,),
    "moelb_session_open": (c_int32, POINTER(c_uint64)),
    "moelb_session_line": (c_uint64, c_char_p, c_size_t, c_char_p, c_size_t, POINTER(c_size_t)),
    "moelb_session_reply": (c_uint64, c_char_p, c_size_t, POINTER(c_size_t)),
    "moelb_session_close": (c_uint64,),
}

_lock = threading.Lock()
_found: Path | None = None
_loaded: ctypes.CDLL | None = None
_forked = False


def find() -> Path:
    """The library's file, built where need be. ImportError says why there is none."""
    global _found
    with _lock:
        if _found is None:
            given = os.environ.get("MOELB_LIBRARY")
            beside = Path(__file__).with_name(_build.NAME)
            if given:
                _found = Path(given)
                if not _found.is_file():
                    _found = None
                    raise ImportError(f"MOELB_LIBRARY: {given} is not a file")
            elif beside.is_file():
                _found = beside
            else:
                root = _build.module_root()
                if root is None:
                    raise ImportError(f"{beside} is missing: moelb was installed without its library")
                try:
                    _found = _build.cached(root)
                except _build.BuildError as e:
                    raise ImportError(str(e)) from None
        return _found


def _after_fork() -> None:
    global _forked, _lock
    _forked = _loaded is not None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _load() -> ctypes.CDLL:
    """Loads the library at the first call, not before: its threads do not survive a fork."""
    global _loaded
    path = find()
    with _lock:
        if _loaded is None:
            library = ctypes.CDLL(str(path))
            for name, arguments in _FUNCTIONS.items():
                function = getattr(library, name)
                function.restype = c_int
                function.argtypes = arguments + _MESSAGE
            _loaded = library
        return _loaded


def call(name: str, *arguments: Any) -> int:
    """Calls a function and turns its code into an exception with its message, but for
    OK and ROOM, which it returns."""
    if _forked:
        raise RuntimeError("this process was forked from one that had called moelb: start workers before the first call, or with spawn")
    message = ctypes.create_string_buffer(1024)
    code = getattr(_loaded or _load(), name)(*arguments, message, len(message))
    if code not in (OK, ROOM):
        text = message.value.decode("utf-8", "replace")
        raise RuntimeError(text) if code == INTERNAL else ValueError(text)
    return int(code)


def close(name: str, handle: int) -> None:
    """Releases a handle with the function of that name."""
    try:
        call(name, handle)
    except RuntimeError:
        pass  # in a forked process: the handle is not this one's


def new(kind: type[Structure], **fields: Any) -> Any:
    return kind(size=ctypes.sizeof(kind), **fields)


__all__ = ["FLOAT32", "FLOAT64", "INT32", "INT64", "ROOM", "Placement", "Problem", "Result", "byref", "call", "close", "find", "new"]
