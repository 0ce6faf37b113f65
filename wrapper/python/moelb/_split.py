"""Splitting a batch's tokens among the replicas of a placement."""

from __future__ import annotations

import weakref
from array import array
from ctypes import c_uint64
from typing import Any, Sequence

from . import _arrays
from ._experts import _whole
from ._library import Placement, byref, call, close, new


class Splitter:
    """Splits each batch's tokens among the replicas of a fixed placement such that the
    load of the fullest GPU is least. It is made once a placement. Threads may share
    it: their calls wait for each other.

    Parameters:
        physical_to_logical_map: [layers, slots], -1 = the slot is empty.
        num_gpus: GPUs in all.
        gpu_speed: [num_gpus] relative speeds; 0 = out of service.
        gpu_slots: [num_gpus] slots of each GPU; None = as a plan shares them.
    """

    def __init__(self, physical_to_logical_map: Any, num_gpus: int, *, gpu_speed: Sequence[float] | None = None, gpu_slots: Sequence[int] | None = None) -> None:
        m = _arrays.integers("physical_to_logical_map", physical_to_logical_map, 2)
        gpus = _whole("num_gpus", num_gpus, 1)
        if 0 in m.shape:
            raise ValueError("physical_to_logical_map: no slots")
        self._layers, self._slots = m.shape
        self._experts = int(m.owner.max() if hasattr(m.owner, "max") else max(m.owner)) + 1  # each has a replica
        p = new(Placement, layers=self._layers, experts=self._experts, slots=self._slots, num_gpus=gpus, physical_to_logical=m.pointer)
        speed, each = None, None
        if gpu_speed is not None:
            speed = _arrays.vector("gpu_speed", gpu_speed)
            if len(speed) != gpus:
                raise ValueError(f"gpu_speed: {len(speed)} speeds for {gpus} GPUs")
            p.gpu_speed = speed.buffer_info()[0]
        if gpu_slots is not None:
            each = _arrays.integers("gpu_slots", gpu_slots, 1)
            if each.shape[0] != gpus:
                raise ValueError(f"gpu_slots: {each.shape[0]} entries for {gpus} GPUs")
            p.gpu_slots = each.pointer
        handle = c_uint64()
        call("moelb_splitter_open", byref(p), byref(handle))
        self._handle = handle.value
        self._finish = weakref.finalize(self, close, "moelb_splitter_close", self._handle)

    def split(self, counts: Any, first_layer: int = 0) -> tuple[Any, list[float]]:
        """Splits a batch.

        Parameters:
            counts: [layers, experts], the tokens of each expert: whole numbers >= 0. It
                may hold some of the layers only, from first_layer on.

        Returns:
            quota: [layers, slots], int64, of the kind of counts: the tokens of each slot.
                An expert's quotas add up to its count.
            imbalance: of each layer, the largest load/speed of a GPU divided by the mean.
        """
        n = _arrays.integers("counts", counts, 2)
        layers, experts = n.shape
        first = _whole("first_layer", first_layer, 0)
        if experts != self._experts:
            raise ValueError(f"counts: {experts} experts, but the placement has {self._experts}")
        if layers < 1 or first + layers > self._layers:
            raise ValueError(f"counts: layers {first} to {first + layers}, but the placement has {self._layers}")
        kind = _arrays.kind_of(counts)
        quota = kind.empty(layers, self._slots)
        imbalance = array("d", bytes(8 * layers))
        call("moelb_split", self._handle, first, layers, n.pointer, quota.pointer, imbalance.buffer_info()[0])
        return kind.answer(quota), imbalance.tolist()

    def close(self) -> None:
        """Releases the splitter's memory; otherwise that happens with the object's own."""
        self._finish()

    def __enter__(self) -> "Splitter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
