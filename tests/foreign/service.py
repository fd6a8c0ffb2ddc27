"""The daemon under test, and a client of a dozen lines made of pynng and msgpack."""
import os
import shlex
import shutil
import socket
import subprocess
import tempfile

import msgpack
import pynng

from attention import decode, encode

LIMIT_S = 20 * max(1.0, float(os.environ.get("FC_TEST_SLOWDOWN", "1")))


class Daemon:
    """flashcored with an ipc and a tcp address of its own; ready when the constructor returns."""

    def __init__(self, *flags):
        self.folder = tempfile.mkdtemp(prefix="flashcored-foreign-")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.urls = {"ipc": "ipc://" + self.folder + "/d.sock", "tcp": f"tcp://127.0.0.1:{port}"}
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(self.folder + "/notify")
        notify.settimeout(LIMIT_S)
        self.log = open(self.folder + "/log", "wb")
        engine = shlex.split(os.environ.get("FC_TEST_ENGINE_ARGS", "--engine cpu"))
        # Paths in the engine's flags are meant from where the suite was started.
        self.process = subprocess.Popen(
            [os.environ["FC_TEST_BUILD"] + "/flashcored"]
            + [word for url in self.urls.values() for word in ("--listen", url)]
            + engine
            + list(flags),
            stderr=self.log,
            cwd=os.environ.get("FC_TEST_ROOT", "../.."),
            env=dict(os.environ, NOTIFY_SOCKET=self.folder + "/notify"),
        )
        try:
            while b"READY=1" not in notify.recv(4096):
                pass
        except TimeoutError:
            self.process.kill()
            raise RuntimeError("the daemon never became ready:\n" + self.read_log()) from None
        finally:
            notify.close()

    def read_log(self):
        with open(self.folder + "/log", encoding="utf-8", errors="replace") as file:
            return file.read()

    def stop(self):
        """SIGTERM; the exit code."""
        self.process.terminate()
        try:
            code = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self.log.close()
        if code != 0:
            print(self.read_log())
        shutil.rmtree(self.folder)
        return code


class Client:
    """One connection; each call in a context of its own, so that many can be under way."""

    def __init__(self, url):
        self.socket = pynng.Req0(recv_timeout=int(LIMIT_S * 1000), send_timeout=int(LIMIT_S * 1000))
        self.socket.resend_time = -1
        # Replies past nng's default limit are wanted here.
        self.socket.recv_max_size = 0
        self.socket.dial(url, block=True)
        self.next_id = 1

    def close(self):
        self.socket.close()

    def start(self, op, **keys):
        """Sends; returns what finish() wants."""
        request_id = keys.pop("id", self.next_id)
        self.next_id += 1
        return self.start_bytes(msgpack.packb({"proto": 1, "id": request_id, "op": op, **keys})), request_id

    def start_bytes(self, data):
        context = self.socket.new_context()
        context.send(data)
        return context

    @staticmethod
    def finish(started):
        context, request_id = started
        reply = msgpack.unpackb(context.recv(), strict_map_key=True)
        context.close()
        assert reply["proto"] == 1 and reply["id"] == request_id, reply
        assert ("error" in reply) == (reply["status"] != "ok"), reply
        return reply

    def call(self, op, **keys):
        return self.finish(self.start(op, **keys))


def tensor(values, dtype):
    return {"dtype": dtype, "shape": list(values.shape), "data": encode(values, dtype)}


def values_of(wire):
    return decode(wire["data"], wire["dtype"], wire["shape"])
