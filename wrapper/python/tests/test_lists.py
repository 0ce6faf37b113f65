import os
import random
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

import moelb
from tests import ROOT, imbalance, published

SMALL = [[90, 40, 30, 20, 10, 10], [10, 10, 20, 30, 40, 90]]
DRIFTED = [[90, 40, 30, 20, 70, 10], [10, 10, 70, 30, 40, 90]]


class Published(unittest.TestCase):
    def test_equals_the_published_program(self):
        for c, arguments in published():
            with self.subTest(c["name"]):
                got = moelb.rebalance_experts(c["weight"], *arguments)
                self.assertEqual(got, (c["phy2log"], c["log2phy"], c["logcnt"]))

    def test_tuples_and_whole_numbers(self):
        want = moelb.rebalance_experts(SMALL, 8, 1, 1, 4)
        self.assertEqual(moelb.rebalance_experts(tuple(tuple(float(x) for x in row) for row in SMALL), 8, 1, 1, 4), want)
        self.assertEqual(moelb.rebalance_experts(weight=SMALL, num_replicas=8, num_groups=1, num_nodes=1, num_gpus=4), want)


class Plan(unittest.TestCase):
    def test_report(self):
        p = moelb.plan(SMALL, 8, num_gpus=4)
        self.assertEqual([len(row) for row in p.physical_to_logical_map], [8, 8])
        for layer, row in enumerate(p.physical_to_logical_map):
            self.assertAlmostEqual(p.imbalance[layer], imbalance(SMALL[layer], row, 4))
            self.assertEqual(p.logical_count[layer], [row.count(e) for e in range(6)])
            for e, slots in enumerate(p.logical_to_physical_map[layer]):
                self.assertEqual([s for s in slots if s >= 0], [s for s, x in enumerate(row) if x == e])
        self.assertEqual((p.status, p.gpu_slots, p.moves), (["optimal"] * 2, [2, 2, 2, 2], [0, 0]))
        self.assertLessEqual(p.lower_bound[0], p.imbalance[0] + 1e-12)

    def test_optimal_is_never_worse(self):
        rng = random.Random(5)
        weight = [[int(1e4 / (i + 1) ** 0.8) for i in rng.sample(range(64), 64)] for _ in range(4)]
        best = moelb.plan(weight, 80, 1, 1, 8)
        ours = moelb.rebalance_experts(weight, 80, 1, 1, 8, policy="optimal")
        theirs = moelb.plan(weight, 80, 1, 1, 8, policy="deepseek")
        self.assertEqual(ours[0], best.physical_to_logical_map)
        for layer in range(4):
            self.assertAlmostEqual(best.imbalance[layer], imbalance(weight[layer], ours[0][layer], 8))
            self.assertLessEqual(best.imbalance[layer], theirs.imbalance[layer] + 1e-9)

    def test_previous(self):
        before = moelb.plan(SMALL, 8, num_gpus=4).physical_to_logical_map
        still = moelb.plan(SMALL, 8, num_gpus=4, previous=before)
        self.assertEqual((still.physical_to_logical_map, still.moves), (before, [0, 0]))
        frozen = moelb.plan(DRIFTED, 8, num_gpus=4, previous=before, max_moves=0)
        self.assertEqual((frozen.physical_to_logical_map, frozen.moves), (before, [0, 0]))
        moved = moelb.plan(DRIFTED, 8, num_gpus=4, previous=before)
        self.assertGreater(sum(moved.moves), 0)
        self.assertLess(sum(moved.imbalance), sum(frozen.imbalance))
        for layer in range(2):
            went = 0
            for g in range(4):
                had, has = before[layer][2 * g : 2 * g + 2], moved.physical_to_logical_map[layer][2 * g : 2 * g + 2]
                went += sum(1 for e in has if e not in had)
            self.assertEqual(went, moved.moves[layer])
        capped = moelb.plan(DRIFTED, 8, num_gpus=4, previous=before, max_moves=1)
        self.assertLessEqual(sum(capped.moves), 1)
        lax = moelb.plan(DRIFTED, 8, num_gpus=4, previous=before, target=9)
        self.assertEqual(lax.moves, [0, 0])

    def test_failed_gpu(self):
        before = moelb.plan(SMALL, 12, num_gpus=4).physical_to_logical_map
        after = moelb.plan(SMALL, 12, num_gpus=4, previous=before, gpu_speed=[1, 0, 1, 1])
        for row in after.physical_to_logical_map:
            self.assertEqual(row[3:6], [-1, -1, -1])
            self.assertEqual(set(row), {-1, 0, 1, 2, 3, 4, 5})

    def test_grown_unit(self):
        before = moelb.plan(SMALL, 8, num_gpus=4).physical_to_logical_map
        grown = moelb.plan(SMALL, 10, num_gpus=5, previous=before, previous_gpus=4)
        self.assertEqual([len(row) for row in grown.physical_to_logical_map], [10, 10])

    def test_windows(self):
        a, b = [[9, 1, 1, 1]], [[1, 1, 1, 9]]
        self.assertEqual(moelb.plan([a], 6, num_gpus=2), moelb.plan(a, 6, num_gpus=2))
        self.assertEqual(moelb.plan([a, b], 6, num_gpus=2, windows=1), moelb.plan(b, 6, num_gpus=2))
        self.assertEqual(moelb.plan([b, a, b], 6, num_gpus=2, windows=2), moelb.plan([a, b], 6, num_gpus=2))
        self.assertEqual(moelb.plan(a, 6, num_gpus=2, windows=3), moelb.plan(a, 6, num_gpus=2))
        both = moelb.plan([a, b], 6, num_gpus=2)
        row = both.physical_to_logical_map[0]
        self.assertAlmostEqual(both.imbalance[0], (imbalance(a[0], row, 2) + imbalance(b[0], row, 2)) / 2)

    def test_uneven_slots_and_workers(self):
        p = moelb.plan(SMALL, 7, num_gpus=3, workers=1, tolerance=-1, timeout=60)
        self.assertEqual(p.gpu_slots, [3, 2, 2])
        self.assertEqual(p, moelb.plan(SMALL, 7, num_gpus=3, workers=2, tolerance=-1))

    def test_shapes(self):
        p = moelb.plan(SMALL, 16, num_gpus=5, gpus_per_node=[2, 3], locality="none", two_nodes=True)
        self.assertEqual([len(r) for r in p.physical_to_logical_map], [16] * len(SMALL))
        ends = [0, 4, 7, 10, 13, 16]
        for row in p.physical_to_logical_map:
            for e in range(6):
                self.assertTrue(e in row[: ends[2]] and e in row[ends[2] :])
        for domains in (2, [2, 2]):
            rows = moelb.plan(SMALL, 16, num_gpus=4, domains=domains, locality="none", two_domains=True).physical_to_logical_map
            for row in rows:
                self.assertTrue(all(e in row[:8] and e in row[8:] for e in range(6)))
        rows = moelb.plan(SMALL, 16, num_gpus=4, everywhere=[2], locality="none").physical_to_logical_map
        for row in rows:
            self.assertTrue(all(2 in row[4 * g : 4 * g + 4] for g in range(4)))
        for bad in (dict(gpus_per_node=[2, 2]), dict(domains=3), dict(everywhere=[99]), dict(everywhere=[1, 1]), dict(two_domains=True)):
            with self.assertRaisesRegex(ValueError, next(iter(bad))):
                moelb.plan(SMALL, 16, num_gpus=5, locality="none", **bad)

    def test_two_nodes(self):
        p = moelb.plan(SMALL, 12, 1, 2, 4, locality="none", two_nodes=True)
        for row in p.physical_to_logical_map:
            self.assertEqual((set(row[:6]), set(row[6:])), (set(range(6)), set(range(6))))
        with self.assertRaisesRegex(ValueError, "two_nodes: 6 experts"):
            moelb.plan(SMALL, 8, 1, 2, 4, locality="none", two_nodes=True)

    def test_split_dispatch_and_locality(self):
        groups = [[8, 8, 1, 1, 1, 1, 1, 1]]
        kept = moelb.plan(groups, 8, 4, 2, 4, locality="groups")
        free = moelb.plan(groups, 8, 4, 2, 4, locality="none")
        some = moelb.plan(groups, 8, 4, 2, 4, off_node_replicas=1, dispatch="split")
        self.assertLessEqual(free.imbalance[0], kept.imbalance[0])
        self.assertLessEqual(some.imbalance[0], kept.imbalance[0] + 1e-12)


class Policy(unittest.TestCase):
    def test_vllm_shape(self):
        fresh = moelb.EplbPolicy.rebalance_experts(SMALL, 8, 1, 1, 4)
        self.assertEqual(fresh, moelb.plan(SMALL, 8, num_gpus=4).physical_to_logical_map)
        kept = moelb.EplbPolicy.rebalance_experts(SMALL, 8, 1, 1, 4, fresh)
        self.assertEqual(kept, fresh)
        grown = moelb.EplbPolicy.rebalance_experts(SMALL, 10, 1, 1, num_ranks=5, old_global_expert_indices=fresh)
        self.assertEqual(grown, moelb.plan(SMALL, 10, num_gpus=5, previous=fresh, previous_gpus=4).physical_to_logical_map)
        other = moelb.EplbPolicy.rebalance_experts(SMALL, 9, 1, 1, 3, fresh)
        self.assertEqual(other, moelb.plan(SMALL, 9, num_gpus=3).physical_to_logical_map)


class Splits(unittest.TestCase):
    def test_split(self):
        placement = [[0, 1, 0, 2], [2, 1, 1, 0]]
        with moelb.Splitter(placement, 2) as s:
            quota, balance = s.split([[10, 4, 3], [0, 0, 0]])
            self.assertEqual(quota, [[5, 4, 5, 3], [0, 0, 0, 0]])
            self.assertAlmostEqual(balance[0], 9 * 2 / 17)
            self.assertEqual(s.split([[1, 2, 3]], first_layer=1)[0], [[3, 0, 2, 1]])
            for wrong in ([[1, 2]], [[1, 2, 3]] * 3, [[1, 2, -3]]):
                with self.assertRaises(ValueError):
                    s.split(wrong)
            with self.assertRaises(TypeError):
                s.split([[1.5, 2, 3]])
        with self.assertRaisesRegex(ValueError, "not an open splitter"):
            s.split([[1, 2, 3]])
        with self.assertRaisesRegex(ValueError, "no replica"):
            moelb.Splitter([[0, 2]], 2)
        self.assertEqual(moelb.Splitter([[0, 1, 0]], 2, gpu_slots=[1, 2], gpu_speed=[1, 1]).split([[4, 2]])[0], [[3, 2, 1]])


class BadInput(unittest.TestCase):
    def test_values(self):
        good = dict(weight=SMALL, num_replicas=8, num_groups=1, num_nodes=1, num_gpus=4)
        moelb.plan(**good)
        for change, message in (
            ({"weight": [[1, -2]]}, r"loads: layer 0, index 1: -2 is negative"),
            ({"weight": [[1, float("nan")]]}, r"loads: layer 0, index 1: NaN"),
            ({"weight": []}, r"loads: no layers"),
            ({"weight": [[]]}, r"loads: layer 0"),
            ({"weight": [[], []]}, r"loads: layer 0"),
            ({"weight": [1, 2]}, r"loads: 1 dimensions"),
            ({"weight": [[1, 2], [1]]}, r"loads: layer 1: 1 numbers, but layer 0 has 2"),
            ({"weight": [[[1, 2]], [[1, 2], [1, 2]]]}, r"loads: window 1: 2 layers"),
            ({"weight": [[1, 10**400]]}, r"loads: layer 0, index 1"),
            ({"num_replicas": 5}, r"num_replicas: 5 replicas for 6 experts"),
            ({"num_replicas": -1}, r"num_replicas: -1: at least 1"),
            ({"num_replicas": 2**64 + 8}, r"num_replicas: 18446744073709551624 is too large"),
            ({"num_replicas": 2**40}, r"num_replicas: 1099511627776"),
            ({"num_gpus": 2**40}, r""),
            ({"num_gpus": 0}, r"num_gpus: 0: at least 1"),
            ({"num_groups": 0}, r"num_groups: 0: at least 1"),
            ({"num_nodes": 3}, r"num_nodes: 4 GPUs cannot be shared evenly by 3 nodes"),
            ({"num_replicas": 9, "policy": "deepseek"}, r"num_replicas: 9 replicas cannot be shared evenly by 4 GPUs"),
            ({"policy": "best"}, r"policy: 'best' is unknown"),
            ({"locality": "near"}, r"locality: 'near' is unknown"),
            ({"gpu_speed": [1, 1]}, r"gpu_speed: 2 speeds for 4 GPUs"),
            ({"gpu_speed": [0, 0, 0, 0]}, r"gpu_speed: all 4 GPUs are out of service"),
            ({"previous": [[0] * 8] * 3}, r"previous: 3 layers"),
            ({"previous": [[-7] * 8] * 2}, r"previous: layer 0, index 0"),
            ({"target": 1.1}, r"target: without previous"),
            ({"target": 0.5, "previous": moelb.plan(**good).physical_to_logical_map}, r"target: 0\.5"),
            ({"previous_gpus": 4}, r"previous_gpus: 4"),
            ({"windows": -1}, r"windows: -1"),
            ({"timeout": 0}, r"timeout: 0"),
            ({"timeout": float("nan")}, r"timeout: nan"),
        ):
            with self.subTest(change), self.assertRaisesRegex(ValueError, message):
                moelb.plan(**{**good, **change})

    def test_types(self):
        good = dict(weight=SMALL, num_replicas=8, num_groups=1, num_nodes=1, num_gpus=4)
        for change in (
            {"weight": "x"},
            {"weight": None},
            {"weight": 3},
            {"weight": ["xy"]},
            {"weight": [[1, "2"]]},
            {"weight": [[1, None]]},
            {"weight": [[1, 2], 3]},
            {"weight": [[[[1]]]]},
            {"weight": {0: [1, 2]}},
            {"num_replicas": 8.0},
            {"num_replicas": None},
            {"num_gpus": "4"},
            {"policy": 1},
            {"gpu_speed": 1},
            {"gpu_speed": [None] * 4},
            {"previous": [[0.5] * 8] * 2},
            {"previous": "x"},
            {"target": "low"},
            {"unknown": 1},
        ):
            with self.subTest(change), self.assertRaises(TypeError):
                moelb.rebalance_experts(**{**good, **change})


class Processes(unittest.TestCase):
    def test_threads(self):
        want = moelb.plan(SMALL, 8, num_gpus=4)
        wrong = []

        def work():
            for _ in range(20):
                if moelb.plan(SMALL, 8, num_gpus=4) != want:
                    wrong.append(1)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])

    @unittest.skipUnless(hasattr(os, "fork"), "no fork here (python)")
    def test_fork_after_use_is_refused(self):
        moelb.plan(SMALL, 8, num_gpus=4)
        pid = os.fork()
        if pid == 0:
            try:
                moelb.plan(SMALL, 8, num_gpus=4)
                os._exit(1)
            except RuntimeError as e:
                os._exit(0 if "forked" in str(e) else 2)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)

    def run_python(self, program, **environment):
        env = {**os.environ, "PYTHONPATH": str(ROOT / "wrapper/python"), **environment}
        return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)

    def test_fork_before_use_works(self):
        done = self.run_python(
            "import os, moelb\n"
            "pid = os.fork()\n"
            "moelb.plan([[1, 2]], 2, num_gpus=2)\n"
            "os._exit(0) if pid == 0 else None\n"
            "print(os.waitpid(pid, 0)[1])\n"
        )
        self.assertEqual((done.stdout, done.stderr), ("0\n", ""))

    def test_no_go(self):
        with tempfile.TemporaryDirectory() as empty:
            done = self.run_python("import moelb", PATH=empty, XDG_CACHE_HOME=empty, MOELB_LIBRARY="")
            self.assertEqual(done.returncode, 1)
            self.assertIn("ImportError: Go is not installed", done.stderr.strip().splitlines()[-1])
            self.assertEqual(list(Path(empty).rglob("*.so")), [])

    def test_library_named(self):
        self.assertIn("ImportError: MOELB_LIBRARY: /nowhere", self.run_python("import moelb", MOELB_LIBRARY="/nowhere").stderr)


if __name__ == "__main__":
    unittest.main()
