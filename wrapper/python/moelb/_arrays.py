"""Numbers in and out: torch tensors, numpy arrays, nested lists.

Neither torch nor numpy is imported unless the caller has done so.
"""

from __future__ import annotations

import sys
from array import array
from typing import Any, NamedTuple, Sequence

from ._library import FLOAT32, FLOAT64, INT32, INT64


class Numbers(NamedTuple):
    """Numbers in one block of memory, in C order."""

    pointer: int
    type: int
    shape: tuple[int, ...]
    owner: Any  # keeps the memory alive


def kind_of(value: Any) -> "Kind":
    """How a value's numbers are read, and answers of its kind are made."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _Torch()
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
        return _Numpy()
    return _Lists()


def loads(field: str, value: Any, last: int) -> Numbers:
    """Reads [layers, experts] or [windows, layers, experts]; of these the last windows, 0 = all."""
    n = kind_of(value).loads(field, value)
    if len(n.shape) not in (2, 3):
        raise ValueError(f"{field}: {len(n.shape)} dimensions: [layers, experts] or [windows, layers, experts] is needed")
    if 0 in n.shape:
        raise ValueError(f"{field}: {' x '.join(map(str, n.shape))} numbers: at least one layer of one expert is needed")
    if len(n.shape) == 3 and 0 < last < n.shape[0]:
        _, layers, experts = n.shape
        skip = (n.shape[0] - last) * layers * experts * (8 if n.type in (FLOAT64, INT64) else 4)
        n = n._replace(pointer=n.pointer + skip, shape=(last, layers, experts))
    return n


def integers(field: str, value: Any, dimensions: int) -> Numbers:
    """Reads whole numbers as int64."""
    n = kind_of(value).integers(field, value)
    if len(n.shape) != dimensions:
        raise ValueError(f"{field}: {len(n.shape)} dimensions: {dimensions} are needed")
    return n


def vector(field: str, value: Any) -> array[float]:
    """Reads a list of numbers; short, so copied."""
    try:
        return array("d", [float(x) for x in value])
    except TypeError:
        raise TypeError(f"{field}: {type(value).__name__} is not a list of numbers") from None
    except ValueError as e:
        raise ValueError(f"{field}: {e}") from None


def rows(field: str, value: Any) -> list[list[int]]:
    """Whole numbers as nested lists, [layers, n]."""
    n = integers(field, value, 2)
    if 0 in n.shape:
        raise ValueError(f"{field}: {n.shape[0]} x {n.shape[1]} numbers: at least one layer of one slot is needed")
    flat = _flat(n)
    return [flat[i : i + n.shape[1]] for i in range(0, len(flat), n.shape[1])]


def cube(field: str, value: Any) -> list[list[list[float]]]:
    """Numbers as nested lists, [layers, devices, slots]."""
    n = kind_of(value).loads(field, value)
    if len(n.shape) != 3 or 0 in n.shape:
        raise ValueError(f"{field}: {' x '.join(map(str, n.shape))} numbers: [layers, devices, slots] is needed, at least one of each")
    flat, (_, devices, slots) = _flat(n), n.shape
    return [[flat[i + d * slots : i + (d + 1) * slots] for d in range(devices)] for i in range(0, len(flat), devices * slots)]


def windows(field: str, value: Any) -> list[list[list[list[float]]]]:
    """Numbers as nested lists, [windows, layers, devices, slots]; without the first, one window."""
    dimensions, x = 0, value
    while dimensions < 4 and getattr(x, "shape", (1,)) != () and hasattr(x, "__len__") and len(x) > 0:
        dimensions, x = dimensions + 1, x[0]
    return [cube(field, w) for w in value] if dimensions == 4 else [cube(field, value)]


def mirrored(loads: Any) -> tuple[Any, int]:
    """Loads with their last axis reversed, and the largest index along it."""
    if len(getattr(loads, "shape", (1,))) == 0:
        return loads, 0
    if hasattr(loads, "flip"):
        return loads.flip(-1), loads.shape[-1] - 1
    if hasattr(loads, "shape"):
        return loads[..., ::-1], loads.shape[-1] - 1
    first = loads
    while isinstance(first, (list, tuple)) and len(first) > 0 and hasattr(first[0], "__len__"):
        first = first[0]
    return _reversed(loads), len(first) - 1 if hasattr(first, "__len__") else 0


def _reversed(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return value
    if len(value) > 0 and isinstance(value[0], (list, tuple)):
        return [_reversed(x) for x in value]
    return list(value[::-1])


def subtracted(n: int, ids: Any) -> Any:
    """n less each of [layers, slots]."""
    return [[n - e for e in row] for row in ids] if isinstance(ids, list) else n - ids


def without_empty(value: Any) -> Any:
    """Expert 0 for the -1 of empty slots."""
    return value.clip(min=0) if hasattr(value, "clip") else [[max(e, 0) for e in row] for row in value]


def _flat(n: Numbers) -> list[Any]:
    return list((n.owner.reshape(-1) if hasattr(n.owner, "reshape") else n.owner).tolist())


class Kind:
    """What differs between the kinds of arrays."""

    def loads(self, field: str, value: Any) -> Numbers:
        raise NotImplementedError

    def integers(self, field: str, value: Any) -> Numbers:
        raise NotImplementedError

    def empty(self, *shape: int) -> Numbers:
        """Memory for int64 answers."""
        raise NotImplementedError

    def answer(self, n: Numbers) -> Any:
        """What the caller gets of memory from empty."""
        return n.owner


class _Torch(Kind):
    def loads(self, field: str, value: Any) -> Numbers:
        import torch

        kinds = {torch.float64: FLOAT64, torch.float32: FLOAT32, torch.int64: INT64, torch.int32: INT32}
        if value.dtype.is_complex:
            raise TypeError(f"{field}: {value.dtype} is not a type of loads")
        t = value.detach()
        if t.dtype not in kinds:
            t = t.float()
        t = t.cpu().contiguous()
        return Numbers(t.data_ptr(), kinds[t.dtype], tuple(t.shape), t)

    def integers(self, field: str, value: Any) -> Numbers:
        import torch

        if value.dtype.is_floating_point or value.dtype.is_complex:
            raise TypeError(f"{field}: {value.dtype} is not a type of whole numbers")
        t = value.detach().to("cpu", torch.int64).contiguous()
        return Numbers(t.data_ptr(), INT64, tuple(t.shape), t)

    def empty(self, *shape: int) -> Numbers:
        import torch

        t = torch.empty(shape, dtype=torch.int64)
        return Numbers(t.data_ptr(), INT64, shape, t)


class _Numpy(Kind):
    def loads(self, field: str, value: Any) -> Numbers:
        import numpy

        kinds = {"d": FLOAT64, "f": FLOAT32, "q": INT64, "i": INT32}
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{field}: {value.dtype} is not a type of loads")
        char = "q" if value.dtype == numpy.int64 else value.dtype.char
        char = char if char in kinds else "d"
        a = numpy.require(value, char, ["C", "A"])
        return Numbers(a.ctypes.data, kinds[char], a.shape, a)

    def integers(self, field: str, value: Any) -> Numbers:
        import numpy

        if value.dtype.kind not in "iub":
            raise TypeError(f"{field}: {value.dtype} is not a type of whole numbers")
        a = numpy.require(value, numpy.int64, ["C", "A"])
        return Numbers(a.ctypes.data, INT64, a.shape, a)

    def empty(self, *shape: int) -> Numbers:
        import numpy

        a = numpy.empty(shape, dtype=numpy.int64)
        return Numbers(a.ctypes.data, INT64, shape, a)


class _Lists(Kind):
    def loads(self, field: str, value: Any) -> Numbers:
        return _flatten(field, value, "d", FLOAT64)

    def integers(self, field: str, value: Any) -> Numbers:
        return _flatten(field, value, "q", INT64)

    def empty(self, *shape: int) -> Numbers:
        n = 1
        for m in shape:
            n *= m
        a = array("q", bytes(8 * n))
        return Numbers(a.buffer_info()[0], INT64, shape, a)

    def answer(self, n: Numbers) -> Any:
        flat = n.owner.tolist()
        for width in n.shape[:0:-1]:
            flat = [flat[i : i + width] for i in range(0, len(flat), width)]
        return flat


def _sequence(field: str, value: Any) -> Sequence[Any]:
    """A list, or what can be made one."""
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (str, bytes, bytearray, dict, set)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{field}: {type(value).__name__} is not a tensor, an array or nested lists of numbers")
    return list(value)


def _flatten(field: str, value: Any, code: str, kind: int) -> Numbers:
    rows = _sequence(field, value)
    if len(rows) == 0:
        raise ValueError(f"{field}: no layers")
    outer = [len(rows)]
    first = rows[0]
    if not hasattr(first, "__iter__") or isinstance(first, (str, bytes)):
        rows, outer = [rows], []  # one dimension
    else:
        first = _sequence(field, first)
        if len(first) > 0 and hasattr(first[0], "__iter__") and not isinstance(first[0], (str, bytes)):
            rows = [_sequence(field, r) for r in rows]
            for w, r in enumerate(rows):
                if len(r) != len(first):
                    raise ValueError(f"{field}: window {w}: {len(r)} layers, but window 0 has {len(first)}")
            rows, outer = [row for r in rows for row in r], [len(rows), len(first)]
    cells = array(code)
    width = 0
    for i, row in enumerate(rows):
        row = _sequence(f"{field}: layer {i}", row)
        if i == 0:
            width = len(row)
        elif len(row) != width:
            raise ValueError(f"{field}: layer {i}: {len(row)} numbers, but layer 0 has {width}")
        try:
            cells.extend(row if type(row) is list else list(row))
        except (TypeError, OverflowError, ValueError, RuntimeError):
            raise _wrong(field, i, row, code) from None
    if width == 0:
        raise ValueError(f"{field}: layer 0: nothing in it")
    return Numbers(cells.buffer_info()[0], kind, (*outer, width), cells)


def _wrong(field: str, layer: int, row: Sequence[Any], code: str) -> Exception:
    """The exception about the first number of a row that is none."""
    what = "a number" if code == "d" else "a whole number"
    for i, x in enumerate(row):
        try:
            array(code, [x])
        except TypeError:
            return TypeError(f"{field}: layer {layer}, index {i}: {x!r} is not {what}")
        except OverflowError:
            return ValueError(f"{field}: layer {layer}, index {i}: {x!r} is too large")
        except (ValueError, RuntimeError) as e:
            return ValueError(f"{field}: layer {layer}, index {i}: {e}")
    return ValueError(f"{field}: layer {layer}: not {what}s")
