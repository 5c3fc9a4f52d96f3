#!/usr/bin/env python3
"""A provider that does everything wrong that the protocol lets it do: huge and deep messages, floods, wrong orders.

hostile.py ADDRESS: tries each on one connection, and says what came of it, one on a line. Its proto folder is in $PROTO."""

import os
import queue
import sys

import grpc

sys.path.insert(0, os.environ["PROTO"])
messages, services = grpc.protos_and_services("constellation/provider/v1/provider.proto")

address = sys.argv[1]
HUGE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
channel = grpc.insecure_channel(address, options=HUGE)
service = services.ModuleProviderStub(channel)
WHOLE = messages.TypeSchema(primitive=messages.PrimitiveType(kind=messages.PrimitiveType.INT))
MIB = 1 << 20


def module(name="m", **fields):
    return messages.ModuleDeclaration(**{"name": name, "input_schema": WHOLE, "output_schema": WHOLE, **fields})


def register(namespace="mine", modules=None, url="localhost:1", **more):
    request = messages.RegisterRequest(
        namespace=namespace, modules=[module()] if modules is None else modules, executor_url=url,
        **{"protocol_version": 1, **more},
    )
    return service.Register(request)


def tried(what, work):
    try:
        answer = work()
        why = "rejection_reason" if isinstance(answer, messages.RegisterResponse) else "error"
        reasons = {getattr(result, why) for result in answer.results} - {""}
        said = "accepted" if answer.success else " | ".join(sorted(reasons))
    except grpc.RpcError as e:
        said = f"{e.code().name}: {e.details()}"
    print(f"{what}: {said[:200]}", flush=True)


def lists(levels):
    inner = WHOLE
    for _ in range(levels - 1):
        inner = messages.TypeSchema(list=messages.ListType(element_type=inner))
    return inner


def field(number, content):
    size, left = b"", len(content)
    while left > 127:
        size, left = size + bytes([left & 127 | 128]), left >> 7
    return bytes([number << 3 | 2]) + size + bytes([left]) + content


def raw(request):
    """Bytes that the library here would not make."""
    method = "/constellation.provider.v1.ModuleProvider/Register"
    return channel.unary_unary(method, response_deserializer=messages.RegisterResponse.FromString)(request)


def deeper(levels):
    inner = WHOLE.SerializeToString()
    for _ in range(levels - 1):
        inner = field(3, field(1, inner))
    return raw(field(1, b"mine") + field(2, field(1, b"m") + field(2, inner)) + b"\x18\x01" + field(4, b"localhost:1"))


def wide(fields):
    return messages.TypeSchema(record=messages.RecordType(fields={f"f{n}": WHOLE for n in range(fields)}))


def deregister(namespace, connection, names=("m",)):
    return service.Deregister(
        messages.DeregisterRequest(namespace=namespace, module_names=names, connection_id=connection)
    )


# What cannot be registered.
tried("deep", lambda: register(modules=[module(input_schema=lists(33))]))
tried("deeper", lambda: deeper(60))
tried("deepest", lambda: deeper(10000))
tried("wide", lambda: register(modules=[module(output_schema=wide(1001))]))
tried("long namespace", lambda: register(namespace="n" * MIB))
tried("long name", lambda: register(modules=[module("m" * MIB)]))
tried("long url", lambda: register(url="h" * MIB))
tried("long text", lambda: register(modules=[module(description="d" * MIB)]))
tried("long group", lambda: register(group_id="g" * MIB))
tried("many", lambda: register(modules=[module(f"m{n}") for n in range(1001)]))
tried("twice", lambda: register(modules=[module(), module()]))
tried("too large", lambda: register(modules=[module(description="d" * 5 * MIB)]))
tried("old", lambda: register(protocol_version=0))
tried("negative", lambda: register(protocol_version=-1))
for url in (":9090", "[::1", "[::1]garbage", "a:b:80", "localhost:0", "localhost:70000", "localhost:+1", "http://localhost:1", " "):
    tried(f"url {url}", lambda: register(url=url))
for namespace in ("", ".", "ml.", "ml..x", "1ml", "a b", "stdlib.math"):
    tried(f"namespace {namespace!r}", lambda: register(namespace=namespace))
tried("not text", lambda: raw(b"\x0a\x02\xff\xfe"))
tried("not a message", lambda: raw(b"\xff" * 100))
tried("nothing but modules", lambda: raw(b"\x12\x00" * 2 * MIB))
tried("no method", lambda: channel.unary_unary(
    "/constellation.provider.v1.ModuleProvider/Restart",
    response_deserializer=messages.RegisterResponse.FromString,
)(b""))

# All that was rejected has left nothing, and the connection is as good as before.
first = register()
print("after that:", first.success, flush=True)


def beat(connection, **more):
    heartbeat = messages.Heartbeat(namespace="mine", timestamp=7)
    return messages.ControlMessage(
        **{"protocol_version": 1, "connection_id": connection, "heartbeat": heartbeat, **more}
    )


def conversation(*said):
    """Says this, each after an acknowledgement, and half-closes; what came of it."""
    outgoing, acknowledged = queue.Queue(), []
    for message in said:
        outgoing.put(message)
    outgoing.put(None)
    try:
        for answer in service.ControlPlane(iter(outgoing.get, None)):
            acknowledged.append(answer.heartbeat_ack.timestamp)
        return f"{len(acknowledged)} acknowledged, then the end"
    except grpc.RpcError as e:
        return f"{len(acknowledged)} acknowledged, then {e.code().name}: {e.details()}"


# What only the service says, an acknowledgement of no drain, nothing at all, and 1 MiB of name: all passed over.
odd = [
    beat(first.connection_id),
    messages.ControlMessage(heartbeat_ack=messages.HeartbeatAck(timestamp=1)),
    messages.ControlMessage(drain_request=messages.DrainRequest(reason="x", deadline_ms=-1)),
    messages.ControlMessage(active_modules_report=messages.ActiveModulesReport(active_modules=["m"] * 1000)),
    messages.ControlMessage(drain_ack=messages.DrainAck(accepted=True, in_flight_count=-1)),
    messages.ControlMessage(),
    beat("", heartbeat=messages.Heartbeat(namespace="n" * MIB, timestamp=-(1 << 63))),
]
print("odd:", conversation(*odd), flush=True)
# The half-close has taken the modules back, and what comes after it is answered.
tried("deregistered after the end", lambda: deregister("mine", first.connection_id))
second = register()
print("free again:", second.success, flush=True)
# The other order: the stream is still there.
outgoing = queue.Queue()
outgoing.put(beat(second.connection_id))
stream = service.ControlPlane(iter(outgoing.get, None))
next(stream)
tried("deregistered before the end", lambda: deregister("mine", second.connection_id))
try:
    print("its stream:", [message.WhichOneof("payload") for message in stream], flush=True)
except grpc.RpcError as e:
    print("its stream:", e.code().name, flush=True)
tried("deregistered twice", lambda: deregister("mine", second.connection_id))
tried("of nobody", lambda: deregister("nobody", ""))
tried("many names", lambda: deregister("mine", "", ["m"] * 100000))
last = register()
print("at the end:", last.success, deregister("mine", last.connection_id).success, flush=True)
