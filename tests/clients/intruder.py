#!/usr/bin/env python3
"""A provider that tries what is another's.

intruder.py ADDRESS OWN VICTIM ID: registers OWN, and then names the connection ID of the namespace VICTIM wherever
an id goes. Says what came of each attempt, one on a line. Its proto folder is in $PROTO."""

import os
import queue
import sys

import grpc

sys.path.insert(0, os.environ["PROTO"])
messages, services = grpc.protos_and_services("constellation/provider/v1/provider.proto")

address, own, victim, stolen = sys.argv[1:]
service = services.ModuleProviderStub(grpc.insecure_channel(address))
whole = messages.TypeSchema(primitive=messages.PrimitiveType(kind=messages.PrimitiveType.INT))


def register(namespace, url, **more):
    module = messages.ModuleDeclaration(name="add", input_schema=whole, output_schema=whole)
    return service.Register(
        messages.RegisterRequest(
            namespace=namespace, modules=[module], protocol_version=1, executor_url=url, **more
        )
    )


def beat(connection):
    return messages.ControlMessage(
        protocol_version=1, connection_id=connection, heartbeat=messages.Heartbeat(namespace=own)
    )


def stream(*connections):
    """Beats for these on one stream, each after the answer to the one before; what comes of the last one."""
    outgoing, acknowledged = queue.Queue(), 0
    outgoing.put(beat(connections[0]))
    try:
        for message in service.ControlPlane(iter(outgoing.get, None)):
            acknowledged += message.WhichOneof("payload") == "heartbeat_ack"
            outgoing.put(beat(connections[acknowledged]) if acknowledged < len(connections) else None)
        return f"{acknowledged} acknowledged"
    except grpc.RpcError as e:
        return f"{acknowledged} acknowledged, then {e.code().name}"


def deregister(namespace, connection):
    answer = service.Deregister(
        messages.DeregisterRequest(namespace=namespace, module_names=["add"], connection_id=connection)
    )
    return f"{answer.success} {answer.results[0].error}"


def rejected(answer):
    return f"{answer.success} {answer.results[0].rejection_reason}"


print("taken:", rejected(register(victim, "localhost:1")), flush=True)
print("group:", rejected(register(victim, "localhost:1", group_id="g")), flush=True)
print("unknown:", stream("00000000-0000-4000-8000-000000000000"), flush=True)
print("empty:", stream(""), flush=True)
mine = register(own, "localhost:1").connection_id
print("second:", stream(mine, "", mine, stolen), flush=True)
mine = register(own, "localhost:1").connection_id
print("theirs:", stream(stolen), flush=True)
print("by mine:", deregister(victim, mine), flush=True)
print("mine by theirs:", deregister(own, stolen), flush=True)
print("by none:", deregister(victim, ""), flush=True)
print("mine:", deregister(own, mine), flush=True)
register(own, "localhost:1")
print("mine by none:", deregister(own, ""), flush=True)
