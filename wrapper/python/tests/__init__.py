"""Tests of the package, run by python_test.go: python3 -m unittest tests.test_lists and so on."""

import gzip
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def published():
    """Cases printed by the published program, with their arguments in its order."""
    cases = json.loads(gzip.decompress((ROOT / "eplb/testdata/deepseek_eplb.json.gz").read_bytes()))["cases"]
    return [(c, (c["num_replicas"], c["num_groups"], c["num_nodes"], c["num_gpus"])) for c in cases]


def case(name):
    return next((c, a) for c, a in published() if c["name"] == name)


def imbalance(weight, phy2log, gpus):
    """Max/mean load of the GPUs of one layer, computed the simple way."""
    each = len(phy2log) // gpus
    load = [sum(weight[e] / phy2log.count(e) for e in phy2log[g * each : (g + 1) * each]) for g in range(gpus)]
    return max(load) * gpus / sum(load)
