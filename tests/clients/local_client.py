"""gRPC on the machine itself as Python's grpcio sees it: an address, no certificate and no password. One line for each
check, `ok NAME`.

Takes two arguments: the address, and the directory of the .proto files.
"""

import sys

import grpc

ADDRESS, PROTO = sys.argv[1:]
sys.path.insert(0, PROTO)
api, services = grpc.protos_and_services("provost/v1/process_service.proto")
process = grpc.protos("provost/v1/process.proto")

# Generous: what is waited for comes at once, or when a busy machine gets to it.
SOON = 20

provost = services.ProcessServiceStub(grpc.insecure_channel(ADDRESS))

listed = provost.List(api.ListRequest(), timeout=SOON)
assert not listed.processes, listed
print("ok list")

command = ["sh", "-c", "echo hello; exec sleep 76010"]
started = provost.Start(api.StartRequest(spec=process.ProcessSpec(command=command)), timeout=SOON)
ident = started.results[0].process.id
assert ident, started
print("ok start")

request = api.StreamRequest(targets=[ident])
request.oldest = True
stream = provost.Stream(request, timeout=SOON)
data = b""
for answer in stream:
    data += answer.chunk.data
    if data == b"hello\n":
        break
assert data == b"hello\n", data
stream.cancel()
print("ok stream")

stopped = provost.Stop(api.StopRequest(targets=[ident]), timeout=SOON)
assert not stopped.results[0].HasField("error"), stopped
print("ok stop")

provost.Remove(api.RemoveRequest(targets=[ident]), timeout=SOON)
line = provost.Audit(api.AuditRequest(), timeout=SOON).lines[-1]
assert line.caller.startswith("uid "), line
print("ok audit")
