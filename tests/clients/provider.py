#!/usr/bin/env python3
"""A provider as an author would write one in Python, by docs/providers.md alone. Its proto folder is in $PROTO."""

import os
import signal
import sys
import time
from concurrent import futures

import grpc
from google.protobuf.struct_pb2 import Struct

sys.path.insert(0, os.environ["PROTO"])
messages, services = grpc.protos_and_services("nomos/provider/v1/provider.proto")

TREE = {"database": {"host": "db1", "port": 5432, "replicas": ["a", "b"], "tls": True, "ratio": 0.5, "none": None}}


class Provider(services.ProviderServiceServicer):
    config = None

    def Init(self, request, context):
        if not request.alias:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the alias is empty")
        if Provider.config is not None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "Init came twice")
        Provider.config = dict(request.config)
        return messages.InitResponse()

    def Fetch(self, request, context):
        if Provider.config is None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "there was no Init yet")
        path = list(request.path)
        if not path:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the path is empty")
        if path == ["hang"]:
            time.sleep(1000)
        value = {"pid": os.getpid(), "config": Provider.config, **TREE}
        for key in path:
            if not isinstance(value, dict) or key not in value:
                context.abort(grpc.StatusCode.NOT_FOUND, "/".join(path))
            value = value[key]
        answer = Struct()
        answer.update(value if isinstance(value, dict) else {"value": value})
        return messages.FetchResponse(value=answer)

    def Info(self, request, context):
        return messages.InfoResponse(alias="", version="1.0", type="python")

    def Health(self, request, context):
        status = messages.HealthResponse.STATUS_DEGRADED if Provider.config is None else messages.HealthResponse.STATUS_OK
        return messages.HealthResponse(status=status, message="not initialised" if Provider.config is None else "healthy")

    def Shutdown(self, request, context):
        return messages.ShutdownResponse()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
services.add_ProviderServiceServicer_to_server(Provider(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print("getting ready", flush=True)
print(f"PROVIDER_PORT={port}", flush=True)
print("the last words of python", file=sys.stderr, flush=True)
# As existing ones do: it leaves at SIGTERM, not at Shutdown.
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server.wait_for_termination()
