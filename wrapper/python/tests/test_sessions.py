import doctest
import json
import random
import threading
import unittest

import moelb
from moelb import _sessions


class Examples(unittest.TestCase):
    def test_docstrings(self):
        failed, tried = doctest.testmod(_sessions)
        self.assertEqual((failed, tried), (0, 2))


class Prefill(unittest.TestCase):
    def test_steps(self):
        with moelb.PrefillSession(2, max_tokens=2048, cost={"pair": 9.994e-9, "token": 1.48e-4, "step": 0.02}) as unit:
            rng = random.Random(1)
            left = {}
            for i in range(200):
                tokens = rng.randint(1, 9000)
                cached = [rng.randrange(tokens), 0] if i % 2 else rng.randrange(tokens)
                unit.enqueue(f"p{i}", tokens, cached)
                left[f"p{i}"] = [tokens - cached] if i % 2 == 0 else [tokens - c for c in cached]
            while left:
                chunks = unit.step()
                self.assertTrue(chunks)
                for rank in range(2):
                    self.assertLessEqual(sum(c["tokens"] for c in chunks if c["rank"] == rank), 2048)
                for c in chunks:
                    todo = left[c["id"]]
                    if len(todo) == 2:  # as long as on the rank where it starts
                        todo = left[c["id"]] = [todo[c["rank"]]]
                    todo[0] -= c["tokens"]
                    self.assertEqual(c["last"], todo[0] == 0)
                    if c["last"]:
                        del left[c["id"]]
            self.assertEqual(unit.step(), [])
            self.assertEqual(unit.stats(), {"ranks": [{"requests": 0, "tokens": 0, "attention": 0, "kv": 0, "serving": True, "capacity": 0, "over": 0}] * 2, "queued": 0, "imbalance": {"tokens": 1, "attention": 1}})

    def test_other_operations(self):
        unit = moelb.PrefillSession(2, max_kv=5000, patience=-1)
        self.assertEqual([unit.add("a", 4096, cached=1024), unit.add("b", 4096, [0, 4000])], [0, 1])
        unit.done("a")
        unit.done("b")
        unit.enqueue("c", 1000)
        unit.enqueue("d", 1000, leader="c", shared=900)
        unit.set_cached("c", 400)
        unit.drain(0)
        self.assertEqual(unit.step(), [{"id": "c", "rank": 1, "tokens": 600, "last": True, "half": 0}])
        unit.restore(0)
        self.assertEqual([(c["id"], c["tokens"]) for c in unit.step()], [("d", 100)])
        self.assertEqual(unit.send("stats"), unit.stats())

    def test_failures(self):
        unit = moelb.PrefillSession(3, max_kv=[5000, 5000, 9000], speed=[1, 1, 2], max_tokens=1024)
        quote = unit.quote("a", 8000)
        self.assertEqual(quote["rank"], 2)
        self.assertGreater(quote["seconds"], 0)
        self.assertEqual(unit.add("a", 8000), 2)
        self.assertEqual(unit.add("b", 100, among=[1]), 1)
        self.assertEqual(unit.add("c", 4000, rank=0), 0)
        unit.move("b", 0)
        unit.enqueue("d", 3000, among=[1])
        self.assertEqual([(c["id"], c["rank"], c["last"]) for c in unit.step()], [("d", 1, False)])
        self.assertEqual(unit.sync(0, [{"id": "e", "tokens": 50, "computed": 10}, {"id": "b", "tokens": 100, "computed": 60}]), {"entered": ["e"], "gone": ["c"], "moved": []})
        self.assertEqual([(r["id"], r["queued"]) for r in unit.dead(1)], [("d", True)])
        other = moelb.PrefillSession.load(json.loads(json.dumps(unit.snapshot())))
        for u in (unit, other):
            self.assertEqual(u.step(), [])
            u.restore(1)
            u.cancel("e")
            self.assertEqual([c["id"] for c in u.step()], ["d"])
            with self.assertRaisesRegex(ValueError, "request"):
                u.resize(1)
            u.resize(4)
        self.assertEqual(unit.stats(), other.stats())
        kept = moelb.PrefillSession(1, keep_kv=True)
        kept.enqueue("f", 100)
        kept.step()
        self.assertEqual(kept.stats()["ranks"][0]["kv"], 100)
        kept.done("f")


class Decode(unittest.TestCase):
    def test_ledger(self):
        rng = random.Random(2)
        with moelb.DecodeSession(4, kv_capacity=100_000, max_requests=64) as unit:
            kv, rank = {}, {}
            for i in range(2000):
                what = rng.random()
                if what < 0.3 or not kv:
                    kv[str(i)], rank[str(i)] = n, g = rng.randint(1, 3000), 0
                    rank[str(i)] = unit.add(str(i), n, output=rng.randint(0, 500))
                elif what < 0.35:
                    some = [{"id": f"{i}-{j}", "kv": 10 * j + 1} for j in range(3)]
                    for r, g in zip(some, unit.batch(some)):
                        kv[r["id"]], rank[r["id"]] = r["kv"], g
                elif what < 0.7:
                    id = rng.choice(list(kv))
                    unit.done(id)
                    del kv[id], rank[id]
                elif what < 0.9:
                    unit.step()
                    kv = {id: n + 1 for id, n in kv.items()}
                elif what < 0.95:
                    id = rng.choice(list(kv))
                    unit.grow(id, 3)
                    kv[id] += 3
                else:
                    for m in unit.rebalance(2):
                        self.assertEqual(rank[m["id"]], m["from"])
                        rank[m["id"]] = m["to"]
                self.assertNotIn(-1, rank.values())
                if i % 20 == 0:
                    want = [(sum(1 for id in kv if rank[id] == g), sum(n for id, n in kv.items() if rank[id] == g)) for g in range(4)]
                    self.assertEqual([(r["requests"], r["kv"]) for r in unit.stats()["ranks"]], want)
            for id in kv:
                unit.done(id)
            stats = unit.stats()
            self.assertEqual([(r["requests"], r["kv"], r["kept"]) for r in stats["ranks"]], [(0, 0, 0)] * 4)
            self.assertEqual(stats["imbalance"], {"requests": 1, "kv": 1})

    def test_ranks(self):
        unit = moelb.DecodeSession(3, output=100, link=1e6, cost={"kv": 2.6e-8})
        self.assertEqual(sorted(unit.add(id, 100) for id in "abc"), [0, 1, 2])
        self.assertEqual(unit.add("wide", 0, width=3), 0)
        self.assertEqual([(r["id"], r["kv"]) for r in unit.dead(0)], [("a", 100), ("wide", 0)])
        unit.restore(0)
        unit.resize(4)
        self.assertEqual(unit.add("d", 100) in (0, 3), True)
        with self.assertRaisesRegex(ValueError, "ranks: rank 1, which would vanish, holds"):
            unit.resize(1)

    def test_engine(self):
        unit = moelb.DecodeSession(3, kv_capacity=[9000, 9000, 20000], speed=[1, 1, 2])
        self.assertEqual(unit.quote("big", 15000)["rank"], 2)
        self.assertEqual(unit.add("big", 15000), 2)
        self.assertEqual(unit.add("p1", 1010, prefix="p", shared=1000, rank=0), 0)
        self.assertEqual(unit.add("p2", 1020, prefix="p", shared=1000, among=[0, 1]), 0)
        self.assertEqual(unit.add("w", 500, waiting=True, rank=1), 1)
        unit.step()
        unit.grow({"p1": 5, "p2": 6})
        self.assertEqual([r["kv"] for r in unit.stats()["ranks"]], [1000 + 10 + 20 + 2 + 11, 500, 15001])
        unit.start("w")
        unit.move("w", 2)
        self.assertEqual(unit.sync(1, [{"id": "w", "kv": 501}, {"id": "new", "kv": 7}]), {"entered": ["new"], "gone": [], "moved": ["w"]})
        unit.cancel("p1")
        self.assertEqual([r["kv"] for r in unit.stats()["ranks"]], [1000 + 20 + 1 + 6, 508, 15001])
        with self.assertRaisesRegex(ValueError, "never|more than"):
            unit.add("huge", 20000)

    def test_full(self):
        unit = moelb.DecodeSession(1, max_requests=1)
        self.assertEqual([unit.add("a", 1), unit.add("b", 1)], [0, -1])

    def test_snapshot(self):
        first = moelb.DecodeSession(5, kv_capacity=300_000)
        ids = [f'é"\n{i}' + "x" * 200 for i in range(300)]  # a reply longer than any before
        for i, id in enumerate(ids):
            first.add(id, 100 + i * 7919 % 5000)
        state = json.loads(json.dumps(first.snapshot()))
        second = moelb.DecodeSession.load(state)
        for i, id in enumerate(ids):
            for unit in (first, second):
                unit.done(id)
            more = [{"id": f"b{i}", "kv": i}, {"id": f"c{i}", "kv": 5 * i, "output": 9}]
            self.assertEqual(first.batch(more), second.batch(more))
        self.assertEqual(first.snapshot(), second.snapshot())


class BadInput(unittest.TestCase):
    def test_config(self):
        for kind, fields, error, message in (
            (moelb.DecodeSession, {"ranks": 0}, ValueError, "ranks: 0: at least 1"),
            (moelb.DecodeSession, {"ranks": 2**70}, ValueError, "ranks"),
            (moelb.DecodeSession, {"ranks": "3"}, TypeError, 'ranks: "3" is a string'),
            (moelb.DecodeSession, {"ranks": True}, TypeError, "ranks: true"),
            (moelb.DecodeSession, {"ranks": object()}, TypeError, "object object"),
            (moelb.DecodeSession, {"ranks": 3, "kv_capacity": -1}, ValueError, "kv_capacity: -1"),
            (moelb.DecodeSession, {"ranks": 3, "link": float("nan")}, ValueError, "link: NaN"),
            (moelb.DecodeSession, {"ranks": 3, "cost": {"kb": 1}}, ValueError, 'cost: "kb" is an unknown field'),
            (moelb.PrefillSession, {"ranks": 3, "cost": {"pair": "x"}}, ValueError, 'cost.pair: "x" is a string'),
            (moelb.PrefillSession, {"ranks": 3, "max_tokens": 1.5}, ValueError, "max_tokens: 1.5 is not an integer"),
            (moelb.PrefillSession, {"ranks": 3, "max_kv": []}, ValueError, "max_kv: 0 values for 3 ranks"),
            (moelb.PrefillSession, {}, TypeError, "ranks"),
        ):
            with self.subTest(fields), self.assertRaisesRegex(error, message):
                kind(**fields)

    def test_lines(self):
        unit = moelb.DecodeSession(2)
        unit.add("a", 100)
        before = unit.snapshot()
        for op, fields, error, message in (
            ("add", {"id": "a", "kv": 1}, ValueError, 'id: "a" is already known'),
            ("add", {"id": "b", "kv": -1}, ValueError, "kv: -1"),
            ("add", {"id": "b", "kv": None}, ValueError, "kv: missing"),
            ("add", {"id": 7, "kv": 1}, TypeError, "id: 7 is a number"),
            ("add", {"id": "b", "kv": "1"}, TypeError, 'kv: "1" is a string'),
            ("add", {"id": "b", "kv": 1, "kw": 2}, ValueError, "kw: unknown field"),
            ("add", {"id": "b", "kv": 1, "rank": 2}, ValueError, "rank: 2"),
            ("add", {"id": "b", "kv": 1, "to": 0}, ValueError, "to: add has no such field"),
            ("add", {"id": "b", "kv": 1, "prefix": "p"}, ValueError, "prefix and shared"),
            ("grow", {"tokens": {"a": 1, "zz": 1}}, ValueError, 'id: index 1: "zz" is unknown'),
            ("start", {"id": "a"}, ValueError, "runs already"),
            ("add", {"id": "\ud800", "kv": 1}, ValueError, "surrogates"),
            ("add", {"id": "x" * 2000, "kv": 1}, ValueError, "id: "),
            ("batch", {"requests": [{"id": "b", "kv": 1}, {"id": "c"}]}, ValueError, "requests: index 1: kv is missing"),
            ("batch", {"requests": 5}, TypeError, "requests: 5 is a number"),
            ("done", {"id": "zz"}, ValueError, 'id: "zz" is unknown'),
            ("grow", {"id": "a", "tokens": -101}, ValueError, "tokens"),
            ("drain", {"rank": 2}, ValueError, "rank: 2"),
            ("fly", {}, ValueError, 'op: "fly" is unknown'),
            ("config", {"ranks": 2}, ValueError, "op: config a second time"),
            ("load", {"state": {"unit": "xx", "ids": []}}, ValueError, "state"),
        ):
            with self.subTest(op=op, **fields), self.assertRaisesRegex(error, message):
                unit.send(op, **fields)
        self.assertEqual(unit.snapshot(), before)
        with self.assertRaisesRegex(ValueError, "state: "):
            moelb.DecodeSession.load({"unit": "", "ids": ["a"]})

    def test_closed(self):
        with moelb.PrefillSession(2) as unit:
            pass
        unit.close()
        with self.assertRaisesRegex(ValueError, "not an open session"):
            unit.step()


class Threads(unittest.TestCase):
    def test_shared(self):
        unit = moelb.DecodeSession(8)
        wrong = []

        def work(me):
            own = moelb.PrefillSession(2)
            for i in range(300):
                rank = unit.add(f"{me} {i}", i)
                own.enqueue(str(i), i + 1)
                if not 0 <= rank < 8 or [c["id"] for c in own.step()] != [str(i)] or len(unit.snapshot()["ids"]) < 1:
                    wrong.append((me, i))
                unit.done(f"{me} {i}")

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual((wrong, unit.snapshot()["ids"]), ([], []))


if __name__ == "__main__":
    unittest.main()
