import unittest

import numpy as np

import moelb
from tests import case, published


class Published(unittest.TestCase):
    def test_equals_the_published_program(self):
        for c, arguments in published():
            with self.subTest(c["name"]):
                got = moelb.rebalance_experts(np.array(c["weight"]), *arguments)
                for x, k in zip(got, ("phy2log", "log2phy", "logcnt")):
                    self.assertEqual((type(x), x.dtype), (np.ndarray, np.int64))
                    self.assertTrue(np.array_equal(x, np.array(c[k])))

    def test_types_and_layouts(self):
        c, arguments = case("L58E256R288G32")
        w, want = np.array(c["weight"], dtype=np.float32), c["phy2log"]
        for name, a in (
            ("float64", w.astype(np.float64)),
            ("float32", w),
            ("big-endian", w.astype(">f4")),
            ("Fortran order", np.asfortranarray(w)),
            ("a view", np.concatenate([w, w], axis=1)[:, : w.shape[1]]),
            ("read-only", np.frombuffer(w.tobytes(), dtype=np.float32).reshape(w.shape)),
            ("unaligned", np.frombuffer(b"x" + w.tobytes(), dtype=np.uint8)[1:].view(np.float32).reshape(w.shape)),
            ("longdouble", w.astype(np.longdouble)),
        ):
            with self.subTest(name):
                self.assertEqual(moelb.rebalance_experts(a, *arguments)[0].tolist(), want)
        for kind in (np.float16, np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
            small = (w[:2] / w.max() * 100).astype(kind)
            got, want = moelb.rebalance_experts(small, *arguments), moelb.rebalance_experts(small.astype(np.float64), *arguments)
            self.assertTrue(all(np.array_equal(x, y) for x, y in zip(got, want)), kind)


class Others(unittest.TestCase):
    def test_kinds_agree(self):
        w = np.random.default_rng(3).integers(1, 1000, (3, 2, 16))
        a, b = moelb.plan(w, 24, num_gpus=4), moelb.plan(w.tolist(), 24, num_gpus=4)
        self.assertEqual((a.physical_to_logical_map.tolist(), a.imbalance), (b.physical_to_logical_map, b.imbalance))
        moved = moelb.plan(w[0], 24, num_gpus=4, previous=a.physical_to_logical_map.astype(np.int32), gpu_speed=np.array([1, 1, 0.5, 1]))
        self.assertEqual(moved.moves, moelb.plan(w[0].tolist(), 24, num_gpus=4, previous=b.physical_to_logical_map, gpu_speed=[1, 1, 0.5, 1]).moves)
        self.assertEqual(moelb.plan(list(w[0]), np.int64(24), num_gpus=np.int32(4)).physical_to_logical_map, moelb.plan(w[0].tolist(), 24, num_gpus=4).physical_to_logical_map)
        self.assertEqual(type(moelb.EplbPolicy.rebalance_experts(w[0], 24, 1, 1, 4)), np.ndarray)

    def test_split(self):
        quota, _ = moelb.Splitter(np.array([[0, 1, 0, 2]]), 2).split(np.array([[10, 4, 3]], dtype=np.uint16))
        self.assertEqual((quota.dtype, quota.tolist()), (np.dtype(np.int64), [[5, 4, 5, 3]]))

    def test_bad_input(self):
        with self.assertRaisesRegex(ValueError, "loads: layer 0, index 1: -2 is negative"):
            moelb.plan(np.array([[1, -2]]), 2)
        with self.assertRaisesRegex(ValueError, "loads: 0 x 4"):
            moelb.plan(np.zeros((0, 4)), 2)
        for a in (np.array([["1", "2"]]), np.array([[1, None]]), np.array([[1j, 2]]), np.array([["2020-01-01"]], dtype="datetime64")):
            with self.assertRaises(TypeError):
                moelb.plan(a, 2)
        with self.assertRaises(TypeError):
            moelb.plan(np.ones((1, 2)), 2, previous=np.zeros((1, 2)))
