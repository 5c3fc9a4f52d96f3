#!/usr/bin/env python3
"""Starts a process on a Provost service over gRPC, prints its output as it comes, and tells how it ended.
To start what is not defined yet takes the role admin, of the certificate and of the user.

    pip install grpcio grpcio-tools
    docs/client.py [--host HOST:PORT] [--certs DIR] [--client NAME] [--user NAME] [-- PROGRAM [ARG...]]

The certificates are those of 'provost cert init', of any client: --client ann takes ann.pem and ann.key in the
directory, and --cert, --key and --ca name files anywhere. The password is in $PROVOST_PASSWORD. Without either,
it is the user of packaging/demo.toml. The messages are described in proto/provost/v1.
"""

import argparse
import base64
import os
import pathlib
import sys

import grpc

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "proto"))
# Python code from the .proto files, made when it is needed.
messages, services = grpc.protos_and_services("provost/v1/process_service.proto")
process_messages = grpc.protos("provost/v1/process.proto")


def default_certs():
    """Where 'provost cert init' puts certificates."""
    if os.geteuid() == 0:
        return pathlib.Path("/var/lib/provost/certs")
    state = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local/state"
    return pathlib.Path(state) / "provost/certs"


def connect(host, ca, key, cert, user, password):
    """A channel whose calls carry the user's name and password."""
    tls = grpc.ssl_channel_credentials(
        root_certificates=ca.read_bytes(),
        private_key=key.read_bytes(),
        certificate_chain=cert.read_bytes(),
    )
    basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def authorize(_context, callback):
        callback((("authorization", basic),), None)

    login = grpc.metadata_call_credentials(authorize)
    return grpc.secure_channel(host, grpc.composite_channel_credentials(tls, login))


def main():
    whole = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=whole)
    parser.add_argument("--host", default="localhost:7443", help="its gateway")
    parser.add_argument("--certs", type=pathlib.Path, default=default_certs(), help="where the certificates are")
    parser.add_argument("--client", default="client", help="whose certificate: CLIENT.pem and CLIENT.key there")
    parser.add_argument("--cert", type=pathlib.Path, help="a certificate elsewhere")
    parser.add_argument("--key", type=pathlib.Path, help="its key")
    parser.add_argument("--ca", type=pathlib.Path, help="the authority of the service")
    parser.add_argument("--user", default="demo", help="who has the password")
    parser.add_argument("program", nargs="*", help="what is started, behind --", default=["sh", "-c", "for n in 1 2 3; do echo line $n; sleep 1; done"])
    options = parser.parse_args()
    password = os.environ.get("PROVOST_PASSWORD", "demo")

    ca = options.ca or options.certs / "ca.pem"
    key = options.key or options.certs / f"{options.client}.key"
    cert = options.cert or options.certs / f"{options.client}.pem"

    with connect(options.host, ca, key, cert, options.user, password) as channel:
        provost = services.ProcessServiceStub(channel)
        spec = process_messages.ProcessSpec(command=options.program)
        started = provost.Start(messages.StartRequest(spec=spec)).results[0].process
        print(f"started {started.id}, pid {started.pid}", file=sys.stderr)

        request = messages.StreamRequest(targets=[started.id], oldest=True)
        for item in provost.Stream(request):
            if item.HasField("chunk"):
                is_error = item.chunk.stream == messages.OUTPUT_STREAM_STDERR
                (sys.stderr if is_error else sys.stdout).buffer.write(item.chunk.data)
                sys.stdout.flush()
            elif item.HasField("gap"):
                print(f"({item.gap.missed} bytes came too fast)", file=sys.stderr)

        ended = provost.Wait(messages.WaitRequest(targets=[started.id])).results[0].process.last_end
        how = ended.WhichOneof("status")
        print(f"ended: {how}: {getattr(ended, how)}", file=sys.stderr)
        provost.Remove(messages.RemoveRequest(targets=[started.id]))


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        # Other refusals say themselves what is missing.
        if error.code() == grpc.StatusCode.PERMISSION_DENIED and "password" in (error.details() or ""):
            print("--user names the user, 'demo' without it, and $PROVOST_PASSWORD is the password", file=sys.stderr)
        sys.exit(f"{error.code().name}: {error.details()}")
    except OSError as error:
        sys.exit(f"{error}\nis the certificate made ('provost cert init --client NAME'), and readable for you?")
