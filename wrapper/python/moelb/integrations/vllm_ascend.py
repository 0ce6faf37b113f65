"""A policy for vllm-ascend's dynamic expert balancer, by the optimal planner."""

from __future__ import annotations

from typing import Any

from .. import _arrays
from .._experts import _whole, plan


class EplbPolicy:
    """The shape of vllm_ascend.eplb.core.policy: config in, rebalance_experts out."""

    #: The tables are changed where the sum over layers of the hottest device's load
    #: falls below this share of today's, as in vllm-ascend's own policies.
    worth = 0.95

    def __init__(self, config: Any = None) -> None:
        """Of config, a DynamicConfig or None, two attributes count where it has them:
        max_transferred_expert_per_layer, the most experts that a host may receive in a
        layer, and num_die_per_host, the devices of a host (8)."""
        self.config = config
        self.new_devices: int | None = None

    def set_new_ep_size(self, new_ep_size: int) -> None:
        """The unit has this many devices from now on: the first of them are today's."""
        self.new_devices = _whole("new_ep_size", new_ep_size, 1)

    def rebalance_experts(self, current_expert_table: Any, expert_workload: Any) -> tuple[int, Any, list[list[list[int]]]]:
        """Returns whether the table has changed (1 or 0), the layers in the order in
        which they gain, and the new table.

        Parameters:
            current_expert_table: [layers, devices, slots], the expert in each slot.
            expert_workload: [layers, devices, slots], or [windows, layers, devices,
                slots], the load that each slot had; what is negative was not measured
                and counts for nothing.

        What stays on its device keeps its slot, and no expert is left twice on a device,
        however few may move: vllm-ascend's loader refuses a layer that is otherwise.
        """
        table = _arrays.cube("current_expert_table", current_expert_table)
        heat = _arrays.windows("expert_workload", expert_workload)
        layers, devices, slots = len(table), len(table[0]), len(table[0][0])
        shape = len(heat[0]), len(heat[0][0]), len(heat[0][0][0])
        if shape != (layers, devices, slots):
            raise ValueError(f"expert_workload: {shape[0]} x {shape[1]} x {shape[2]}, but current_expert_table is {layers} x {devices} x {slots}")
        old = [[int(e) for device in layer for e in device] for layer in table]
        experts = max(max(row) for row in old) + 1
        loads = [[_of_experts(layer, load, experts) for layer, load in zip(table, window)] for window in heat]
        gpus = self.new_devices or devices
        options: dict[str, Any] = {"locality": "none", "previous_gpus": devices}
        p = plan(loads, gpus * slots, 1, 1, gpus, previous=old, **options)
        rows, level = [list(row) for row in p.physical_to_logical_map], list(p.imbalance)
        limit, host = self._limits()
        for layer in range(layers):
            if limit is not None and _received(old[layer], rows[layer], slots, host) > limit:
                q = plan([[window[layer]] for window in loads], gpus * slots, 1, 1, gpus, previous=[old[layer]], max_moves=limit, **options)
                rows[layer], level[layer] = list(q.physical_to_logical_map[0]), q.imbalance[0]
        before = [sum(max(_positive_sum(d) for d in window[layer]) for window in heat) for layer in range(layers)]
        after = [x * sum(sum(window[layer]) for window in loads) / gpus for layer, x in enumerate(level)]
        gain = [b / a if a > 0 else 1.0 for a, b in zip(before, after)]
        order: Any = sorted(range(layers), key=gain.__getitem__)
        if hasattr(current_expert_table, "shape"):  # an array or a tensor: the engine indexes with it
            import numpy

            order = numpy.array(order)
        new = [[row[d * slots : (d + 1) * slots] for d in range(gpus)] for row in rows]
        changed = gpus != devices or sum(after) < self.worth * sum(before)
        return int(changed), order, new

    def _limits(self) -> tuple[int | None, int]:
        """The most experts that a host may receive in a layer, None = any number, and the
        devices of a host."""
        limit = getattr(self.config, "max_transferred_expert_per_layer", None)
        host = getattr(self.config, "num_die_per_host", None) or 8
        return None if limit is None else _whole("max_transferred_expert_per_layer", limit, 0), _whole("num_die_per_host", host, 1)


def _positive_sum(loads: list[Any]) -> float:
    return sum(max(float(x), 0.0) for x in loads)


def _of_experts(layer: list[list[Any]], load: list[list[Any]], experts: int) -> list[float]:
    """The load of each expert of a layer."""
    sums = [0.0] * experts
    for device, values in zip(layer, load):
        for e, x in zip(device, values):
            if e >= 0:
                sums[int(e)] += max(float(x), 0.0)
    return sums


def _received(old: list[int], new: list[int], slots: int, host: int) -> int:
    """The most experts that a host receives: slots whose expert was not on the device."""
    count: dict[int, int] = {}
    for s, e in enumerate(new):
        device = s // slots
        if e >= 0 and e not in old[device * slots : (device + 1) * slots]:
            count[device // host] = count.get(device // host, 0) + 1
    return max(count.values(), default=0)
