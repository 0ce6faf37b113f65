import time
import unittest

import torch

import moelb
from tests import case, published, simple


def tensors(c):
    return tuple(torch.tensor(c[k], dtype=torch.int64) for k in ("phy2log", "log2phy", "logcnt"))


def timed(runs, function, *arguments):
    """The seconds of each run, the fastest first, and the answer."""
    seconds, answer = [], None
    for _ in range(runs):
        start = time.perf_counter()
        answer = function(*arguments)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds), answer


def same(a, b):
    return all(x.dtype == y.dtype and x.shape == y.shape and torch.equal(x, y) for x, y in zip(a, b))


class Published(unittest.TestCase):
    def test_equals_the_published_program(self):
        for c, arguments in published():
            with self.subTest(c["name"]):
                got = moelb.rebalance_experts(torch.tensor(c["weight"]), *arguments)
                self.assertTrue(all(isinstance(x, torch.Tensor) and x.device.type == "cpu" for x in got))
                self.assertTrue(same(got, tensors(c)))

    def test_types_and_layouts(self):
        c, arguments = case("L58E256R288G32")
        w, want = torch.tensor(c["weight"]), tensors(c)
        whole = bool((w == w.round()).all())
        for name, t in (
            ("float64", w.double()),
            ("float32", w.float()),
            ("transposed", w.float().t().contiguous().t()),
            ("a view", torch.cat([w.float(), w.float()], dim=1)[:, : w.shape[1]]),
            ("with gradient", w.float().requires_grad_()),
            *((("int64", w.long()), ("int32", w.int())) if whole else ()),
        ):
            with self.subTest(name):
                before = t.clone()
                self.assertTrue(same(moelb.rebalance_experts(t, *arguments), want))
                self.assertTrue(torch.equal(t, before))
        for kind in (torch.float16, torch.bfloat16, torch.uint8, torch.int16):
            small = (w[:2] / w.max() * 100).to(kind)
            self.assertTrue(same(moelb.rebalance_experts(small, *arguments), moelb.rebalance_experts(small.float(), *arguments)))


class Others(unittest.TestCase):
    def test_previous_and_windows(self):
        torch.manual_seed(3)
        w = torch.randint(1, 1000, (3, 2, 16))
        a = moelb.plan(w, 24, num_gpus=4)
        b = moelb.plan(w.tolist(), 24, num_gpus=4)
        self.assertEqual((a.physical_to_logical_map.tolist(), a.imbalance), (b.physical_to_logical_map, b.imbalance))
        self.assertEqual(a.logical_to_physical_map.dtype, torch.int64)
        moved = moelb.plan(w[0], 24, num_gpus=4, previous=a.physical_to_logical_map.int())
        self.assertEqual(moved.moves, moelb.plan(w[0].tolist(), 24, num_gpus=4, previous=b.physical_to_logical_map).moves)
        last = moelb.plan(w.float(), 24, num_gpus=4, windows=1)
        self.assertTrue(torch.equal(last.physical_to_logical_map, moelb.plan(w[2], 24, num_gpus=4).physical_to_logical_map))

    def test_vllm_shape(self):
        w = torch.arange(1, 33).reshape(2, 16)
        new = moelb.EplbPolicy.rebalance_experts(w, 24, 1, 1, 4)
        self.assertEqual((new.dtype, tuple(new.shape), new.device), (torch.int64, (2, 24), w.device))
        self.assertTrue(torch.equal(moelb.EplbPolicy.rebalance_experts(w, 24, 1, 1, 4, new), new))

    def test_split(self):
        s = moelb.Splitter(torch.tensor([[0, 1, 0, 2]]), 2)
        quota, _ = s.split(torch.tensor([[10, 4, 3]], dtype=torch.int32))
        self.assertEqual((quota.dtype, quota.tolist()), (torch.int64, [[5, 4, 5, 3]]))

    def test_bad_input(self):
        for w, message in (
            (torch.tensor([[1.0, -2.0]]), "loads: layer 0, index 1: -2 is negative"),
            (torch.tensor([[1.0, float("inf")]]), "loads: layer 0, index 1"),
            (torch.tensor([1.0]), "loads: 1 dimensions"),
            (torch.zeros(0, 4), "loads: 0 x 4"),
        ):
            with self.assertRaisesRegex(ValueError, message):
                moelb.plan(w, 2)
        with self.assertRaises(TypeError):
            moelb.plan(torch.zeros(1, 2, dtype=torch.complex64), 2)
        with self.assertRaises(TypeError):
            moelb.plan(torch.ones(1, 2), 2, previous=torch.zeros(1, 2))


class Speed(unittest.TestCase):
    """The drop-in against the published algorithm written in Python, on the same tensor in the same run.

    Each at its best of several runs; Python with one thread, because more slow it down.
    """

    def test_speed(self):
        self.addCleanup(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        for name, times in (("L58E256R288G32", 200), ("L58E256R288G144", 1000)):
            c, arguments = case(name)
            w = torch.tensor(c["weight"])
            want = tensors(c)
            slow, theirs = timed(3, simple.rebalance_experts, w, *arguments)
            fast, ours = timed(100, moelb.rebalance_experts, w, *arguments)
            ratio = slow[0] / fast[0]
            print(f"{name}: {1e3 * slow[0]:.0f} ms in Python, {1e3 * fast[0]:.3f} ms here (median {1e3 * fast[50]:.3f}): {ratio:.0f} times faster")
            self.assertTrue(same(theirs, want), name)
            self.assertTrue(same(ours, want), name)
            self.assertGreater(ratio, times, name)
