# Calls the bare server and the gateway in turn, and prints the medians in microseconds:
#   client.py BARE GATEWAY CERTIFICATES ROUNDS ROW
import statistics
import sys
import time

import grpc

bare, gateway, directory, rounds, row = sys.argv[1:]


def read(name):
    with open(f"{directory}/{name}", "rb") as file:
        return file.read()


def same(message):
    return message


credentials = grpc.ssl_channel_credentials(read("ca.pem"), read("client.key"), read("client.pem"))
lanes = []
for channel, method, request in [
    (grpc.insecure_channel(bare), "/bare.Echo/Echo", (2).to_bytes(8, "little")),
    (grpc.secure_channel(gateway, credentials), "/grpc.health.v1.Health/Check", b""),
]:
    call = channel.unary_unary(method, request_serializer=same, response_deserializer=same)
    call(request, timeout=10)
    lanes.append((call, request, []))
for _ in range(int(rounds)):
    for call, request, samples in lanes:
        for _ in range(int(row)):
            begin = time.perf_counter()
            call(request)
            samples.append(time.perf_counter() - begin)
print(*(statistics.median(samples) * 1e6 for _, _, samples in lanes))
