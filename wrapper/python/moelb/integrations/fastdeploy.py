"""FastDeploy's eplb.rebalance_experts, by the optimal planner.

    import moelb.integrations.fastdeploy
    moelb.integrations.fastdeploy.install()   # before the experts' manager starts
"""

from __future__ import annotations

from typing import Any

from .._experts import _whole, plan


def rebalance_experts(
    weight: Any,
    num_replicas: int,
    num_groups: int,
    num_nodes: int,
    num_gpus: int,
    eplb_strategy: str = "",
) -> tuple[Any, Any, Any]:
    """Returns physical_to_logical_map, logical_to_physical_map and expert_count.

    Parameters:
        weight: [layers, experts], or [windows, layers, experts].
        num_replicas: slots a layer, a multiple of num_gpus.
        num_groups, num_nodes, num_gpus: as for moelb.plan.
        eplb_strategy: "balance_intra_node" keeps as many consecutive experts on each
            node, so that only GPUs of one node share an expert; any other keeps groups
            on their nodes where num_nodes divides num_groups.
    """
    slots, gpus, nodes = _whole("num_replicas", num_replicas, 1), _whole("num_gpus", num_gpus, 1), _whole("num_nodes", num_nodes, 1)
    if slots % gpus:
        raise ValueError(f"num_replicas: {slots} is no multiple of num_gpus, {gpus}: FastDeploy shares slots evenly")
    if eplb_strategy == "balance_intra_node":
        p = plan(weight, slots, nodes, nodes, gpus, locality="groups")
    else:
        p = plan(weight, slots, num_groups, nodes, gpus)
    return p.physical_to_logical_map, p.logical_to_physical_map, p.logical_count


def install() -> None:
    """Puts rebalance_experts in the place of FastDeploy's, also where it is imported by name."""
    from fastdeploy.eplb import eplb, experts_manager

    eplb.rebalance_experts = rebalance_experts
    experts_manager.rebalance_experts = rebalance_experts
