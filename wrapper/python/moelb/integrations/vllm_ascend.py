"""A policy for vllm-ascend's dynamic expert balancer, by the optimal planner."""

from __future__ import annotations

from typing import Any

from .. import _arrays
from .._experts import plan


class EplbPolicy:
    """The shape of vllm_ascend.eplb.core.policy: config in, rebalance_experts out."""

    #: The tables are changed where the sum over layers of the hottest device's load
    #: falls below this share of today's, as in vllm-ascend's own policies.
    worth = 0.95

    def __init__(self, config: Any = None) -> None:
        self.config = config

    def rebalance_experts(self, current_expert_table: Any, expert_workload: Any) -> tuple[int, list[int], list[list[list[int]]]]:
        """Returns whether the table has changed (1 or 0), the layers in the order in
        which they gain, and the new table.

        Parameters:
            current_expert_table: [layers, devices, slots], the expert in each slot.
            expert_workload: [layers, devices, slots], the load that each slot had;
                what is negative was not measured and counts for nothing.

        No expert is twice on a device unless it is today, and what stays on its device
        keeps its slot: what vllm-ascend's loader needs.
        """
        table = _arrays.cube("current_expert_table", current_expert_table)
        heat = _arrays.cube("expert_workload", expert_workload)
        layers, devices, slots = len(table), len(table[0]), len(table[0][0])
        if (len(heat), len(heat[0]), len(heat[0][0])) != (layers, devices, slots):
            raise ValueError(f"expert_workload: {len(heat)} x {len(heat[0])} x {len(heat[0][0])}, but current_expert_table is {layers} x {devices} x {slots}")
        old = [[int(e) for device in layer for e in device] for layer in table]
        experts = max(max(row) for row in old) + 1
        loads = []
        for row, layer in zip(old, heat):
            sums = [0.0] * experts
            for e, x in zip(row, (x for device in layer for x in device)):
                if e >= 0:
                    sums[e] += max(float(x), 0.0)
            loads.append(sums)
        p = plan(loads, devices * slots, 1, 1, devices, locality="none", previous=old)
        before = [max(sum(max(float(x), 0.0) for x in device) for device in layer) for layer in heat]
        after = [level * sum(row) / devices for level, row in zip(p.imbalance, loads)]
        gain = [b / a if a > 0 else 1.0 for a, b in zip(before, after)]
        order = sorted(range(layers), key=gain.__getitem__)
        new = [[row[d * slots : (d + 1) * slots] for d in range(devices)] for row in p.physical_to_logical_map]
        return int(sum(after) < self.worth * sum(before)), order, new
