"""Every method of the API, as a tool calls it that knows nothing but an address, as grpcurl does: the services, their
methods and messages are what the server says of itself (reflection), and requests are JSON. One line for each method that
was answered, `ok METHOD`.

Takes three arguments: an address without TLS, the name of the reflection service, and a provider's executable.
"""

import base64
import sys
import uuid

import grpc
from google.protobuf import descriptor_pb2, json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2 as reflection

ADDRESS, REFLECTION, PROVIDER = sys.argv[1:]
# Generous: what is waited for comes at once, or when a busy machine gets to it.
SOON = 20

channel = grpc.insecure_channel(ADDRESS)
# Both versions have the same messages under different names.
ask_about = channel.stream_stream(
    f"/{REFLECTION}/ServerReflectionInfo",
    request_serializer=reflection.ServerReflectionRequest.SerializeToString,
    response_deserializer=reflection.ServerReflectionResponse.FromString,
)


def reflected(**request):
    (answer,) = ask_about(iter([reflection.ServerReflectionRequest(**request)]), timeout=SOON)
    assert not answer.HasField("error_response"), answer
    return answer


def pool_of(services):
    files = {}
    for service in services:
        for text in reflected(file_containing_symbol=service).file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(text)
            files[file.name] = file
    pool = DescriptorPool()

    def add(name):
        if file := files.pop(name, None):
            for other in file.dependency:
                add(other)
            pool.Add(file)

    for name in list(files):
        add(name)
    return pool


listed = [service.name for service in reflected(list_services="").list_services_response.service]
ours = [name for name in listed if name.startswith("provost.v1.")]
pool = pool_of(ours)
methods = {method.name: method for name in ours for method in pool.FindServiceByName(name).methods}
assert {"Start", "StartProvider"} <= methods.keys(), listed


def call(name, /, **request):
    """All that the method answers, as JSON: a list of it where it is a stream."""
    method = methods[name]
    asked = json_format.ParseDict(request, message_factory.GetMessageClass(method.input_type)())
    answer = message_factory.GetMessageClass(method.output_type)
    way = channel.unary_stream if method.server_streaming else channel.unary_unary
    begin = way(
        f"/{method.containing_service.full_name}/{name}",
        request_serializer=type(asked).SerializeToString,
        response_deserializer=answer.FromString,
    )
    called.add(name)
    answers = begin(asked, timeout=SOON)
    if not method.server_streaming:
        return json_format.MessageToDict(answers)
    return [json_format.MessageToDict(one) for one in answers]


def refused(code, name, /, **request):
    try:
        answer = call(name, **request)
    except grpc.RpcError as error:
        assert error.code().name == code, error
        return
    raise AssertionError(f"{name}: {answer}")


called = set()


def good(answer, count):
    results = answer["results"]
    assert len(results) == count and not any("error" in result for result in results), answer
    return [result["process"] for result in results]


def pages(name, field, **request):
    found, token, count = [], "", 0
    while True:
        page = call(name, pageSize=2, pageToken=token, **request)
        assert len(page[field]) <= 2, page
        found += page[field]
        count += 1
        token = page.get("nextPageToken", "")
        if not token:
            assert count == 2, count
            return found


def text(pieces):
    return b"".join(base64.b64decode(piece["chunk"]["data"]) for piece in pieces if "chunk" in piece)


spec = {"command": ["sh", "-c", "echo hello; exec sleep 76116"], "name": "py"}
ids = [process["id"] for process in good(call("Start", spec=spec, count=3, numbered=True), 3)]
good(call("Wait", targets=["py-*"], condition="WAIT_CONDITION_READY"), 3)
assert [process["id"] for process in pages("List", "processes", pattern="py-*")] == ids
assert [result["process"]["id"] for result in pages("Status", "results", targets=["py-*"])] == ids
(definition,) = call("Definitions", targets=["py-1"])
kept = definition["definition"]["spec"]
assert kept["command"] == spec["command"], definition
(updated,) = good(call("Update", target="py-1", spec=kept | {"labels": [{"key": "team", "value": "web"}]}), 1)
assert updated["id"] == ids[0], updated
good(call("Signal", targets=["py-1"], signalNumber=18), 1)
key = str(uuid.uuid4())
runs = [good(call("Restart", targets=["py-3"], idempotencyKey=key), 1)[0]["run"] for _ in range(2)]
assert runs == ["2", "2"], f"asked twice, it is done once: {runs}"
good(call("Stop", targets=["py-2"]), 1)
assert text(call("Output", target="py-2")) == b"hello\n"
# The stream of what is at rest has an end.
assert text(call("Stream", targets=["py-2"], oldest=True)) == b"hello\n"
good(call("StartAgain", targets=["py-2"]), 1)
kinds = [event["kind"] for batch in call("History", target="py-2") for event in batch["events"]]
assert "PROCESS_EVENT_KIND_STOPPED" in kinds, kinds
assert call("Events", target="py-2"), "they are the same"
variables = call("Environment", set=[{"key": "A", "value": "b"}])
assert {"key": "A", "value": "b"} in variables["environment"], variables
call("Environment", unset=["A"])
assert any("restart" in line["request"] for line in call("Audit")["lines"])
assert call("ServiceInfo")["enginePid"]
assert call("Health")["store"]["state"] == "STORE_STATE_SOUND"

app = {"alias": "app"}
started = call("StartProvider", target=app, spec={"binary": PROVIDER, "allowExternal": True})["provider"]
assert started["state"] == "PROVIDER_STATE_READY", started
assert call("FetchValue", target=app, path=["pid"])["value"]["value"] == started["pid"]
assert call("ProviderInfo", target=app)["provider"]["type"] == "rude"
assert call("ProviderHealth", target=app)["status"] == "PROVIDER_HEALTH_STATUS_OK"
assert [provider["target"]["alias"] for provider in call("ListProviders")["providers"]] == ["app"]
call("ResetProvider", target=app)
assert call("ReplaceProvider", target=app)["provider"]["pid"] != started["pid"]
permit = call("PermitCall", target=app)["permit"]["id"]
call("ReportCall", permit=permit, outcome="CALL_OUTCOME_OK")
refused("NOT_FOUND", "ReportCall", permit=permit, outcome="CALL_OUTCOME_OK")
value = call("CallChain", targets=[{"alias": "nobody"}, app], path=["pid"])
assert value["target"]["alias"] == "app" and value["value"]["value"], value
call("StopProvider", target=app)

other = {"alias": "other"}
spec = {"binary": PROVIDER, "allowExternal": True}
(entry,) = call("RegisterProvider", target=other, spec=spec)["entries"]
assert entry["provider"]["target"]["alias"] == "other", entry
assert len(call("ListEntries")["entries"]) == 2
assert "failures" not in call("ChangeEntries", action="ENTRY_ACTION_UNREGISTER", alias="other")
call("DiscoverProviders", dryRun=True)
call("ValidateProviders")
call("ShutDownProviders")

# This service has no module plane.
plain = ("ListModules", "ListModuleConnections", "ListExpectedModules")
canaries = ("StartModuleCanary", "AbortModuleCanary", "ListModuleCanaries")
for name in ("CallModule", "CallModuleBatch", "DrainModuleConnection", "AllowModuleChange", *plain, *canaries):
    fields = {"CallModule": {"name": "math.add"}, "DrainModuleConnection": {"connection": "c"}}
    fields["CallModuleBatch"] = fields["AllowModuleChange"] = {"name": "math.add"}
    fields["StartModuleCanary"] = {"namespace": "math", "version": "2"}
    fields["AbortModuleCanary"] = {"namespace": "math"}
    refused("FAILED_PRECONDITION", name, **fields.get(name, {}))

good(call("Remove", targets=["py-*"], force=True), 3)
# To the binary that it is: everything goes on.
call("Upgrade", id=str(uuid.uuid4()))
assert "processes" not in call("ServiceInfo"), "none is left"

assert called == methods.keys(), f"not called: {methods.keys() - called}"
for name in sorted(methods):
    print("ok", name)
