# Calls the bare server and the gateway in turn, and prints the medians: of a call in microseconds, of a stream in MB/s.
#   client.py BARE GATEWAY CERTIFICATES LOGIN PROCESS ROUNDS ROW STREAMS BYTES
import statistics
import sys
import time

import grpc

bare, gateway, directory, login, process = sys.argv[1:6]
rounds, row, streams, size = map(int, sys.argv[6:])


def read(name):
    with open(f"{directory}/{name}", "rb") as file:
        return file.read()


def same(message):
    return message


def timed(work):
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


# provost.v1.StreamRequest: one target, from the oldest byte kept.
kept = b"\x0a" + bytes([len(process)]) + process.encode() + b"\x18\x01"
credentials = grpc.ssl_channel_credentials(read("ca.pem"), read("client.key"), read("client.pem"))
metadata = (("authorization", login),)
calls, flows = [], []
for channel, method, request, flow, wanted in [
    (grpc.insecure_channel(bare), "/bare.Echo/Echo", (2).to_bytes(8, "little"), "/bare.Echo/Flow", size.to_bytes(8, "little")),
    (grpc.secure_channel(gateway, credentials), "/grpc.health.v1.Health/Check", b"", "/provost.v1.ProcessService/Stream", kept),
]:
    call = channel.unary_unary(method, request_serializer=same, response_deserializer=same)
    call(request, timeout=10)
    calls.append((call, request, []))
    flows.append((channel.unary_stream(flow, request_serializer=same, response_deserializer=same), wanted, []))
for _ in range(rounds):
    for call, request, samples in calls:
        samples.extend(timed(lambda: call(request))[0] for _ in range(row))
for _ in range(streams):
    for call, request, samples in flows:
        took, came = timed(lambda: sum(map(len, call(request, metadata=metadata))))
        assert came > size * 0.9, f"{came} bytes came of {size}"
        samples.append(came / 1e6 / took)
print(*(statistics.median(samples) * 1e6 for _, _, samples in calls), *(statistics.median(samples) for _, _, samples in flows))
