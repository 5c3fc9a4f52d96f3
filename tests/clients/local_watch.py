"""How the service says that it is, over gRPC on the machine itself: prints each state that health's Watch tells, then
how the watch ended.

Takes three arguments: the address, the directory of the .proto files, and how many seconds this may last.
"""

import sys

import grpc

ADDRESS, PROTO, LIMIT = sys.argv[1:]
sys.path.insert(0, PROTO)
health, services = grpc.protos_and_services("grpc/health/v1/health.proto")

stub = services.HealthStub(grpc.insecure_channel(ADDRESS))
try:
    for answer in stub.Watch(health.HealthCheckRequest(), timeout=float(LIMIT), wait_for_ready=True):
        print(health.HealthCheckResponse.ServingStatus.Name(answer.status), flush=True)
except grpc.RpcError as error:
    print(error.code().name, flush=True)
