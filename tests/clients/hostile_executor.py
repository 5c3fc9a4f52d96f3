#!/usr/bin/env python3
"""A provider whose modules answer everything that is no answer. hostile_executor.py ADDRESS; its proto folder is in $PROTO."""

import os
import queue
import sys
import threading
import time
from concurrent import futures

import grpc

sys.path.insert(0, os.environ["PROTO"])
messages, services = grpc.protos_and_services("constellation/provider/v1/provider.proto")

address = sys.argv[1]
WHOLE = messages.TypeSchema(primitive=messages.PrimitiveType(kind=messages.PrimitiveType.INT))
NOTHING = messages.TypeSchema(record=messages.RecordType())
MIB = 1 << 20


def error(**fields):
    return messages.ExecuteResponse(error=messages.ExecutionError(**fields))


def output(text):
    return messages.ExecuteResponse(output_data=text if isinstance(text, bytes) else text.encode())


ANSWERS = {
    "good": output('{"tag":"CInt","value":7,"more":[1]}'),
    "empty": messages.ExecuteResponse(),
    "nothing": output(b""),
    "notJson": output("<html>"),
    "notText": output(b'"\xff\xfe"'),
    "lone": output('{"tag":"CString","value":"\\ud800"}'),
    "deep": output('{"tag":"CList","value":[' * 200 + "]}" * 200),
    "fraction": output('{"tag":"CInt","value":1.5}'),
    "huge": output('{"tag":"CInt","value":1e400}'),
    "over": output('{"tag":"CInt","value":9223372036854776000}'),
    "whole": output('{"tag":"CInt","value":3.0}'),
    "other": output('{"tag":"CString","value":"7"}'),
    "untagged": output("7"),
    "large": output(b'"' + b"x" * (5 * MIB) + b'"'),
    "longError": error(code="C" * MIB, message="m" * MIB, stack_trace="s" * MIB),
    "rudeError": error(code="RUNTIME_ERROR", message="\x1b[31mred\nline", stack_trace="\x07"),
}


class Executor(services.ModuleExecutorServicer):
    def Execute(self, request, context):
        if request.module_name == "internal":
            raise RuntimeError("as wanted")
        if request.module_name == "exhausted":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        return ANSWERS[request.module_name]


HUGE = [("grpc.max_send_message_length", -1)]
executor = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=HUGE)
services.add_ModuleExecutorServicer_to_server(Executor(), executor)
port = executor.add_insecure_port("127.0.0.1:0")
executor.start()
service = services.ModuleProviderStub(grpc.insecure_channel(address))
answer = service.Register(messages.RegisterRequest(
    namespace="odd", protocol_version=1, executor_url=f"localhost:{port}",
    modules=[messages.ModuleDeclaration(name=name, input_schema=NOTHING, output_schema=WHOLE)
             for name in [*ANSWERS, "internal", "exhausted"]],
))
assert answer.success, answer
outgoing = queue.Queue()


def beat():
    while True:
        outgoing.put(messages.ControlMessage(
            protocol_version=1, connection_id=answer.connection_id, heartbeat=messages.Heartbeat(namespace="odd")
        ))
        time.sleep(0.2)


threading.Thread(target=beat, daemon=True).start()
for n, _ in enumerate(service.ControlPlane(iter(outgoing.get, None))):
    if n == 0:
        print(f"active {answer.connection_id}", flush=True)
