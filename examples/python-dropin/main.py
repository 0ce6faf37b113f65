"""A Python engine whose expert balancer is replaced by changing one import.

The engine counts the tokens of each expert and re-balances every few hundred steps.
It runs over the same traffic as it starts, then with the published algorithm
(through moelb, answer for answer), then with moelb's policy in vLLM's shape, which is
given the placement in force and so moves little.

    PYTHONPATH=wrapper/python python3 examples/python-dropin/main.py
"""

import random

# from eplb import rebalance_experts
from moelb import EplbPolicy, rebalance_experts

try:
    import torch
except ImportError:
    torch = None  # then the engine counts in lists

LAYERS, EXPERTS, REPLICAS, GROUPS, NODES, GPUS = 6, 64, 72, 1, 1, 8
WINDOWS, TOKENS = 8, 40_000


def traffic():
    """The tokens of each expert in each window, [windows][layers][experts]: hot experts that drift."""
    rng = random.Random(7)
    heat = [[rng.gauss(0, 1) for _ in range(EXPERTS)] for _ in range(LAYERS)]
    for _ in range(WINDOWS):
        heat = [[h + rng.gauss(0, 0.15) for h in row] for row in heat]
        yield [[round(TOKENS / EXPERTS * 2 ** (1.4 * h)) for h in row] for row in heat]


def published(weight, placement):
    phy2log, log2phy, logcnt = rebalance_experts(weight, REPLICAS, GROUPS, NODES, GPUS)
    return phy2log


def with_previous(weight, placement):
    return EplbPolicy.rebalance_experts(weight, REPLICAS, GROUPS, NODES, GPUS, placement)


def rows(x):
    return x.tolist() if hasattr(x, "tolist") else x


def imbalance(counts, placement):
    """Max/mean load of the GPUs, mean of the layers."""
    total = 0.0
    for load, row in zip(counts, placement):
        each = REPLICAS // GPUS
        gpu = [sum(load[e] / row.count(e) for e in row[g * each : (g + 1) * each]) for g in range(GPUS)]
        total += max(gpu) * GPUS / sum(gpu)
    return total / LAYERS


def moves(before, after):
    """Slots whose expert was not on that GPU."""
    each = REPLICAS // GPUS
    return sum(
        sum(1 for e in new[g : g + each] if e not in old[g : g + each])
        for old, new in zip(before, after)
        for g in range(0, REPLICAS, each)
    )


def serve(name, balancer):
    placement = [[s % EXPERTS for s in range(REPLICAS)] for _ in range(LAYERS)]
    total, moved = 0.0, 0
    for window, counts in enumerate(traffic()):
        if window > 0:
            total += imbalance(counts, rows(placement))  # planned on the window before
        weight = torch.tensor(counts) if torch else counts
        old = torch.tensor(rows(placement)) if torch else placement
        new = balancer(weight, old)
        if window > 0:
            moved += moves(rows(placement), rows(new))
        placement = new
    print(f"{name}: imbalance {total / (WINDOWS - 1):.3f} on the next window, {moved} moves")


def main():
    serve("never balanced   ", lambda weight, placement: placement)
    serve("rebalance_experts", published)
    serve("EplbPolicy       ", with_previous)


if __name__ == "__main__":
    main()
