"""Answers against double precision; many under way on one connection; cancel, busy, large messages."""
import unittest

import numpy

from attention import attention, check, decode, encode
from service import Client, Daemon, tensor, values_of

# batch, q_heads, kv_heads, q_len, kv_tokens, head_dim, and the request's options
CASES = {
    "square": ((1, 2, 2, 64, 64, 64), {}),
    "smallest": ((1, 1, 1, 1, 1, 8), {}),
    "odd": ((2, 3, 1, 37, 61, 40), {}),
    "gqa decode": ((3, 8, 2, 1, 130, 128), {}),
    "widest head": ((1, 1, 1, 9, 33, 256), {}),
    "no queries": ((1, 2, 1, 0, 7, 16), {}),
    "no keys": ((1, 2, 1, 5, 0, 16), {}),
    "no batch": ((0, 2, 1, 5, 3, 16), {}),
    "top_left": ((1, 2, 2, 50, 70, 64), {"causal": "top_left"}),
    "bottom_right": ((1, 2, 2, 20, 75, 64), {"causal": "bottom_right"}),
    "bottom_right, empty rows": ((1, 2, 2, 40, 13, 32), {"causal": "bottom_right"}),
    "window": ((1, 2, 2, 50, 50, 64), {"window": [5, 2]}),
    "window, causal": ((1, 2, 1, 66, 66, 64), {"window": [7, -1], "causal": "top_left"}),
    "window, more keys": ((1, 2, 1, 9, 30, 64), {"window": [3, 0]}),
    "kv_len": ((3, 2, 1, 11, 31, 64), {"kv_len": [9, 0, 31]}),
    "kv_len, bottom_right": ((2, 2, 2, 16, 64, 32), {"kv_len": [40, 12], "causal": "bottom_right"}),
    "scale": ((1, 2, 2, 24, 40, 64), {"scale": 0.37}),
    "scale, an integer": ((1, 2, 2, 24, 40, 16), {"scale": 1}),
    "softcap": ((1, 2, 2, 24, 40, 64), {"softcap": 3.5, "scale": 1.0}),
    "all": ((2, 4, 2, 27, 45, 72),
            {"causal": "bottom_right", "window": [20, -1], "kv_len": [45, 33], "scale": 0.2, "softcap": 9.0}),
}


def hold_lane(client):
    """A request that runs for a quarter of a second or more, under way; found by timing shorter ones."""
    length = 256
    while True:
        keys = {name: tensor(numpy.ones((1, 8, length, 64)), "f16") for name in "qkv"}
        if client.call("attend", **keys)["timing"]["kernel_us"] > 250000 or length >= 16384:
            break
        length *= 2
    started = client.start("attend", **keys)
    while client.call("stats")["stats"]["running"] < 1:
        pass
    return started


class Attend(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--lanes", "1")

    @classmethod
    def tearDownClass(cls):
        code = cls.daemon.stop()
        assert code == 0, f"the daemon ended with {code}"

    def setUp(self):
        self.client = Client(self.daemon.urls["ipc"])
        self.random = numpy.random.default_rng(20240611)

    def tearDown(self):
        self.client.close()

    def make(self, sizes, dtype, options):
        """Wire keys and the exact values they hold. Keys at or past kv_len are NaN."""
        batch, q_heads, kv_heads, q_len, kv_tokens, head_dim = sizes
        q = self.random.standard_normal((batch, q_heads, q_len, head_dim))
        k, v = self.random.standard_normal((2, batch, kv_heads, kv_tokens, head_dim))
        for b, n in enumerate(options.get("kv_len", [])):
            k[b, :, n:] = v[b, :, n:] = numpy.nan
        q, k, v = (decode(encode(x, dtype), dtype, x.shape) for x in (q, k, v))
        return q, k, v

    def verify(self, reply, q, k, v, dtype, options, layout="bhsd"):
        self.assertEqual(reply["status"], "ok", reply.get("error"))
        self.assertEqual(reply["out"]["dtype"], dtype)
        self.assertNotEqual(reply["kernel"], "auto")
        timing = reply["timing"]
        parts = timing["queue_us"] + timing["copy_in_us"] + timing["kernel_us"] + timing["copy_out_us"]
        self.assertLessEqual(parts, timing["total_us"] + 1)
        self.assertGreaterEqual(timing["batch"], 1)
        out = values_of(reply["out"])
        if layout == "bshd":
            out = out.transpose(0, 2, 1, 3)
        want, want_lse = attention(q, k, v, **options)
        plain, plain_lse = attention(q, k, v, dtype=dtype, **options)
        check(self, out, want, plain, dtype)
        self.assertEqual(reply["lse"]["dtype"], "f32")
        self.assertEqual(list(reply["lse"]["shape"]), list(q.shape[:3]))
        check(self, values_of(reply["lse"]), want_lse, plain_lse, "f32")

    def test_every_case(self):
        for name, (sizes, options) in CASES.items():
            for dtype in "f16", "bf16", "f32":
                for layout in "bhsd", "bshd":
                    with self.subTest(name, dtype=dtype, layout=layout):
                        q, k, v = self.make(sizes, dtype, options)
                        swap = (lambda x: x.transpose(0, 2, 1, 3)) if layout == "bshd" else (lambda x: x)
                        keys = {"q": tensor(swap(q), dtype), "k": tensor(swap(k), dtype), "v": tensor(swap(v), dtype)}
                        reply = self.client.call("attend", **keys, layout=layout, lse=True, **options)
                        self.verify(reply, q, k, v, dtype, options, layout)

    def test_every_kernel_by_name(self):
        for kernel in self.client.call("hello")["kernels"]:
            q, k, v = self.make((1, 2, 1, 33, 65, 64), "f16", {})
            keys = {"q": tensor(q, "f16"), "k": tensor(k, "f16"), "v": tensor(v, "f16")}
            reply = self.client.call("attend", **keys, kernel=kernel, lse=True)
            self.assertEqual(reply["kernel"], kernel)
            self.verify(reply, q, k, v, "f16", {})

    def test_no_lse_unless_asked(self):
        q, k, v = self.make((1, 1, 1, 2, 3, 8), "f32", {})
        reply = self.client.call("attend", q=tensor(q, "f32"), k=tensor(k, "f32"), v=tensor(v, "f32"))
        self.assertEqual(set(reply), {"proto", "id", "status", "out", "kernel", "device", "timing"})

    def test_a_large_message(self):
        """8 MiB in, 8 MiB out, over both transports."""
        for url in self.daemon.urls.values():
            client = Client(url)
            q, k, v = self.make((1, 8, 1, 8192, 16, 32), "f32", {})
            reply = client.call("attend", q=tensor(q, "f32"), k=tensor(k, "f32"), v=tensor(v, "f32"), lse=True)
            self.verify(reply, q, k, v, "f32", {})
            client.close()

    def test_many_under_way_on_one_connection(self):
        jobs = []
        for i in range(64):
            name = list(CASES)[i % len(CASES)]
            sizes, options = CASES[name]
            dtype = ("f16", "bf16", "f32")[i % 3]
            q, k, v = self.make(sizes, dtype, options)
            keys = {"q": tensor(q, dtype), "k": tensor(k, dtype), "v": tensor(v, dtype)}
            jobs.append((self.client.start("attend", **keys, lse=True, **options), q, k, v, dtype, options, name))
        for started, q, k, v, dtype, options, name in jobs:
            with self.subTest(name, dtype=dtype):
                self.verify(self.client.finish(started), q, k, v, dtype, options)

    def test_cancel_takes_back_what_waits(self):
        held = hold_lane(self.client)
        q, k, v = self.make((1, 1, 1, 2, 3, 8), "f32", {})
        keys = {"q": tensor(q, "f32"), "k": tensor(k, "f32"), "v": tensor(v, "f32"), "lse": True}
        waiting, staying = self.client.start("attend", **keys), self.client.start("attend", **keys)
        while self.client.call("stats")["stats"]["queued"] < 2:
            pass
        stranger = Client(self.daemon.urls["ipc"])
        self.assertEqual(stranger.call("cancel", target=staying[1])["status"], "ok")
        stranger.close()
        self.assertEqual(self.client.call("cancel", target=waiting[1])["status"], "ok")
        self.assertEqual(self.client.finish(waiting)["status"], "cancelled")
        # Another connection's cancel does not reach it, nor does one that comes too late.
        self.assertEqual(self.client.call("cancel", target=held[1])["status"], "ok")
        self.assertEqual(self.client.finish(held)["status"], "ok")
        self.verify(self.client.finish(staying), q, k, v, "f32", {})

    def test_a_deadline_passes_while_waiting(self):
        held = hold_lane(self.client)
        q, k, v = self.make((1, 1, 1, 2, 3, 8), "f32", {})
        keys = {"q": tensor(q, "f32"), "k": tensor(k, "f32"), "v": tensor(v, "f32")}
        late, patient = self.client.start("attend", **keys, deadline_us=1), self.client.start("attend", **keys)
        # Once the server knows how long launches take, it does not keep what cannot be in time.
        self.assertIn(self.client.finish(late)["status"], ("deadline_exceeded", "busy"))
        self.assertEqual(self.client.finish(held)["status"], "ok")
        self.assertEqual(self.client.finish(patient)["status"], "ok")


class Busy(unittest.TestCase):
    def test_a_full_queue(self):
        daemon = Daemon("--lanes", "1", "--queue-requests", "2", "--batch-requests", "1")
        client = Client(daemon.urls["tcp"])
        x = numpy.ones((1, 1, 2, 8))
        keys = {name: tensor(x, "f32") for name in "qkv"}
        held = hold_lane(client)
        waiting = [client.start("attend", **keys) for _ in range(2)]
        while client.call("stats")["stats"]["queued"] < 2:
            pass
        refused = client.call("attend", **keys)
        self.assertEqual(refused["status"], "busy")
        self.assertGreater(refused["retry_after_us"], 0)
        for started in (held, *waiting):
            self.assertEqual(client.finish(started)["status"], "ok")
        client.close()
        self.assertEqual(daemon.stop(), 0)
