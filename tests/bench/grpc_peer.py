#!/usr/bin/env python3
"""The service a user would write instead: Python gRPC around PyTorch's scaled_dot_product_attention, and its clients.

grpc_peer.py serve B,H,S,D                      prints its address, then answers until its standard input ends
grpc_peer.py drive ADDRESS B,H,S,D CLIENTS SECONDS   prints a JSON object of what that many clients see, a process each

The messages are what protoc would make of

    message Request { bytes q = 1; bytes k = 2; bytes v = 3; repeated int32 shape = 4; }
    message Reply { bytes out = 1; }

made here at run time. Every client is a process with a channel of its own. Needs grpcio, protobuf and numpy; the server
torch, too.
"""
import json
import multiprocessing
import sys
import time

METHOD = "/flashcore.Peer/Attend"
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
WORKERS = 16


def messages():
    """The classes of Request and Reply."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="peer.proto", package="flashcore", syntax="proto3")
    for name, fields in (("Request", ("q", "k", "v", "shape")), ("Reply", ("out",))):
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields, 1):
            is_shape = field == "shape"
            message.field.add(name=field, number=number, type=kinds.TYPE_INT32 if is_shape else kinds.TYPE_BYTES,
                              label=kinds.LABEL_REPEATED if is_shape else kinds.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName("flashcore." + name)) for name in ("Request", "Reply")]


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

    request_class, reply_class = messages()

    @torch.inference_mode()
    def attend(request, _context):
        q, k, v = (torch.frombuffer(data, dtype=torch.float16).reshape(tuple(request.shape)).to(device)
                   for data in (request.q, request.k, request.v))
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return reply_class(out=out.cpu().numpy().tobytes())

    # What PyTorch sets up at the first call is not a client's to wait for.
    zeros = bytes(2 * shape[0] * shape[1] * shape[2] * shape[3])
    attend(request_class(q=zeros, k=zeros, v=zeros, shape=shape), None)
    service, method = METHOD.strip("/").split("/")
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=WORKERS), options=OPTIONS)
    handlers = {method: grpc.unary_unary_rpc_method_handler(
        attend, request_deserializer=request_class.FromString, response_serializer=reply_class.SerializeToString)}
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
    import numpy
    request_class, reply_class = messages()
    random, times = numpy.random.default_rng(1), []
    q, k, v = (random.standard_normal(shape, dtype=numpy.float32).astype(numpy.float16) for _ in range(3))

    def ask(call):
        reply = call(request_class(q=q.tobytes(), k=k.tobytes(), v=v.tobytes(), shape=shape), wait_for_ready=True, timeout=60)
        return numpy.frombuffer(reply.out, dtype=numpy.float16).reshape(shape)

    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        call = channel.unary_unary(METHOD, request_serializer=request_class.SerializeToString,
                                   response_deserializer=reply_class.FromString)
        for _ in range(3):
            if not numpy.isfinite(ask(call)).all():
                raise RuntimeError("a reply that cannot be right")
        gate.wait(60)
        begin = now = time.perf_counter()
        while now < begin + seconds:
            ask(call)
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
