import enum
import random
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

import moelb
from moelb import _build
from moelb.integrations import fastdeploy, sglang, vllm, vllm_ascend
from tests import ROOT, imbalance


def loads(layers=2, experts=16, seed=3):
    rng = random.Random(seed)
    return [[round(1000 * rng.lognormvariate(0, 1)) for _ in range(experts)] for _ in range(layers)]


def modules(**made):
    """Stand-ins for an engine's modules; a dot in a name is written __."""
    out = {}
    for name, attributes in made.items():
        full = name.replace("__", ".")
        m = out[full] = types.ModuleType(full)
        m.__path__ = []
        vars(m).update(attributes)
    for full, m in out.items():
        parent, _, child = full.rpartition(".")
        if parent in out:
            setattr(out[parent], child, m)
    return mock.patch.dict(sys.modules, out), out


class Algorithm(enum.Enum):
    deepseek = enum.auto()
    deepseek_hierarchical = enum.auto()


class SGLang(unittest.TestCase):
    def test_both_calls(self):
        w = loads()
        best = moelb.plan(w, 24, 1, 1, 8, locality="none")
        want = (best.physical_to_logical_map, best.logical_to_physical_map, best.logical_count)
        steps = [[[x // 2 for x in row] for row in w], [[x - x // 2 for x in row] for row in w]]
        call = dict(num_physical_experts=24, num_local_physical_experts=3, num_groups=None, num_nodes=1)
        self.assertEqual(sglang.rebalance_experts(tokens_per_expert=w, algorithm=Algorithm.deepseek, **call), want)
        got = sglang.rebalance_experts(weight=w, num_replicas=24, num_groups=None, num_nodes=1, num_gpus=8, enable_hierarchical=False)
        self.assertEqual(got, want)
        for row, level in zip(sglang.rebalance_experts(tokens_per_expert=steps, algorithm="deepseek", **call)[0], best.imbalance):
            self.assertEqual(sorted(set(row)), list(range(16)))

    def test_hierarchical(self):
        call = dict(num_physical_experts=24, num_local_physical_experts=3, num_groups=4, num_nodes=2)
        nodes = lambda row: [{s // 12 for s, x in enumerate(row) if x // 4 == g} for g in range(4)]
        for algorithm in (Algorithm.deepseek_hierarchical, None):
            for row in sglang.rebalance_experts(loads(), algorithm=algorithm, **call)[0]:
                self.assertTrue(all(len(n) == 1 for n in nodes(row)))
        self.assertTrue(any(len(n) > 1 for row in sglang.rebalance_experts(loads(), algorithm=Algorithm.deepseek, **call)[0] for n in nodes(row)))

    def test_a_rank_that_is_out(self):
        p2l, l2p, count = sglang.rebalance_experts(weight=loads(), num_replicas=24, num_groups=None, num_nodes=1, num_gpus=8, enable_hierarchical=False, active_ranks=[1, 1, 0, 1, 1, 1, 1, 1])
        for layer in range(2):
            self.assertEqual(p2l[layer][6:9], [0, 0, 0])
            self.assertFalse({6, 7, 8} & {s for row in l2p[layer] for s in row})
            self.assertEqual(sum(count[layer]), 21)

    def test_refused(self):
        with self.assertRaisesRegex(ValueError, "num_replicas: 23 is no multiple"):
            sglang.rebalance_experts(weight=loads(), num_replicas=23, num_gpus=8)
        for bad in ({}, {"weight": [[1]]}, {"weight": [[1]], "num_replicas": 1}):
            with self.assertRaises(TypeError):
                sglang.rebalance_experts(**bad)

    def test_install(self):
        patch, made = modules(sglang={}, sglang__srt={}, sglang__srt__eplb={}, sglang__srt__eplb__eplb_algorithms={"rebalance_experts": None})
        with patch:
            sglang.install()
        self.assertIs(made["sglang.srt.eplb.eplb_algorithms"].rebalance_experts, sglang.rebalance_experts)


class FastDeploy(unittest.TestCase):
    def test_calls(self):
        w = loads()
        p = moelb.plan(w, 24, 4, 2, 8)
        self.assertEqual(fastdeploy.rebalance_experts(w, 24, 4, 2, 8), (p.physical_to_logical_map, p.logical_to_physical_map, p.logical_count))
        self.assertEqual(fastdeploy.rebalance_experts(weight=w, num_replicas=24, num_groups=4, num_nodes=2, num_gpus=8, eplb_strategy="")[0], p.physical_to_logical_map)
        for row in fastdeploy.rebalance_experts(w, 24, 1, 2, 8, "balance_intra_node")[0]:
            for e in range(16):
                self.assertEqual(len({s // 12 for s, x in enumerate(row) if x == e}), 1)
        with self.assertRaisesRegex(ValueError, "num_replicas"):
            fastdeploy.rebalance_experts(w, 23, 1, 1, 8)

    def test_install(self):
        patch, made = modules(fastdeploy={}, fastdeploy__eplb={}, fastdeploy__eplb__eplb={}, fastdeploy__eplb__experts_manager={})
        with patch:
            fastdeploy.install()
        for name in ("eplb", "experts_manager"):
            self.assertIs(made["fastdeploy.eplb." + name].rebalance_experts, fastdeploy.rebalance_experts)


class VLLM(unittest.TestCase):
    def test_from_the_map_in_force(self):
        w = loads()
        rebalance = vllm.EplbPolicy.rebalance_experts
        old = rebalance(weight=w, num_replicas=24, num_groups=1, num_nodes=1, num_ranks=8)
        self.assertEqual(old, [[15 - e for e in row] for row in moelb.plan([row[::-1] for row in w], 24, 1, 1, 8).physical_to_logical_map])
        self.assertEqual(rebalance(w, 24, 1, 1, 8, old), old)
        self.assertEqual(vllm.PublishedEplbPolicy.rebalance_experts(w, 24, 1, 1, 8, old), moelb.rebalance_experts(w, 24, 1, 1, 8)[0])

    def test_a_spare_slot(self):
        """It goes to the last of equals: vLLM's own tests expect more replicas of the first, hot one."""
        for w in ([[1000, 1, 1, 1, 1, 1, 1, 1]], [[[1000, 1, 1, 1, 1, 1, 1, 1]]]):
            row = vllm.EplbPolicy.rebalance_experts(w, 12, 2, 2, 4)[0]
            self.assertGreater(row.count(0), row.count(1))

    def test_uneven_is_refused(self):
        for slots, ranks, nodes in ((25, 8, 1), (24, 8, 3)):
            with self.assertRaisesRegex(ValueError, "no multiple"):
                vllm.EplbPolicy.rebalance_experts(loads(), slots, 1, nodes, ranks)

    def test_ranks_come_and_go(self):
        w = loads()
        rebalance = vllm.EplbPolicy.rebalance_experts
        old = rebalance(w, 24, 1, 1, 8)
        grown = rebalance(w, 30, 1, 1, 10, old)
        for row, before in zip(grown, old):
            kept = sum(a == b for a, b in zip(row, before))
            self.assertEqual(sorted(set(row)), list(range(16)))
            self.assertGreater(kept, 8)
        # Rank 2 leaves: those after it move up.
        mapping = {r: -1 if r == 2 else r - (r > 2) for r in range(8)}
        left = rebalance(w, 21, 1, 1, 7, old, rank_mapping=mapping)
        for row, before in zip(left, old):
            self.assertEqual(sorted(set(row)), list(range(16)))
            kept = sum(row[mapping[r] * 3 + k] == before[r * 3 + k] for r in range(8) if r != 2 for k in range(3))
            self.assertGreater(kept, 8)
        with self.assertRaisesRegex(ValueError, "rank_mapping"):
            rebalance(w, 21, 1, 1, 7, old, rank_mapping={0: 7})

    def test_plugin(self):
        class Abstract:
            pass

        patch, made = modules(vllm={}, vllm__distributed={}, vllm__distributed__eplb={}, vllm__distributed__eplb__policy={"EPLB_POLICIES": {"default": None}}, vllm__distributed__eplb__policy__abstract={"AbstractEplbPolicy": Abstract})
        with patch:
            vllm.register()
            vllm.register()
        policy = made["vllm.distributed.eplb.policy"].EPLB_POLICIES["default"]
        self.assertTrue(issubclass(policy, vllm.EplbPolicy) and issubclass(policy, Abstract))
        self.assertEqual(len(policy.rebalance_experts(loads(), 24, 1, 1, 8)), 2)


class VLLMAscend(unittest.TestCase):
    def tables(self, seed=1):
        rng = random.Random(seed)
        row = [*range(16), *rng.sample(range(16), 8)]
        table = [[row[0::8][:3], *(row[d::8][:3] for d in range(1, 8))] for _ in range(2)]
        w = loads()
        heat = [[[w[l][e] / row.count(e) for e in device] for device in layer] for l, layer in enumerate(table)]
        return w, table, heat

    def test_changes(self):
        w, table, heat = self.tables()
        changed, order, new = vllm_ascend.EplbPolicy(config=None).rebalance_experts(table, heat)
        self.assertEqual((changed, sorted(order)), (1, [0, 1]))
        for layer, before, row in zip(new, table, w):
            self.assertEqual([len(d) for d in layer], [3] * 8)
            flat = [e for d in layer for e in d]
            self.assertEqual(sorted(set(flat)), list(range(16)))
            self.assertTrue(all(len(set(d)) == 3 for d in layer))
            self.assertLess(imbalance(row, flat, 8), imbalance(row, [e for d in before for e in d], 8))
            for new_device, old_device in zip(layer, before):
                for e in set(new_device) & set(old_device):
                    self.assertEqual(new_device.index(e), old_device.index(e))
        again, _, same = vllm_ascend.EplbPolicy().rebalance_experts(new, [[[row[e] / sum(d.count(e) for d in layer) for e in d] for d in layer] for layer, row in zip(new, w)])
        self.assertEqual((again, same), (0, new))

    def test_what_the_loader_takes(self):
        """An expert that stands twice on a device is not left there, whatever else is kept."""
        _, table, _ = self.tables()
        for layer in table:
            layer[2][1] = layer[2][0]
            for e in set(range(16)) - {e for d in layer for e in d}:
                layer[3][2] = e
        w = loads()
        heat = [[[w[l][e] / sum(d.count(e) for d in layer) for e in device] for device in layer] for l, layer in enumerate(table)]
        for layer, before in zip(vllm_ascend.EplbPolicy().rebalance_experts(table, heat)[2], table):
            self.assertEqual(sorted({e for d in layer for e in d}), list(range(16)))
            for device, old in zip(layer, before):
                self.assertEqual(len(set(device)), 3)
                for e in set(device) & set(old):
                    self.assertEqual(device.index(e), old.index(e))

    def test_few_may_move(self):
        _, table, heat = self.tables()
        for layer, load in zip(table, heat):
            layer[1][2], layer[7][2], load[1][2], load[7][2] = 7, 9, load[7][2], load[1][2]  # none twice on a device

        def received(new, host):
            return max(sum(e not in old for new_d, old in zip(a[h : h + host], b[h : h + host]) for e in new_d) for a, b in zip(new, table) for h in range(0, 8, host))
        free = vllm_ascend.EplbPolicy(types.SimpleNamespace(other=1)).rebalance_experts(table, heat)[2]
        most = received(free, 4)
        self.assertGreater(most, 2)
        for limit in (0, 1, 2, most):
            config = types.SimpleNamespace(max_transferred_expert_per_layer=limit, num_die_per_host=4)
            new = vllm_ascend.EplbPolicy(config).rebalance_experts(table, heat)[2]
            self.assertLessEqual(received(new, 4), limit)
            self.assertEqual(new == free, limit == most)

    def test_windows_and_sizes(self):
        w, table, heat = self.tables()
        halves = [[[[x / 2 for x in d] for d in layer] for layer in heat]] * 2
        changed, order, new = vllm_ascend.EplbPolicy().rebalance_experts(table, halves)
        self.assertEqual((changed, sorted(order)), (1, [0, 1]))
        whole = vllm_ascend.EplbPolicy().rebalance_experts(table, heat)[2]
        for a, b, row in zip(new, whole, w):
            self.assertLess(imbalance(row, [e for d in a for e in d], 8), 1.03 * imbalance(row, [e for d in b for e in d], 8))
        for size in (6, 10):
            policy = vllm_ascend.EplbPolicy()
            policy.set_new_ep_size(size)
            changed, _, new = policy.rebalance_experts(table, heat)
            self.assertEqual((changed, [[len(d) for d in layer] for layer in new]), (1, [[3] * size] * 2))
            for layer in new:
                self.assertEqual(sorted({e for d in layer for e in d}), list(range(16)))
        with self.assertRaises(ValueError):
            vllm_ascend.EplbPolicy().set_new_ep_size(0)

    def test_no_load_and_bad_input(self):
        _, table, heat = self.tables()
        idle = [[[-1] * 3 for _ in range(8)] for _ in range(2)]
        self.assertEqual(vllm_ascend.EplbPolicy().rebalance_experts(table, idle)[0], 0)
        for bad in (heat[:1], [[]], [], [[[]]]):
            with self.assertRaises(ValueError):
                vllm_ascend.EplbPolicy().rebalance_experts(table, bad)


class Zero(unittest.TestCase):
    def test_zero_is_zero(self):
        w = loads(experts=24)
        old = moelb.plan(loads(experts=24, seed=9), 32, 1, 1, 8).physical_to_logical_map
        few = moelb.plan(w, 32, 1, 1, 8, previous=old)
        all_ = moelb.plan(w, 32, 1, 1, 8, previous=old, target=0)
        self.assertGreaterEqual(sum(all_.moves), sum(few.moves))
        self.assertEqual(all_.physical_to_logical_map, moelb.plan(w, 32, 1, 1, 8, previous=old, target=1).physical_to_logical_map)
        self.assertLessEqual(max(moelb.plan(w, 32, 1, 1, 8, tolerance=0).imbalance), max(moelb.plan(w, 32, 1, 1, 8, tolerance=0.5).imbalance))


class Build(unittest.TestCase):
    def test_one_builds_for_all(self):
        program = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import importlib.util
spec = importlib.util.spec_from_file_location("b", os.path.join(sys.argv[1], "moelb/_build.py"))
b = importlib.util.module_from_spec(spec); spec.loader.exec_module(b)
def build(root, to):
    with open(sys.argv[2], "a") as f: f.write("x")
    time.sleep(0.3); to.write_bytes(b"")
b.build = build
b.fingerprint = lambda root: "same"
print(b.cached(b.Path(".")))
"""
        with tempfile.TemporaryDirectory() as d:
            count = Path(d, "count")
            env = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": d}
            all_ = [subprocess.Popen([sys.executable, "-c", program, str(ROOT / "wrapper/python"), str(count)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
            said = {p.communicate()[0] for p in all_}
            self.assertEqual((count.read_text(), len(said), {p.returncode for p in all_}), ("x", 1, {0}))
            self.assertEqual(Path(d, "moelb").stat().st_mode & 0o077, 0)

    def test_a_cache_that_others_can_write(self):
        with tempfile.TemporaryDirectory() as d:
            open_ = Path(d, "open")
            open_.mkdir()
            open_.chmod(0o777)
            _build.private(open_)
            self.assertEqual(open_.stat().st_mode & 0o022, 0)
            with mock.patch("os.getuid", return_value=12345), self.assertRaisesRegex(_build.BuildError, "belongs to another user"):
                _build.private(open_)
