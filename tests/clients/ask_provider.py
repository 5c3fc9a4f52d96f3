#!/usr/bin/env python3
"""Calls a provider as a host of another make would. ask_provider.py PORT CALLS: CALLS is a list in JSON of [METHOD, REQUEST], made one
after the other, or, as ["together", N, METHOD, REQUEST], N times at once; ["cancel", METHOD, REQUEST] is given up by the client.
Prints a line of JSON for each: the status, its message, and the answer. The proto folder is in $PROTO."""

import json
import os
import sys
from concurrent import futures

import grpc
from google.protobuf import json_format

sys.path.insert(0, os.environ["PROTO"])
messages, services = grpc.protos_and_services("nomos/provider/v1/provider.proto")

stub = services.ProviderServiceStub(grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}"))


def begin(method, request):
    message = json_format.ParseDict(request, getattr(messages, method + "Request")())
    return getattr(stub, method).future(message, timeout=20)


def tell(call):
    try:
        answer = json_format.MessageToDict(call.result(), preserving_proto_field_name=True)
    except (grpc.RpcError, futures.CancelledError, grpc.FutureCancelledError):
        answer = None
    said = {"code": call.code().name, "message": call.details(), "answer": answer}
    print(json.dumps(said), flush=True)


for what, *rest in json.loads(sys.argv[2]):
    if what == "together":
        for call in [begin(*rest[1:]) for _ in range(rest[0])]:
            tell(call)
    elif what == "cancel":
        call = begin(*rest)
        call.cancel()
        tell(call)
    else:
        tell(begin(what, *rest))
