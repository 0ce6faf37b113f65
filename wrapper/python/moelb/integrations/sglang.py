"""SGLang's eplb_algorithms.rebalance_experts, by the optimal planner.

    import moelb.integrations.sglang
    moelb.integrations.sglang.install()   # before the engine starts

puts it where SGLang calls it; no file of SGLang is edited.
"""

from __future__ import annotations

from typing import Any

from .. import _arrays
from .._experts import _whole, plan


def rebalance_experts(
    tokens_per_expert: Any = None,
    num_physical_experts: int | None = None,
    num_local_physical_experts: int | None = None,
    num_groups: int | None = None,
    num_nodes: int = 1,
    algorithm: Any = None,
    *,
    weight: Any = None,
    num_replicas: int | None = None,
    num_gpus: int | None = None,
    enable_hierarchical: bool | None = None,
    active_ranks: Any = None,
) -> tuple[Any, Any, Any]:
    """Returns physical_to_logical_map, logical_to_physical_map and expert_count.

    It is called in either of SGLang's ways: as eplb_algorithms.rebalance_experts, or,
    by keyword, as the rebalance_experts of one of its algorithms.

    Parameters:
        tokens_per_expert, weight: [steps, layers, experts] or [layers, experts]. The
            plan is to hold over the steps, each in proportion to its tokens.
        num_physical_experts, num_replicas: slots a layer.
        num_local_physical_experts: slots a GPU; num_gpus: GPUs. One of them is needed.
        num_groups: groups of experts; None = the model has none.
        num_nodes: nodes.
        algorithm: an EplbAlgorithm or its name: what ends in "hierarchical" keeps
            groups on their nodes, any other does not; None = where num_nodes divides
            num_groups.
        enable_hierarchical: the same by itself.
        active_ranks: [GPUs], 0 = out of service: expert 0 stands in its slots, as
            SGLang's own planner has it, and no expert's slots are listed there.
    """
    loads = tokens_per_expert if tokens_per_expert is not None else weight
    if loads is None:
        raise TypeError("tokens_per_expert or weight is needed")
    if num_physical_experts is None and num_replicas is None:
        raise TypeError("num_physical_experts or num_replicas is needed")
    slots = _whole("num_physical_experts", num_physical_experts if num_physical_experts is not None else num_replicas, 1)
    gpus = num_gpus
    if gpus is None:
        if num_local_physical_experts is None:
            raise TypeError("num_local_physical_experts or num_gpus is needed")
        local = _whole("num_local_physical_experts", num_local_physical_experts, 1)
        if slots % local:
            raise ValueError(f"num_physical_experts: {slots} is no multiple of num_local_physical_experts, {local}")
        gpus = slots // local
    gpus = _whole("num_gpus", gpus, 1)
    if slots % gpus:
        raise ValueError(f"num_replicas: {slots} is no multiple of num_gpus, {gpus}: SGLang shares slots evenly")
    if enable_hierarchical is None and algorithm is not None:
        enable_hierarchical = str(getattr(algorithm, "name", algorithm)).endswith("hierarchical")
    if enable_hierarchical is None:
        enable_hierarchical = num_groups is not None and num_groups % num_nodes == 0
    grouped = bool(enable_hierarchical) and num_groups is not None
    speed = None
    if active_ranks is not None:
        speed = [1.0 if x else 0.0 for x in (active_ranks.tolist() if hasattr(active_ranks, "tolist") else active_ranks)]
        if all(speed):
            speed = None
    p = plan(loads, slots, num_groups if grouped and num_groups else 1, num_nodes, gpus, locality="groups" if grouped else "none", gpu_speed=speed)
    return _arrays.without_empty(p.physical_to_logical_map), p.logical_to_physical_map, p.logical_count


def install() -> None:
    """Puts rebalance_experts in the place of SGLang's."""
    from sglang.srt.eplb import eplb_algorithms

    eplb_algorithms.rebalance_experts = rebalance_experts
