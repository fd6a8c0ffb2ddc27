"""hello, ping, stats, refusals, and the conventions every reply follows."""
import math
import struct
import unittest

import msgpack
import numpy

from service import Client, Daemon, tensor


class Basics(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.daemon = Daemon("--tensor-bytes", "1M", "--message-bytes", "4M")

    @classmethod
    def tearDownClass(cls):
        code = cls.daemon.stop()
        assert code == 0, f"the daemon ended with {code}"

    def setUp(self):
        self.clients = {name: Client(url) for name, url in self.daemon.urls.items()}
        self.client = self.clients["ipc"]

    def tearDown(self):
        for client in self.clients.values():
            client.close()

    def attend_keys(self, **changes):
        q, kv = numpy.zeros((1, 2, 3, 8)), numpy.zeros((1, 1, 5, 8))
        keys = {"q": tensor(q, "f32"), "k": tensor(kv, "f32"), "v": tensor(kv, "f32"), **changes}
        return {name: value for name, value in keys.items() if value is not None}

    def test_hello(self):
        for client in self.clients.values():
            reply = client.call("hello")
            self.assertEqual(reply["server"], "flashcored")
            self.assertTrue(reply["kernels"])
            self.assertTrue(reply["default_kernel"] == "auto" or reply["default_kernel"] in reply["kernels"])
            self.assertEqual(reply["limits"]["tensor_bytes"], 1 << 20)
            self.assertEqual(reply["limits"]["message_bytes"], 4 << 20)
            self.assertTrue(all(isinstance(value, int) and value > 0 for value in reply["limits"].values()))
            for feature in "inline", "gqa", "lse", "kv_len", "window", "softcap", "deadline", "cancel", "stats":
                self.assertIn(feature, reply["features"])

    def test_ping_adds_nothing(self):
        for client in self.clients.values():
            self.assertEqual(set(client.call("ping")), {"proto", "id", "status"})

    def test_ids_of_any_size(self):
        for request_id in 0, 1, 127, 128, 255, 65535, 65536, 2**32, 2**63, 2**64 - 1:
            self.client.call("ping", id=request_id)

    def test_stats_is_flat_and_counts(self):
        before = self.client.call("stats")["stats"]
        for _ in range(5):
            self.client.call("ping")
        after = self.client.call("stats")["stats"]
        self.assertTrue(all(isinstance(value, (int, float)) for value in after.values()))
        self.assertGreaterEqual(after["requests_ping"], before["requests_ping"] + 5)

    def test_integers_of_any_width(self):
        """Section 2.2: any integer format, signed or not."""
        for encoded in b"\x01", b"\xcc\x01", b"\xcd\0\x01", b"\xce\0\0\0\x01", b"\xcf" + bytes(7) + b"\x01", b"\xd0\x01", \
                b"\xd1\0\x01", b"\xd2\0\0\0\x01", b"\xd3" + bytes(7) + b"\x01":
            message = b"\x83" + b"".join(
                [msgpack.packb("id"), struct.pack(">BQ", 0xCF, 99), msgpack.packb("op"), msgpack.packb("ping"),
                 msgpack.packb("proto"), encoded])
            reply = self.client.finish((self.client.start_bytes(message), 99))
            self.assertEqual(reply["status"], "ok")

    def test_unknown_keys_are_ignored(self):
        reply = self.client.call("attend", **self.attend_keys(x=1, y={"a": [1, {"b": None}]}, z=b"\0" * 100))
        self.assertEqual(reply["status"], "ok")

    def test_refusals(self):
        nan, five = float("nan"), numpy.zeros((1, 1, 5, 8))
        rows = [
            ({"op": "fly"}, "unsupported", "op"),
            ({"q": None}, "invalid_argument", "q"),
            ({"k": {"dtype": "f32", "shape": [1, 1, 5, 8]}}, "invalid_argument", "k"),
            ({"v": tensor(five, "f16")}, "invalid_argument", "v"),
            ({"q": {"dtype": "f64", "shape": [1, 1, 1, 8], "data": bytes(64)}}, "invalid_argument", "q"),
            ({"q": {"dtype": "f32", "shape": [1, 2, 3, 8], "data": bytes(191)}}, "invalid_argument", "q"),
            ({"q": {"dtype": "f32", "shape": [2, 3, 8], "data": bytes(192)}}, "invalid_argument", "q"),
            ({"q": {"dtype": "f32", "shape": [1, 2, 3, -8], "data": b""}}, "invalid_argument", "q"),
            ({"q": {"dtype": "f32", "shape": [1, 2, 3, 8], "data": "x" * 192}}, "invalid_argument", "q"),
            ({"q": {"dtype": "f32", "shape": [1, 2, 3, 8], "arena": 1, "offset": 0}}, "unsupported", "arena"),
            ({"q": {"dtype": "f32", "shape": [1, 1, 1, 12], "data": bytes(48)},
              "k": {"dtype": "f32", "shape": [1, 1, 1, 12], "data": bytes(48)},
              "v": {"dtype": "f32", "shape": [1, 1, 1, 12], "data": bytes(48)}}, "unsupported", "head_dim"),
            ({"q": {"dtype": "f32", "shape": [1, 1, 32769, 8], "data": bytes(32769 * 32)}}, "too_large", "q"),
            ({"layout": "sbhd"}, "invalid_argument", "layout"),
            ({"causal": True}, "invalid_argument", "causal"),
            ({"window": [1]}, "invalid_argument", "window"),
            ({"window": [-2, 0]}, "invalid_argument", "window"),
            ({"scale": nan}, "invalid_argument", "scale"),
            ({"scale": -0.5}, "invalid_argument", "scale"),
            ({"softcap": math.inf}, "invalid_argument", "softcap"),
            ({"kv_len": [6]}, "invalid_argument", "kv_len"),
            ({"kv_len": [1, 1]}, "invalid_argument", "kv_len"),
            ({"kv_len": [None]}, "invalid_argument", "kv_len"),
            ({"kernel": "magic"}, "invalid_argument", "kernel"),
            ({"lse": 1}, "invalid_argument", "lse"),
            ({"lse": None}, "ok", None),
            ({"deadline_us": -1}, "invalid_argument", "deadline_us"),
        ]
        for changes, status, key in rows:
            with self.subTest(str(changes)[:80]):
                op = changes.get("op", "attend")
                keys = self.attend_keys(**{name: value for name, value in changes.items() if name != "op"})
                reply = self.client.call(op, **keys)
                self.assertEqual(reply["status"], status, reply.get("error"))
                if key is not None:
                    self.assertIn(key, reply["error"])
                    self.assertEqual(set(reply), {"proto", "id", "status", "error"})

    def test_nil_is_no_default(self):
        keys = self.attend_keys()
        keys["scale"] = None
        self.assertEqual(self.client.call("attend", **keys)["status"], "invalid_argument")

    def test_garbage_is_answered(self):
        for data in b"", b"\xc1", b"\xdd\x1f\xff\xff\xff", b"\x91" * 5000, bytes(range(255, 0, -1)), msgpack.packb([1, 2]):
            with self.subTest(data[:8]):
                context = self.client.start_bytes(data)
                reply = msgpack.unpackb(context.recv())
                context.close()
                self.assertNotEqual(reply["status"], "ok")
                self.assertEqual(reply["id"], 0)
        self.assertEqual(self.client.call("ping")["status"], "ok")

    def test_another_protocol_version(self):
        context = self.client.start_bytes(msgpack.packb({"id": 4, "op": "ping", "proto": 2}))
        reply = msgpack.unpackb(context.recv())
        context.close()
        self.assertEqual((reply["status"], reply["proto"], reply["id"]), ("unsupported", 1, 4))

    def test_cancel_of_nothing(self):
        self.assertEqual(set(self.client.call("cancel", target=10**12)), {"proto", "id", "status"})
