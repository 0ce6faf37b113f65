"""A policy for vLLM's expert-parallel load balancer, registered as a plugin.

Once moelb is installed, vLLM calls register() in each of its processes: its entry
point in the group vllm.general_plugins is named moelb. The policy "default" is then
this one, and no file of vLLM is edited. VLLM_PLUGINS, a comma-separated list of the
plugins to load, leaves it out by not naming it.
"""

from __future__ import annotations

from typing import Any, Mapping

from .. import _arrays
from .._experts import _whole, plan


class EplbPolicy:
    """The optimal plan, from the placement in force."""

    #: As for moelb.plan; "deepseek" gives the published algorithm's map.
    policy = "optimal"

    @classmethod
    def rebalance_experts(
        cls,
        weight: Any,
        num_replicas: int,
        num_groups: int,
        num_nodes: int,
        num_ranks: int,
        old_global_expert_indices: Any = None,
        rank_mapping: Mapping[int, int] | None = None,
    ) -> Any:
        """Returns the physical-to-logical map, [layers, num_replicas], on the CPU.

        Parameters:
            weight: [layers, experts] or [windows, layers, experts].
            num_replicas: slots a layer, a multiple of num_ranks: vLLM's loader has as
                many on every rank.
            num_groups, num_nodes, num_ranks: as for moelb.plan. Groups stay on their
                nodes where num_nodes divides num_groups.
            old_global_expert_indices: the map in force, [layers, slots]. Few replicas
                are then moved, and those that stay on their rank keep their slot.
            rank_mapping: where the unit grows or shrinks: the new rank of each old
                one, -1 = it leaves. None = ranks keep their number.
        """
        slots, ranks, nodes = _whole("num_replicas", num_replicas, 1), _whole("num_ranks", num_ranks, 1), _whole("num_nodes", num_nodes, 1)
        if slots % ranks:
            raise ValueError(f"num_replicas: {slots} is no multiple of num_ranks, {ranks}: vLLM's loader has as many slots on every rank")
        if ranks % nodes:
            raise ValueError(f"num_ranks: {ranks} is no multiple of num_nodes, {nodes}")
        if cls.policy != "optimal":
            return plan(weight, slots, num_groups, nodes, ranks, policy=cls.policy).physical_to_logical_map
        # Of experts with the same load the planner gives the first one a slot to spare.
        # vLLM expects more replicas of a hot first expert than of the second: so the
        # planner counts the experts from the last.
        weight, last = _arrays.mirrored(weight)
        if old_global_expert_indices is None:
            return _arrays.subtracted(last, plan(weight, slots, num_groups, nodes, ranks).physical_to_logical_map)
        old = [[e if e < 0 else last - e for e in row] for row in _arrays.rows("old_global_expert_indices", old_global_expert_indices)]
        each, width = slots // ranks, len(old[0])
        if width % each:  # other slots a rank: nothing can stay where it is
            return _arrays.subtracted(last, plan(weight, slots, num_groups, nodes, ranks).physical_to_logical_map)
        if rank_mapping is not None:
            old = [_renumbered(row, rank_mapping, ranks, each) for row in old]
            width = slots
        p = plan(weight, slots, num_groups, nodes, ranks, previous=old, previous_gpus=width // each)
        return _arrays.subtracted(last, p.physical_to_logical_map)


class PublishedEplbPolicy(EplbPolicy):
    """DeepSeek's published algorithm, array for array; the map in force is not looked at."""

    policy = "deepseek"


def _renumbered(row: list[int], mapping: Mapping[int, int], ranks: int, each: int) -> list[int]:
    """A row of the map in force by the new ranks; what a new rank holds nothing of is -1."""
    out = [-1] * (ranks * each)
    for old in range(len(row) // each):
        new = mapping.get(old, -1)
        if new >= ranks:
            raise ValueError(f"rank_mapping: rank {old} becomes {new} of {ranks}")
        if new >= 0:
            out[new * each : (new + 1) * each] = row[old * each : (old + 1) * each]
    return out


def register() -> None:
    """Makes the policy vLLM's "default": vLLM's plugin loader calls this, more than once."""
    from vllm.distributed.eplb.policy import EPLB_POLICIES

    try:
        from vllm.distributed.eplb.policy.abstract import AbstractEplbPolicy

        EPLB_POLICIES["default"] = type("MoelbEplbPolicy", (EplbPolicy, AbstractEplbPolicy), {})
    except ImportError:
        EPLB_POLICIES["default"] = EplbPolicy
