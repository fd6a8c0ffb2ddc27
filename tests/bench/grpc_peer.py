#!/usr/bin/env python3
"""The service a user would write instead: Python gRPC around PyTorch's scaled_dot_product_attention, and its clients.

grpc_peer.py serve B,H,S,D                      prints its address, then answers until its standard input ends
grpc_peer.py drive ADDRESS B,H,S,D CLIENTS SECONDS   prints a JSON object of what that many clients see, a process each

A request is the bytes of q, k and v in f16, one behind the other, and the reply those of the output: less than what a
service would have to say in practice, and no protobuf around it. Needs grpcio; the server torch and numpy, too.
"""
import json
import multiprocessing
import sys
import time

METHOD = "/flashcore.Peer/Attend"
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
WORKERS = 16


def sides(text):
    return [int(side) for side in text.split(",")]


# --- the server -----------------------------------------------------------------------------------------------------

def serve(shape):
    import warnings
    from concurrent import futures

    import grpc
    import torch
    device = "cuda" if torch.cuda.is_available() else "cpu"
    warnings.filterwarnings("ignore", message="The given buffer is not writable")

    @torch.inference_mode()
    def attend(request, _context):
        q, k, v = torch.frombuffer(request, dtype=torch.float16).view(3, *shape).to(device)
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).cpu().numpy().tobytes()

    count = shape[0] * shape[1] * shape[2] * shape[3]
    attend(bytes(6 * count), None)  # what PyTorch sets up at the first call is not a client's to wait for
    service, method = METHOD.strip("/").split("/")
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=WORKERS), options=OPTIONS)
    handlers = {method: grpc.unary_unary_rpc_method_handler(attend)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"address": "127.0.0.1:%d" % port, "device": device, "torch": torch.__version__,
                      "grpc": grpc.__version__}), flush=True)
    sys.stdin.read()
    server.stop(None)


# --- its clients ----------------------------------------------------------------------------------------------------

def ask_for(address, shape, seconds, gate, results):
    import grpc
    count = shape[0] * shape[1] * shape[2] * shape[3]
    request, times = bytes(bytearray(range(48, 64)) * (3 * count // 8)), []
    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        call = channel.unary_unary(METHOD)
        for _ in range(3):
            if len(call(request, wait_for_ready=True, timeout=60)) != 2 * count:
                raise RuntimeError("a reply of the wrong size")
        gate.wait(60)
        begin = now = time.perf_counter()
        while now < begin + seconds:
            call(request, timeout=60)
            times.append(time.perf_counter() - now)
            now += times[-1]
    results.put(times)


def drive(address, shape, clients, seconds):
    context = multiprocessing.get_context("fork")  # before grpc has threads: it is imported in the children
    gate, results = context.Barrier(clients), context.Queue()
    processes = [context.Process(target=ask_for, args=(address, shape, seconds, gate, results), daemon=True)
                 for _ in range(clients)]
    for process in processes:
        process.start()
    of_all = [results.get(timeout=120 + seconds) for _ in processes]
    for process in processes:
        process.join()
    times = sorted(second for times in of_all for second in times)
    print(json.dumps({"clients": clients, "requests_per_s": sum(len(times) / sum(times) for times in of_all),
                      "p50_us": times[len(times) // 2] * 1e6, "p99_us": times[len(times) * 99 // 100] * 1e6,
                      "answers": len(times)}))


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "serve":
        serve(sides(sys.argv[2]))
    elif len(sys.argv) == 6 and sys.argv[1] == "drive":
        drive(sys.argv[2], sides(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
