#!/usr/bin/env python3
"""A provider of modules as an author would write one in Python, by docs/modules.md alone.

module.py ADDRESS NAMESPACE GROUP [silent|deaf|unwilling|again]: registers add, who, fail, hang, once, trace and words, and
says so. "again": when its stream ends, it registers again. Their version is $VERSION (1.0); of "who" every $FAIL_EVERY-th call
fails, and each takes $SLOW seconds. Its proto folder is in $PROTO, for TLS its certificates in
$CERTIFICATES, of which it shows none with $ANONYMOUS; with $EXECUTOR it names the executor at that port instead of its own,
with $ELSEWHERE one of that host, with $HANG "once" hangs, with $MORE (c, or c?)
"add" has one more field; with $SECURED (HOST=DIRECTORY) it executes at that host, with TLS
and the server's certificates of that directory. SIGTERM: it takes
its modules back and ends. SIGUSR1: it ends its stream."""

import itertools
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from concurrent import futures

import grpc

sys.path.insert(0, os.environ["PROTO"])
messages, services = grpc.protos_and_services("constellation/provider/v1/provider.proto")

address, namespace, group, mode = (sys.argv[1:] + ["", ""])[:4]
HEARTBEAT = 0.2


def of(kind):
    return messages.TypeSchema(primitive=messages.PrimitiveType(kind=kind))


INT, STRING = of(messages.PrimitiveType.INT), of(messages.PrimitiveType.STRING)


def record(**fields):
    return messages.TypeSchema(record=messages.RecordType(fields=fields))


def tagged(value):
    return {"tag": "CInt", "value": value}


served = itertools.count(1)


def who():
    time.sleep(float(os.environ.get("SLOW", 0)))
    if next(served) % int(os.environ.get("FAIL_EVERY", 1 << 60)) == 0:
        raise RuntimeError("as wanted")
    return tagged(os.getpid())


MODULES = {
    "add": (record(a=INT, b=INT), INT, lambda given: tagged(given["a"]["value"] + given["b"]["value"])),
    "who": (record(), INT, lambda given: who()),
    "fail": (record(), INT, lambda given: 1 // 0),
    "hang": (record(), INT, lambda given: time.sleep(1000)),
    "once": (record(), INT, lambda given: time.sleep(1000) if "HANG" in os.environ else tagged(os.getpid())),
    "trace": (record(), STRING, lambda given: {"tag": "CString", "value": here.metadata.get("traceparent", "")}),
    # Its input is no record: it comes as the field "input".
    "words": (
        STRING,
        messages.TypeSchema(list=messages.ListType(element_type=STRING)),
        lambda given: {
            "tag": "CList",
            "value": [{"tag": "CString", "value": word} for word in given["input"]["value"].split()],
            "subtype": {"tag": "CString"},
        },
    ),
}


# "add" can be declared with one more field, "c"; with "?" it may be left out.
if "MORE" in os.environ:
    more = INT if os.environ["MORE"] == "c" else messages.TypeSchema(option=messages.OptionType(inner_type=INT))
    MODULES["add"] = (record(a=INT, b=INT, c=more), *MODULES["add"][1:])

here = threading.local()


class Executor(services.ModuleExecutorServicer):
    def Execute(self, request, context):
        if request.module_name not in MODULES:
            error = messages.ExecutionError(code="MODULE_NOT_FOUND", message=f"Module not found: {request.module_name}")
            return messages.ExecuteResponse(error=error)
        try:
            given = json.loads(request.input_data)
            assert given["tag"] == "CProduct", given
            here.metadata = request.metadata
            answer = MODULES[request.module_name][2](given["value"])
            return messages.ExecuteResponse(output_data=json.dumps(answer).encode())
        except Exception as e:
            error = messages.ExecutionError(
                code="RUNTIME_ERROR", message=str(e), stack_trace=traceback.format_exc(limit=-1)
            )
            return messages.ExecuteResponse(error=error)


executor = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
services.add_ModuleExecutorServicer_to_server(Executor(), executor)
host = "localhost"
if "SECURED" in os.environ:
    host, directory = os.environ["SECURED"].split("=", 1)
    key, certificate, authority = (
        open(os.path.join(directory, name), "rb").read() for name in ("server.key", "server.pem", "ca.pem")
    )
    shown = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
    port = executor.add_secure_port(f"{host}:0", shown)
else:
    port = executor.add_insecure_port("127.0.0.1:0")
if mode == "deaf":
    port = 1
port = int(os.environ.get("EXECUTOR", port))
executor.start()



def channel():
    if "CERTIFICATES" not in os.environ:
        return grpc.insecure_channel(address)

    def file(name):
        with open(os.path.join(os.environ["CERTIFICATES"], name), "rb") as f:
            return f.read()

    if "ANONYMOUS" in os.environ:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(file("ca.pem")))
    return grpc.secure_channel(
        address, grpc.ssl_channel_credentials(file("ca.pem"), file("client.key"), file("client.pem"))
    )


service = services.ModuleProviderStub(channel())


def register(metadata=()):
    answer = service.Register(
        messages.RegisterRequest(
            namespace=namespace,
            modules=[messages.ModuleDeclaration(name=name, input_schema=given, output_schema=result,
                                                version=os.environ.get("VERSION", "1.0"))
                     for name, (given, result, _) in MODULES.items()],
            protocol_version=1,
            executor_url=f"{os.environ.get('ELSEWHERE', host)}:{port}",
            group_id=group,
        ),
        metadata=metadata,
    )
    for result in answer.results:
        if not result.accepted:
            print(f"rejected {result.module_name}: {result.rejection_reason}", flush=True)
    if not answer.success:
        sys.exit(3)
    return answer.connection_id


connection = register()
outgoing = queue.Queue()


def say(**payload):
    outgoing.put(messages.ControlMessage(protocol_version=1, connection_id=connection, **payload))


def beat():
    while True:
        say(heartbeat=messages.Heartbeat(namespace=namespace, timestamp=int(time.time() * 1000)))
        if mode == "silent":
            return
        time.sleep(HEARTBEAT)


def listen():
    try:
        for message in service.ControlPlane(iter(outgoing.get, None)):
            kind = message.WhichOneof("payload")
            if kind == "heartbeat_ack" and not listen.is_acknowledged:
                listen.is_acknowledged = True
                print(f"active {connection}", flush=True)
            elif kind == "drain_request":
                print(f"drain {message.drain_request.reason}", flush=True)
                say(drain_ack=messages.DrainAck(accepted=mode != "unwilling"))
            elif kind == "active_modules_report":
                print("report " + " ".join(sorted(message.active_modules_report.active_modules)), flush=True)
        print("the stream ended", flush=True)
    except grpc.RpcError as e:
        print(f"the stream failed: {e.code().name}", flush=True)


def stay():
    global connection, outgoing
    listen()
    while mode == "again":
        try:
            connection = register([("provost-connection-id", connection)])
            outgoing = queue.Queue()
            listen.is_acknowledged = False
            listen()
        except grpc.RpcError:
            time.sleep(0.1)


def leave(*_):
    global mode
    mode = ""
    # Existing providers close the stream first.
    outgoing.put(None)
    service.Deregister(
        messages.DeregisterRequest(namespace=namespace, module_names=list(MODULES), connection_id=connection)
    )
    os._exit(0)


listen.is_acknowledged = False
threading.Thread(target=beat, daemon=True).start()
signal.signal(signal.SIGUSR1, lambda *_: outgoing.put(None))
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
threading.Thread(target=stay, daemon=True).start()
while True:
    signal.pause()
