"""The published algorithm written anew, the straightforward way, for its time.

In three steps: whole groups are dealt to the nodes, heaviest first, each to the
lightest node with room; in each node, every redundant replica goes to the expert
with the most load a replica; the replicas are dealt to the node's GPUs as the
groups were to the nodes. Loads are added in float32, as the published program does.
"""

import torch


def deal(weight, packs):
    """Deals the items of each row to packs of equally many; returns each pack's items, [rows][packs][items]."""
    rows, items = weight.shape
    each = items // packs
    if each == 1:
        return [[[i] for i in range(items)] for _ in range(rows)]
    order = weight.sort(dim=1, descending=True).indices
    out = []
    for row in range(rows):
        held, load = [[] for _ in range(packs)], [0.0] * packs
        for item in order[row].tolist():
            open_packs = [p for p in range(packs) if len(held[p]) < each]
            to = min(open_packs, key=lambda p: load[p])
            held[to].append(item)
            load[to] += weight[row, item]
        out.append(held)
    return out


def replicate(weight, slots):
    """Shares slots over the experts of each row; returns each slot's expert, which replica it is, and the counts."""
    rows, experts = weight.shape
    expert = torch.arange(slots).repeat(rows, 1)
    rank = torch.zeros(rows, slots, dtype=torch.int64)
    count = torch.ones(rows, experts, dtype=torch.int64)
    every = torch.arange(rows)
    for slot in range(experts, slots):
        hottest = (weight / count).max(dim=1).indices
        expert[:, slot] = hottest
        rank[:, slot] = count[every, hottest]
        count[every, hottest] += 1
    return expert, rank, count


def rebalance_experts(weight, num_replicas, num_groups, num_nodes, num_gpus):
    weight = weight.float().cpu()
    layers, experts = weight.shape
    if num_groups % num_nodes != 0:
        num_groups, num_nodes = 1, 1
    size, slots = experts // num_groups, num_replicas // num_nodes

    # The experts of each node, node by node.
    nodes = deal(weight.reshape(layers, num_groups, size).sum(dim=2), num_nodes)
    order = torch.tensor([[g * size + i for groups in layer for g in groups for i in range(size)] for layer in nodes])
    inside = weight.gather(1, order).reshape(layers * num_nodes, -1)

    local, rank, count = replicate(inside, slots)
    dealt = deal((inside / count).gather(1, local), num_gpus // num_nodes)
    at = torch.tensor([[i for gpu in row for i in gpu] for row in dealt])
    local, rank = local.gather(1, at), rank.gather(1, at)

    offset = torch.arange(num_nodes).repeat(layers).unsqueeze(1) * (experts // num_nodes)
    offset = offset.reshape(layers * num_nodes, 1)
    phy2log = order.gather(1, (local + offset).reshape(layers, -1))
    rank = rank.reshape(layers, -1)
    logcnt = torch.empty(layers, experts, dtype=torch.int64).scatter_(1, order, count.reshape(layers, -1))
    width = int(logcnt.max())
    log2phy = torch.full((layers, experts * width), -1, dtype=torch.int64)
    log2phy.scatter_(1, phy2log * width + rank, torch.arange(num_replicas).repeat(layers, 1))
    return phy2log, log2phy.reshape(layers, experts, width), logcnt
