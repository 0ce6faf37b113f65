"""Sessions of the prefill and decode balancers: which rank takes which request."""

from __future__ import annotations

import json
import operator
import threading
import weakref
from ctypes import byref, c_size_t, c_uint64, create_string_buffer, string_at
from numbers import Real
from typing import Any, Iterable, Mapping, Sequence, TypedDict, TypeVar

from ._library import ROOM, call, close

_PREFILL, _DECODE = 0, 1
_S = TypeVar("_S", bound="_Session")


class Chunk(TypedDict):
    """What a rank computes of a prompt in one step."""

    id: str
    rank: int
    tokens: int
    last: bool  #: the prompt ends with it, and the session has forgotten the request
    half: int  #: the micro-batch, 0 or 1, that should compute it


#: A running request that changes its rank: {"id", "from", "to"}.
Move = TypedDict("Move", {"id": str, "from": int, "to": int})


class Lost(TypedDict, total=False):
    """A request whose rank died, to place again; without output where it is unknown."""

    id: str
    kv: int
    output: int


def _plain(value: Any) -> Any:
    """What JSON has for a number or an array of another kind, such as numpy's."""
    if hasattr(value, "tolist"):
        return value.tolist()
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{value!r} is not a number, a string, a list or a dictionary") from None


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode

# What a field may be, where it is no number.
_TYPES: Mapping[str, Any] = {"op": str, "id": str, "leader": str, "prefix": str, "cached": (Real, Sequence), "kv_capacity": (Real, Sequence), "max_kv": (Real, Sequence), "speed": (Real, Sequence), "tokens": (Real, dict), "among": Sequence, "keep_kv": bool, "waiting": bool, "cost": dict, "requests": list, "state": dict}


def _fits(value: Any, types: Any) -> bool:
    """Whether a value is of a field's types; a bool is not a number."""
    return isinstance(value, types) and (types is bool or not isinstance(value, bool))


class _Session:
    """What the sessions of both balancers share. Threads may share one: their calls
    wait for each other."""

    def __init__(self, kind: int) -> None:
        handle = c_uint64()
        call("moelb_session_open", kind, byref(handle))
        self._handle = handle.value
        self._finish = weakref.finalize(self, close, "moelb_session_close", self._handle)
        self._lock = threading.Lock()
        self._reply = create_string_buffer(1 << 12)

    def send(self, op: str, **fields: Any) -> Any:
        """Sends any line of the session and returns its reply, as the command's
        ``moelb prefill`` and ``moelb decode`` have them. A field that is None is left
        out. Where a line fails, nothing has changed."""
        line = {"op": op}
        line.update((name, value) for name, value in fields.items() if value is not None)
        sent = _encode(line).encode()
        length = c_size_t()
        with self._lock:
            try:
                code = call("moelb_session_line", self._handle, sent, len(sent), self._reply, len(self._reply), byref(length))
            except ValueError as e:
                field = str(e).partition(":")[0]
                if field in line and not _fits(line[field], _TYPES.get(field, Real)):
                    raise TypeError(str(e)) from None
                raise
            if code == ROOM:  # it is done, and its reply still there
                self._reply = create_string_buffer(2 * length.value)
                call("moelb_session_reply", self._handle, self._reply, len(self._reply), byref(length))
            reply = string_at(self._reply, length.value)
        return json.loads(reply)

    def done(self, id: str) -> None:
        """Releases a request that has ended or was cancelled."""
        self.send("done", id=id)

    def drain(self, rank: int) -> None:
        """Places nothing more on a rank; what it has stays."""
        self.send("drain", rank=rank)

    def restore(self, rank: int) -> None:
        """Takes a rank into service again."""
        self.send("restore", rank=rank)

    def stats(self) -> dict[str, Any]:
        """The ledger of every rank, and how uneven they are (max/mean; 1 is even)."""
        return dict(self.send("stats"))

    def close(self) -> None:
        """Releases the session's memory; otherwise that happens with the object's own."""
        self._finish()

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PrefillSession(_Session):
    """Decides which rank of a prefill unit computes which prompt, and how much of it
    in each lockstep step, so that attention and tokens are even over the ranks.

    Use ``add`` where the engine forms its own steps, or ``enqueue`` and ``step``:

        >>> with PrefillSession(ranks=2, max_tokens=4096) as unit:
        ...     unit.enqueue("long", tokens=6000)
        ...     unit.enqueue("short", tokens=500, cached=100)
        ...     for chunk in unit.step():
        ...         print(chunk["id"], chunk["rank"], chunk["tokens"], chunk["last"])
        long 0 400 False
        short 1 400 True

    Parameters:
        ranks: data-parallel ranks.
        max_tokens: new tokens that a rank takes in one step; 0 = no limit.
        max_kv: tokens of the prompts that a rank holds, each in full, one number or one
            a rank; 0 = no limit.
        patience: seconds that others may overtake a prompt; negative = none, None = 20.
        cost: seconds per query-key "pair", new "token" and "step" (and "prefix": a
            token of the prefix that a chunk sees); None = DeepSeek-V3 on H800.
        speed: how fast each rank is, relative to cost, one number or one a rank.
        keep_kv: a prompt whose last chunk is computed holds its KV until ``done``.
    """

    def __init__(
        self,
        ranks: int,
        *,
        max_tokens: int = 0,
        max_kv: int | Sequence[int] = 0,
        patience: float | None = None,
        cost: Mapping[str, float] | None = None,
        speed: float | Sequence[float] | None = None,
        keep_kv: bool | None = None,
    ) -> None:
        super().__init__(_PREFILL)
        self.send("config", ranks=ranks, max_tokens=max_tokens, max_kv=max_kv, patience=patience, cost=None if cost is None else dict(cost), speed=speed, keep_kv=keep_kv)

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "PrefillSession":
        """A session that decides exactly as the one whose snapshot state is."""
        self = cls.__new__(cls)
        _Session.__init__(self, _PREFILL)
        self.send("load", state=dict(state))
        return self

    def add(self, id: str, tokens: int, cached: int | Sequence[int] = 0, *, among: Sequence[int] | None = None, rank: int | None = None) -> int:
        """Places a prompt now and returns its rank; -1 = it fits nowhere now. cached
        are the tokens of its prefix that need no work: a number, or one a rank. Only
        the ranks among may take it; rank is where it is already."""
        return int(self.send("add", id=id, tokens=tokens, cached=cached, among=among, rank=rank)["rank"])

    def quote(self, id: str, tokens: int, cached: int | Sequence[int] = 0, *, among: Sequence[int] | None = None) -> dict[str, Any]:
        """What ``add`` would answer, and by how many "seconds" that would lengthen what
        the unit has to do until it is computed; nothing is placed."""
        return dict(self.send("quote", id=id, tokens=tokens, cached=cached, among=among))

    def enqueue(self, id: str, tokens: int, cached: int | Sequence[int] = 0, *, leader: str | None = None, shared: int | None = None, among: Sequence[int] | None = None) -> None:
        """Leaves a prompt to the next steps. Once the prompt leader has been computed,
        the first shared tokens of this one are cached too: it waits for that."""
        self.send("enqueue", id=id, tokens=tokens, cached=cached, leader=leader, shared=shared, among=among)

    def cancel(self, id: str) -> None:
        """Takes a prompt off whose client went away, or that the engine evicted."""
        self.send("cancel", id=id)

    def move(self, id: str, to: int) -> None:
        """Says that the engine has moved a prompt to another rank."""
        self.send("move", id=id, to=to)

    def sync(self, rank: int, requests: Iterable[Mapping[str, str | int]]) -> dict[str, list[str]]:
        """Takes over what the engine says that a rank has, each {"id", "tokens",
        "computed"}, and returns what was "entered", "gone" and "moved"."""
        return dict(self.send("sync", rank=rank, requests=[dict(r) for r in requests]))

    def dead(self, rank: int) -> list[dict[str, Any]]:
        """Says that a rank is gone, and returns what it held: what is "queued" comes in
        the next steps again, the rest is to be added again."""
        return list(self.send("dead", rank=rank)["requests"])

    def resize(self, ranks: int) -> None:
        """Changes the number of ranks; those taken away must be empty."""
        self.send("resize", ranks=ranks)

    def snapshot(self) -> dict[str, Any]:
        """The whole state, of which load makes a session; it is plain JSON."""
        return dict(self.send("snapshot")["state"])

    def set_cached(self, id: str, cached: int, rank: int | None = None) -> None:
        """Says that the cached prefix of a queued prompt has changed: on one rank
        where caches are local, else everywhere."""
        self.send("cached", id=id, cached=cached, rank=rank)

    def step(self) -> list[Chunk]:
        """Forms the next step of all ranks; nothing = no prompt waits."""
        return list(self.send("step")["chunks"])


class DecodeSession(_Session):
    """Decides which rank of a decode unit a request joins after prefill, so that KV
    cache and request count are even over the ranks for its whole life.

        >>> with DecodeSession(ranks=2, kv_capacity=550_000) as unit:
        ...     print(unit.add("a", kv=5000), unit.add("b", kv=300), unit.add("c", kv=700))
        ...     unit.step()  # every request grew by a token
        ...     unit.done("b")
        ...     print(unit.stats()["imbalance"]["requests"])
        0 1 1
        1

    Parameters:
        ranks: data-parallel ranks.
        kv_capacity: tokens of KV cache that a rank holds, one number or one a rank; 0 =
            no limit.
        max_requests: requests that a rank runs at once; 0 = no limit.
        cost: seconds per token of "kv", "request" and "step"; None = DeepSeek-V3 on H800.
        output: tokens that a request is expected to generate that does not say;
            None = what those that finished did. Those outweigh it gradually.
        link: tokens of KV cache a second that move between ranks; None = 700,000.
        speed: how fast each rank is, relative to cost, one number or one a rank.
    """

    def __init__(
        self,
        ranks: int,
        *,
        kv_capacity: int | Sequence[int] = 0,
        max_requests: int = 0,
        cost: Mapping[str, float] | None = None,
        output: int | None = None,
        link: float | None = None,
        speed: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(_DECODE)
        self.send("config", ranks=ranks, kv_capacity=kv_capacity, max_requests=max_requests, cost=None if cost is None else dict(cost), output=output, link=link, speed=speed)

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> "DecodeSession":
        """A session that decides exactly as the one whose snapshot state is."""
        self = cls.__new__(cls)
        _Session.__init__(self, _DECODE)
        self.send("load", state=dict(state))
        return self

    def add(
        self,
        id: str,
        kv: int,
        output: int | None = None,
        width: int | None = None,
        *,
        generated: int | None = None,
        prefix: str | None = None,
        shared: int | None = None,
        waiting: bool | None = None,
        among: Sequence[int] | None = None,
        rank: int | None = None,
    ) -> int:
        """Places a request of kv tokens now and returns its rank; -1 = it fits nowhere
        now. output are the tokens it is expected to generate, generated those it had
        generated before it was evicted or lost, width those that it verifies in a step.
        The first shared tokens are held once for all requests of a prefix on a rank. One
        that is waiting takes room, but runs only from ``start`` on. Only the ranks among
        may take it; rank is where it is already."""
        return int(self.send("add", id=id, kv=kv, output=output, width=width, generated=generated, prefix=prefix, shared=shared, waiting=waiting, among=among, rank=rank)["rank"])

    def quote(self, id: str, kv: int, output: int | None = None, **fields: Any) -> dict[str, Any]:
        """What ``add`` with these fields would answer, and by how many "seconds" that
        would lengthen what the unit has to do; nothing is placed."""
        return dict(self.send("quote", id=id, kv=kv, output=output, **fields))

    def start(self, id: str) -> None:
        """Says that the KV cache of a waiting request has come: it runs from now on."""
        self.send("start", id=id)

    def cancel(self, id: str) -> None:
        """Takes a request off whose client went away, or that the engine evicted."""
        self.send("cancel", id=id)

    def move(self, id: str, to: int) -> None:
        """Says that the engine has moved a request to another rank."""
        self.send("move", id=id, to=to)

    def sync(self, rank: int, requests: Iterable[Mapping[str, str | int]]) -> dict[str, list[str]]:
        """Takes over what the engine says that runs on a rank, each {"id", "kv"}, and
        returns what was "entered", "gone" and "moved"."""
        return dict(self.send("sync", rank=rank, requests=[dict(r) for r in requests]))

    def batch(self, requests: Iterable[Mapping[str, str | int]]) -> list[int]:
        """Places several requests jointly, each {"id", "kv"} and perhaps "output" and
        "width", and returns their ranks in the same order."""
        return [a["rank"] for a in self.send("batch", requests=[dict(r) for r in requests])["assignments"]]

    def step(self) -> None:
        """Says that the unit made a step: every request grew by its width."""
        self.send("step")

    def grow(self, id: str | Mapping[str, int], tokens: int | None = None) -> None:
        """Says that one request grew by so many tokens beyond what step counts, or many
        at once, by their ids; a negative number shrinks it."""
        if tokens is None and not isinstance(id, str):
            self.send("grow", tokens=dict(id))
        else:
            self.send("grow", id=id, tokens=tokens)

    def rebalance(self, max_moves: int) -> list[Move]:
        """Moves up to max_moves running requests, off ranks that hold more than their
        capacity first and then where that pays; they are applied. Whom to evict where
        moves can't help is in the reply of ``send("rebalance", max_moves=n)``."""
        return list(self.send("rebalance", max_moves=max_moves)["moves"])

    def dead(self, rank: int) -> list[Lost]:
        """Takes a rank out of service and returns what ran there, to place again."""
        return list(self.send("dead", rank=rank)["requests"])

    def resize(self, ranks: int) -> None:
        """Changes the number of ranks; those taken away must be empty."""
        self.send("resize", ranks=ranks)

    def snapshot(self) -> dict[str, Any]:
        """The whole state, of which load makes a session; it is plain JSON."""
        return dict(self.send("snapshot")["state"])
