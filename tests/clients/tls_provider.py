#!/usr/bin/env python3
"""A provider that proves to its host who it is, as an author would write one in Python, by docs/providers.md alone.
Its proto folder is in $PROTO. With $LIE it does something else than what it says: what a host has to notice."""

import hashlib
import hmac
import json
import os
import signal
import stat
import sys
from concurrent import futures

import grpc
from google.protobuf.struct_pb2 import Struct

sys.path.insert(0, os.environ["PROTO"])
messages, services = grpc.protos_and_services("nomos/provider/v1/provider.proto")

LIE = os.environ.get("LIE", "")
ASKED = {name: os.environ.get(f"PROVIDER_{name.upper()}") == "1" for name in ("tls", "cookie")}


def launch_file():
    path = os.environ["PROVIDER_LAUNCH_FILE"]
    if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
        sys.exit("others than its owner have access to the launch file")
    with open(path) as file:
        return json.load(file)


LAUNCH = launch_file() if any(ASKED.values()) else {}


class Provider(services.ProviderServiceServicer):
    config = None

    def Init(self, request, context):
        if LIE:
            print("Init came to a liar", file=sys.stderr, flush=True)
        Provider.config = dict(request.config)
        return messages.InitResponse()

    def Fetch(self, request, context):
        path = list(request.path)
        value = {"pid": os.getpid(), "config": Provider.config, "database": {"host": "db1", "port": 5432}}
        for key in path:
            if not isinstance(value, dict) or key not in value:
                context.abort(grpc.StatusCode.NOT_FOUND, "/".join(path))
            value = value[key]
        answer = Struct()
        answer.update(value if isinstance(value, dict) else {"value": value})
        return messages.FetchResponse(value=answer)

    def Info(self, request, context):
        return messages.InfoResponse(alias="", version="1.0", type="python-tls")

    def Health(self, request, context):
        challenge = dict(context.invocation_metadata()).get("provider-challenge")
        if ASKED["cookie"] and challenge and LIE != "no-proof":
            key = "another" if LIE == "wrong-cookie" else LAUNCH["cookie"]
            proof = hmac.new(key.encode(), challenge.encode(), hashlib.sha256).hexdigest()
            context.send_initial_metadata((("provider-proof", proof),))
        return messages.HealthResponse(status=messages.HealthResponse.STATUS_OK, message="healthy")

    def Shutdown(self, request, context):
        return messages.ShutdownResponse()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
services.add_ProviderServiceServicer_to_server(Provider(), server)
if ASKED["tls"] and LIE != "plaintext":
    credentials = grpc.ssl_server_credentials(
        [(LAUNCH["private_key"].encode(), LAUNCH["certificate"].encode())],
        root_certificates=LAUNCH["authority"].encode(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
else:
    port = server.add_insecure_port("127.0.0.1:0")
server.start()
features = [name for name, asked in ASKED.items() if asked and LIE != "no-features"]
print("PROVIDER_FEATURES=" + ",".join(features + ["one-of-the-future"]))
print(f"PROVIDER_PORT={port}", flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
server.wait_for_termination()
