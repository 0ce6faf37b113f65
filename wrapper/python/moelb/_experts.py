"""Placement of experts: the published function, the planner, and vLLM's shape of both."""

from __future__ import annotations

import operator
from array import array
from dataclasses import dataclass
from typing import Any, Sequence

from . import _arrays
from ._library import Problem, Result, byref, call, new

_POLICIES = ("optimal", "deepseek")
_LOCALITIES = ("auto", "groups", "none")
_DISPATCHES = ("even", "split")
_STATUSES = ("feasible", "optimal", "stopped")


@dataclass(frozen=True)
class Plan:
    """A placement of experts and how good it is.

    The three maps are of the kind of the loads: int64 tensors, int64 arrays or
    nested lists. What is said of each layer is a list.
    """

    #: [layers, num_replicas]: the expert in each slot; -1 = the slot is empty.
    physical_to_logical_map: Any
    #: [layers, experts, most replicas]: the slots of each expert, padded with -1.
    logical_to_physical_map: Any
    #: [layers, experts]: the replicas of each expert.
    logical_count: Any
    #: [num_gpus]: the slots of each GPU, in order.
    gpu_slots: list[int]
    #: [layers]: the load of the fullest GPU divided by the mean, at least 1.
    imbalance: list[float]
    #: [layers]: proved: no placement of these loads is below it.
    lower_bound: list[float]
    #: [layers]: slots whose expert was not on that GPU in ``previous``.
    moves: list[int]
    #: [layers]: "optimal" (proved), "feasible" (the best found) or "stopped" (by the timeout).
    status: list[str]


def plan(
    weight: Any,
    num_replicas: int,
    num_groups: int = 1,
    num_nodes: int = 1,
    num_gpus: int = 1,
    *,
    policy: str = "optimal",
    locality: str = "auto",
    off_node_replicas: int = 0,
    two_nodes: bool = False,
    gpus_per_node: Sequence[int] | None = None,
    domains: int | Sequence[int] | None = None,
    two_domains: bool = False,
    everywhere: Sequence[int] | None = None,
    dispatch: str = "even",
    gpu_speed: Sequence[float] | None = None,
    previous: Any = None,
    previous_gpus: int | None = None,
    target: float | None = None,
    max_moves: int | None = None,
    windows: int = 0,
    tolerance: float | None = None,
    timeout: float | None = None,
    workers: int = 0,
) -> Plan:
    """Plans how many replicas each expert gets and on which GPU each sits.

    Slots are numbered through the GPUs in order: where GPUs share them evenly, slot
    s is on GPU s // (num_replicas // num_gpus).

    Parameters:
        weight: the expected load of each expert, [layers, experts]; or, oldest
            first, [windows, layers, experts], for a plan that holds over several
            windows: the mean over them of the imbalance is least.
        num_replicas: slots a layer, over all GPUs.
        num_groups: groups of equally many consecutive experts.
        num_nodes: nodes of equally many GPUs.
        num_gpus: GPUs in all.
        policy: "optimal" searches and proves a bound; "deepseek" is the published
            algorithm, array for array, which knows none of the options up to
            max_moves.
        locality: "groups" keeps each group on one node, "none" does not, "auto" does
            where the nodes can share the groups evenly.
        off_node_replicas: how many replicas a layer may live outside their group's
            node.
        two_nodes: every expert on two nodes at least, so that any one node may fail; it
            wants twice as many slots as experts.
        gpus_per_node: the GPUs of each node, in order, instead of num_nodes.
        domains: what fails together, apart from nodes: how many domains share the GPUs
            evenly, or the GPUs of each, in order.
        two_domains: every expert in two domains at least.
        everywhere: experts that have a replica on every GPU in service.
        dispatch: "even" where an expert's tokens are shared evenly by its replicas,
            "split" where they are split per batch (see Splitter).
        gpu_speed: [num_gpus] relative speeds; 0 = out of service.
        previous: the placement in force, [layers, slots]: few replicas are then
            moved, and slots that keep their expert keep their index.
        previous_gpus: how many GPUs it is on, where that is not num_gpus.
        target: with previous: a layer is left once its imbalance is within it; 0 = 1,
            as even as can be. None = within 1% of the best plan.
        max_moves: with previous: the most moves in all layers together, but for those
            without which an expert would have no replica. None = any number.
        windows: plan on the last so many windows of weight; 0 = all.
        tolerance: end a layer's search this near its bound, as a fraction; 0 = at the
            bound. None = 0.0002; negative = when nothing improves.
        timeout: end the search after so many seconds with the best plan so far.
        workers: threads; 0 = all cores. The plan does not depend on it.
    """
    kind = _arrays.kind_of(weight)
    w = _arrays.loads("loads", weight, _whole("windows", windows, 0))
    layers, experts = w.shape[-2:]
    slots, gpus = _whole("num_replicas", num_replicas, 1), _whole("num_gpus", num_gpus, 1)
    p = new(
        Problem,
        loads=w.pointer,
        windows=w.shape[0] if len(w.shape) == 3 else 1,
        layers=layers,
        experts=experts,
        loads_type=w.type,
        policy=_choice("policy", policy, _POLICIES),
        locality=_choice("locality", locality, _LOCALITIES),
        dispatch=_choice("dispatch", dispatch, _DISPATCHES),
        num_replicas=slots,
        num_groups=_whole("num_groups", num_groups, 1),
        num_nodes=_whole("num_nodes", num_nodes, 1),
        num_gpus=gpus,
        off_node_replicas=_whole("off_node_replicas", off_node_replicas, 0),
        two_nodes=bool(two_nodes),
        target=0 if target is None else _number("target", target) or 1,  # to the library 0 is unset, and 1 the least
        tolerance=0 if tolerance is None else _number("tolerance", tolerance) or 5e-324,
        timeout_seconds=0 if timeout is None else _positive("timeout", timeout),
        workers=_whole("workers", workers, 0),
    )
    if max_moves is not None:
        p.max_moves = _whole("max_moves", max_moves, 0) or -1
    lists: list[array[int]] = []

    def read(field: str, given: Sequence[int]) -> tuple[int, int]:
        lists.append(array("q", [_whole(field, x, 0) for x in given]))
        return lists[-1].buffer_info()

    if gpus_per_node is not None:
        p.gpus_per_node, p.nodes = read("gpus_per_node", gpus_per_node)
        p.num_nodes = 0 if num_nodes == 1 else p.num_nodes
    if isinstance(domains, int):
        p.domains = _whole("domains", domains, 1)
    elif domains is not None:
        p.domain_gpus, p.domains = read("domains", domains)
    if everywhere is not None:
        p.everywhere, p.everywhere_experts = read("everywhere", everywhere)
    p.two_domains = bool(two_domains)
    speed = None
    if gpu_speed is not None:
        speed = _arrays.vector("gpu_speed", gpu_speed)
        if len(speed) != gpus:
            raise ValueError(f"gpu_speed: {len(speed)} speeds for {gpus} GPUs")
        p.gpu_speed = speed.buffer_info()[0]
    before = None
    if previous is not None:
        before = _arrays.integers("previous", previous, 2)
        if before.shape[0] != layers:
            raise ValueError(f"previous: {before.shape[0]} layers, but loads have {layers}")
        p.previous, p.previous_slots = before.pointer, before.shape[1]
        p.previous_gpus = gpus if previous_gpus is None else _whole("previous_gpus", previous_gpus, 1)
    elif previous_gpus is not None:
        raise ValueError(f"previous_gpus: {previous_gpus}, but there is no previous")
    if layers * slots > 1 << 26 or gpus > 1 << 16:  # the library's limits, before memory is taken
        raise ValueError(f"num_replicas: {slots} replicas in {layers} layers on {gpus} GPUs: more than is supported")
    expert, rank, count = kind.empty(layers, slots), kind.empty(layers, slots), kind.empty(layers, experts)
    numbers = array("d", bytes(16 * layers))
    wholes = array("q", bytes(8 * (layers + gpus)))
    states = array("i", bytes(4 * layers))
    r = new(
        Result,
        physical_to_logical=expert.pointer,
        replica_rank=rank.pointer,
        logical_count=count.pointer,
        imbalance=numbers.buffer_info()[0],
        lower_bound=numbers.buffer_info()[0] + 8 * layers,
        moves=wholes.buffer_info()[0],
        gpu_slots=wholes.buffer_info()[0] + 8 * layers,
        status=states.buffer_info()[0],
    )
    call("moelb_plan", byref(p), byref(r))
    width = r.max_replicas
    slots_of = kind.empty(layers, experts, width)
    call("moelb_logical_to_physical", layers, experts, slots, expert.pointer, rank.pointer, width, slots_of.pointer)
    return Plan(
        kind.answer(expert),
        kind.answer(slots_of),
        kind.answer(count),
        wholes[layers:].tolist(),
        numbers[:layers].tolist(),
        numbers[layers:].tolist(),
        wholes[:layers].tolist(),
        [_STATUSES[s] for s in states],
    )


def rebalance_experts(
    weight: Any,
    num_replicas: int,
    num_groups: int,
    num_nodes: int,
    num_gpus: int,
    *,
    policy: str = "deepseek",
    **options: Any,
) -> tuple[Any, Any, Any]:
    """DeepSeek's rebalance_experts: the same arguments, the same answer.

    With policy "optimal" it is better balanced, and takes plan's other keywords:
    previous, target, max_moves, windows, locality, gpu_speed and so on.

    Parameters:
        weight: [layers, experts], the load of each expert.
        num_replicas: slots a layer, a multiple of num_gpus.
        num_groups: groups of experts.
        num_nodes: nodes; where it divides num_groups, each group stays on one.
        num_gpus: GPUs in all, a multiple of num_nodes.

    Returns:
        physical_to_logical_map: [layers, num_replicas], the expert in each slot.
        logical_to_physical_map: [layers, experts, X], the slots of each expert,
            padded with -1; X is the largest number of replicas.
        expert_count: [layers, experts], the replicas of each expert.
    """
    p = plan(weight, num_replicas, num_groups, num_nodes, num_gpus, policy=policy, **options)
    return p.physical_to_logical_map, p.logical_to_physical_map, p.logical_count


class EplbPolicy:
    """A policy in the shape of vLLM's: the optimal plan, from the placement in force."""

    @staticmethod
    def rebalance_experts(
        weight: Any,
        num_replicas: int,
        num_groups: int,
        num_nodes: int,
        num_ranks: int,
        old_global_expert_indices: Any = None,
    ) -> Any:
        """Returns the physical-to-logical map, [layers, num_replicas], on weight's device.

        Parameters:
            weight: [layers, experts] or [windows, layers, experts], as for plan.
            num_replicas, num_groups, num_nodes, num_ranks: as for rebalance_experts.
            old_global_expert_indices: the physical-to-logical map in force. Few
                replicas are then moved, and those that stay on their rank keep their
                slot. One of other ranks (the unit has grown or shrunk) is used where
                these have as many slots as the new ones.
        """
        keep: dict[str, Any] = {}
        if old_global_expert_indices is not None:
            ranks, slots = _whole("num_ranks", num_ranks, 1), _whole("num_replicas", num_replicas, 1)
            old = _arrays.integers("old_global_expert_indices", old_global_expert_indices, 2).shape[1]
            each = slots // ranks
            if old == slots:
                keep = {"previous": old_global_expert_indices}
            elif slots % ranks == 0 and each > 0 and old % each == 0:
                keep = {"previous": old_global_expert_indices, "previous_gpus": old // each}
        to = plan(weight, num_replicas, num_groups, num_nodes, num_ranks, **keep).physical_to_logical_map
        device = getattr(weight, "device", None)
        return to.to(device) if device is not None and hasattr(to, "to") else to


def _whole(field: str, value: Any, least: int) -> int:
    try:
        n = operator.index(value)
    except TypeError:
        raise TypeError(f"{field}: {value!r} is not a whole number") from None
    if n < least:
        raise ValueError(f"{field}: {n}: at least {least} is needed")
    if n > 1 << 62:
        raise ValueError(f"{field}: {n} is too large")
    return n


def _number(field: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{field}: {value!r} is not a number") from None


def _positive(field: str, value: Any) -> float:
    x = _number(field, value)
    if not x > 0:
        raise ValueError(f"{field}: {x} is not above 0")
    return x


def _choice(field: str, value: Any, names: tuple[str, ...]) -> int:
    if not isinstance(value, str):
        raise TypeError(f"{field}: {value!r} is not one of {', '.join(names)}")
    if value not in names:
        raise ValueError(f"{field}: {value!r} is unknown: one of {', '.join(names)} is needed")
    return names.index(value)
