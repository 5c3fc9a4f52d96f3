"""The gRPC interface as Python's grpcio sees it: one line for each check, `ok NAME` or `FAILED NAME: why`.

Takes one argument: a JSON object with what it meets. The other client of the tests makes the same checks in JavaScript.
"""

import base64
import contextlib
import json
import pathlib
import queue
import socket
import ssl
import sys
import threading
import time
import traceback
import uuid

import grpc
from google.protobuf import message_factory
from google.protobuf.duration_pb2 import Duration
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2 as reflection
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

MET = json.loads(sys.argv[1])
sys.path.insert(0, MET["proto"])
api, services = grpc.protos_and_services("provost/v1/process_service.proto")
process = grpc.protos("provost/v1/process.proto")
event = grpc.protos("provost/v1/event.proto")
health_types = grpc.protos("provost/v1/health.proto")
provider_api, provider_services = grpc.protos_and_services("provost/v1/provider_service.proto")

# Generous: what is waited for comes at once, or when a busy machine gets to it.
SOON = 20
SERVICES = {
    "provost.v1.ProcessService",
    "provost.v1.ProviderService",
    "provost.v1.RegistryService",
    "provost.v1.ModuleService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


# --- connections


def file(name):
    return (pathlib.Path(MET["dir"]) / name).read_bytes()


def tls(ca="ca.pem", certificate="client.pem", key="client.key"):
    chain, private = (file(certificate), file(key)) if certificate else (None, None)
    return grpc.ssl_channel_credentials(root_certificates=file(ca), private_key=private, certificate_chain=chain)


def connect(credentials=None, options=()):
    # Without a pool in common, each channel is a connection of its own.
    own = (("grpc.use_local_subchannel_pool", 1),)
    return grpc.secure_channel(MET["host"], credentials or tls(), options=own + tuple(options))


def login(user, password):
    return (("authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()),)


def login_of(role):
    return login(*MET["users"][role])


# What has been called at least once.
CALLED = set()


class User:
    """The methods with the credentials of a role, on a channel."""

    def __init__(self, role, link, stub=services.ProcessServiceStub):
        self.stub, self.metadata = stub(link), login_of(role)

    def __getattr__(self, method):
        call = getattr(self.stub, method)
        CALLED.add(method)
        return lambda request, timeout=SOON, **more: call(request, timeout=timeout, metadata=self.metadata, **more)


LINK = connect()
ADMIN, OPERATOR, VIEWER = (User(role, LINK) for role in ("admin", "operator", "viewer"))


# --- processes


def start(*command, count=0, **spec):
    request = api.StartRequest(spec=process.ProcessSpec(command=command, **spec), count=count, numbered=count > 0)
    return [only(item) for item in ADMIN.Start(request).results]


def only(item):
    assert not item.HasField("error"), item
    return item.process


@contextlib.contextmanager
def started(*command, count=0, **spec):
    """Processes for the time of a check: their ids as text."""
    ids = [p.id for p in start(*command, count=count, **spec)]
    try:
        yield ids[0] if count == 0 else ids
    finally:
        ADMIN.Remove(api.RemoveRequest(targets=ids, force=True))


def status(*targets):
    return [only(item) for item in VIEWER.Status(api.StatusRequest(targets=targets)).results]


def state(target):
    return process.ProcessState.Name(status(target)[0].state).removeprefix("PROCESS_STATE_").lower()


def wait(*targets, **more):
    return [only(item) for item in VIEWER.Wait(api.WaitRequest(targets=targets, **more)).results]


def expect(equal, to):
    assert equal == to, f"{equal!r} instead of {to!r}"


def until(what, condition):
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        threading.Event().wait(0.01)


def threads_of_calls():
    """How many threads of the gateway are there for one call each."""
    found = 0
    for name in pathlib.Path(f"/proc/{MET['gateway_pid']}/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += name.read_text() == "call\n"
    return found


@contextlib.contextmanager
def with_one_call():
    """A call within has a thread in the gateway, and none afterwards, with the connection still there."""
    over = lambda: until("no call has a thread", lambda: threads_of_calls() == 0)
    over()
    yield lambda: until("the call has a thread", lambda: threads_of_calls() == 1)
    over()


def failure(call, *arguments, **more):
    """The error that a call ends with, a stream's too."""
    try:
        answer = call(*arguments, **more)
        if hasattr(answer, "__next__"):
            list(answer)
    except grpc.RpcError as error:
        return error
    raise AssertionError("it did not fail")


def refused(code, reason, call, *arguments, **more):
    """The call fails with this status, and its details say this reason. Returns the hint."""
    error = failure(call, *arguments, **more)
    expect(error.code().name, code)
    details = rpc_status.from_call(error)
    assert details is not None, f"no details with {error.details()}"
    expect((details.code, details.message), (error.code().value[0], error.details()))
    info = error_details_pb2.ErrorInfo()
    assert details.details[0].Unpack(info), details
    expect((info.domain, info.reason), ("provost.internal", reason))
    return info.metadata.get("hint", "")


# --- every method


@check
def start_one():
    with started("sleep", "1000", name="py-one", labels=[process.ProcessLabel(key="tier", value="web")]) as id:
        [found] = status("py-one")
        expect((found.id, found.run, found.state), (id, 1, process.PROCESS_STATE_RUNNING))
        expect((list(found.command), found.labels[0].value), (["sleep", "1000"], "web"))
        assert found.pid > 0 and "user alice" in found.cause and "client.provost" in found.cause, found


@check
def start_count():
    with started("sleep", "1000", name="py-many", count=3) as ids:
        expect(len(set(ids)), 3)
        expect([p.name for p in status(*ids)], ["py-many-1", "py-many-2", "py-many-3"])
        expect([p.instance for p in status(*ids)], [1, 2, 3])


@check
def start_again():
    with started("true") as id:
        wait(id)
        [item] = OPERATOR.StartAgain(api.StartAgainRequest(targets=[id])).results
        expect(only(item).run, 2)


@check
def start_of_nothing():
    refused("FAILED_PRECONDITION", "PROGRAM_NOT_FOUND", ADMIN.Start, api.StartRequest(spec=process.ProcessSpec(command=["/no/such"])))
    refused("INVALID_ARGUMENT", "USAGE", ADMIN.Start, api.StartRequest(spec=process.ProcessSpec()))
    refused("INVALID_ARGUMENT", "USAGE", ADMIN.Start, api.StartRequest(count=2))


@check
def stop():
    with started("sleep", "1000") as id:
        [item] = OPERATOR.Stop(api.StopRequest(targets=[id])).results
        stopped = only(item)
        expect((stopped.state, stopped.last_end.signal_number), (process.PROCESS_STATE_STOPPED, 15))


@check
def stop_with_a_signal():
    with started("sleep", "1000") as id:
        [item] = OPERATOR.Stop(api.StopRequest(targets=[id], signal_number=2, timeout=Duration(seconds=5))).results
        expect(only(item).last_end.signal_number, 2)


@check
def restart():
    with started("sleep", "1000") as id:
        before = status(id)[0].pid
        [item] = OPERATOR.Restart(api.RestartRequest(targets=[id])).results
        after = only(item)
        assert after.run == 2 and after.pid != before, after


@check
def remove():
    with started("true") as id:
        wait(id)
        only(ADMIN.Remove(api.RemoveRequest(targets=[id])).results[0])
        [item] = VIEWER.Status(api.StatusRequest(targets=[id])).results
        expect((item.target, item.error.code), (id, api.ERROR_CODE_NOT_FOUND))


@check
def update_and_definitions():
    with started("sleep", "1000", name="py-update") as id:
        definition = lambda: next(iter(ADMIN.Definitions(api.DefinitionsRequest(targets=[id])))).definition
        spec = definition().spec
        expect(list(spec.command), ["sleep", "1000"])
        spec.labels.add(key="team", value="web")
        (updated,) = ADMIN.Update(api.UpdateRequest(target=id, spec=spec)).results
        expect((only(updated).id, only(updated).run), (id, 1))
        expect([label.value for label in definition().spec.labels], ["web"])
        spec.command[1] = "1001"
        (updated,) = ADMIN.Update(api.UpdateRequest(target="py-update", spec=spec, restart=True)).results
        only(updated)
        until("it runs in the new way", lambda: status(id)[0].run == 2)
        (missing,) = ADMIN.Definitions(api.DefinitionsRequest(targets=["nobody"]))
        expect(missing.missing.error.code, api.ERROR_CODE_NOT_FOUND)


@check
def signal():
    with started("sh", "-c", "trap 'echo usr1; exit 7' USR1; echo up; while :; do sleep 0.05; done",
                 readiness=process.ReadinessProbe(line="up")) as id:
        wait(id, condition=api.WAIT_CONDITION_READY)
        request = api.SignalRequest(targets=[id], signal_number=10, scope=process.SIGNAL_SCOPE_LEADER)
        only(OPERATOR.Signal(request).results[0])
        expect(wait(id)[0].last_end.exit_code, 7)


@check
def wait_for_states():
    with started("sh", "-c", "exit 3") as id:
        ended = wait(id)[0]
        expect((ended.state, ended.last_end.exit_code), (process.PROCESS_STATE_STOPPED, 3))
    with started("sleep", "1000") as id:
        expect(wait(id, condition=api.WAIT_CONDITION_RUNNING)[0].state, process.PROCESS_STATE_RUNNING)
        [item] = VIEWER.Wait(api.WaitRequest(targets=[id], timeout=Duration(nanos=50_000_000))).results
        expect(item.error.code, api.ERROR_CODE_TIMED_OUT)


@check
def status_by_every_target():
    with started("sleep", "1000", name="py-target", count=2) as ids:
        # A prefix of a UUID of now is not unique; all but its last digits is.
        for target in (ids[0], ids[0][:34], "py-target-1"):
            expect([p.id for p in status(target)], ids[:1])
        expect([p.id for p in status("py-*")], ids)
        items = VIEWER.Status(api.StatusRequest(targets=["nobody", ids[1]])).results
        assert {i.target: i.error.code for i in items}["nobody"] == api.ERROR_CODE_NOT_FOUND, items


@check
def list_all():
    with started("sleep", "1000", name="py-list", count=2):
        names = lambda **more: [p.name for p in VIEWER.List(api.ListRequest(**more)).processes]
        expect(sorted(names(pattern="py-list*")), ["py-list-1", "py-list-2"])
        assert "provost.gateway" not in names() and "provost.gateway" in names(include_internal=True)


def pages(method, request, field):
    """All of an answer, page by page."""
    found = []
    while True:
        page = method(request)
        expect(len(getattr(page, field)) <= request.page_size, True)
        found += getattr(page, field)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


@check
def answers_by_pages():
    with started("sleep", "1000", name="py-page", count=7) as ids:
        listed = pages(VIEWER.List, api.ListRequest(pattern="py-page*", page_size=3), "processes")
        expect([p.id for p in listed], ids)
        asked = pages(VIEWER.Status, api.StatusRequest(targets=["nobody", "py-page*"], page_size=2), "results")
        expect(sorted(r.target for r in asked if r.HasField("error")), ["nobody"])
        expect([r.process.id for r in asked if r.HasField("process")], ids)
        bad = api.ListRequest(page_size=3, page_token="nothing of the kind")
        refused("INVALID_ARGUMENT", "USAGE", VIEWER.List, bad)


@check
def output():
    with started("sh", "-c", "printf 'to out'; printf 'to err' >&2") as id:
        wait(id)
        read = lambda kind: b"".join(part.chunk.data for part in OPERATOR.Output(api.OutputRequest(target=id, selection=kind)))
        expect(read(api.OUTPUT_SELECTION_STDOUT), b"to out")
        expect(read(api.OUTPUT_SELECTION_STDERR), b"to err")
        expect(len(read(api.OUTPUT_SELECTION_BOTH)), 12)
        refused("NOT_FOUND", "NOT_FOUND", OPERATOR.Output, api.OutputRequest(target="nobody"))


def streamed(id, **since):
    """All bytes of a stream by the stream that they came on; they are complete and in order."""
    since = since or {"oldest": True}
    got, next, ended = {False: b"", True: b""}, since.get("offset", 0), 0
    for item in OPERATOR.Stream(api.StreamRequest(targets=[id], **since)):
        kind = item.WhichOneof("item")
        assert kind in ("chunk", "ended"), item
        if kind == "ended":
            ended += 1
            continue
        expect(item.chunk.offset, next)
        next += len(item.chunk.data)
        got[item.chunk.stream == api.OUTPUT_STREAM_STDERR] += item.chunk.data
    return got[False], got[True], ended


# Every byte there is, most of them no UTF-8, many times.
NO_TEXT = bytes(range(256)) * 256
PRINT = f"import os; b = bytes(range(256)) * 256; [os.write(1, b[n:n+4096]) for n in range(0, len(b), 4096)]; os.write(2, b[::-1])"


@check
def stream_both():
    with started(sys.executable, "-c", PRINT) as id:
        out, err, _ = streamed(id)
        assert out == NO_TEXT and err == NO_TEXT[::-1], (len(out), len(err))


@check
def stream_from_offset():
    with started(sys.executable, "-c", PRINT) as id:
        wait(id)
        out, err, _ = streamed(id, offset=1000)
        assert out == NO_TEXT[1000:] and err == NO_TEXT[::-1], (len(out), len(err))
        request = api.StreamRequest(targets=[id], oldest=True, selection=api.OUTPUT_SELECTION_STDERR)
        chunks = [item.chunk for item in OPERATOR.Stream(request) if item.HasField("chunk")]
        assert all(c.stream == api.OUTPUT_STREAM_STDERR for c in chunks) and b"".join(c.data for c in chunks) == NO_TEXT[::-1]
        refused("NOT_FOUND", "NOT_FOUND", OPERATOR.Stream, api.StreamRequest(targets=["nobody"]))


@check
def env():
    change = api.EnvironmentRequest(set=[process.EnvironmentVariable(key="PY_COLOUR", value="blau ü")])
    ADMIN.Environment(change)
    shown = {v.key: v.value for v in ADMIN.Environment(api.EnvironmentRequest()).environment}
    expect(shown["PY_COLOUR"], "blau ü")
    with started("sh", "-c", 'printf %s "$PY_COLOUR"') as id:
        expect(streamed(id)[0].decode(), "blau ü")
    left = ADMIN.Environment(api.EnvironmentRequest(unset=["PY_COLOUR"])).environment
    assert "PY_COLOUR" not in [v.key for v in left], left


@check
def events_follow_and_resume():
    def kinds(since, last):
        """The kinds of the events that come until this one, and its number."""
        got, call = [], VIEWER.Events(api.EventsRequest(after_sequence=since, follow=True, target=id))
        for batch in call:
            for each in batch.events:
                got.append(event.ProcessEventKind.Name(each.kind).removeprefix("PROCESS_EVENT_KIND_").lower())
                if got[-1] == last:
                    call.cancel()
                    return got, each.sequence

    with started("sleep", "1000") as id:
        begin, seq = kinds(0, "started")
        expect(begin, ["created", "started"])
        later = threading.Thread(target=lambda: OPERATOR.Stop(api.StopRequest(targets=[id])))
        later.start()
        rest, _ = kinds(seq, "stopped")
        later.join()
        assert rest[0] == "stopping" and "started" not in rest, rest


@check
def history():
    with started("true") as id:
        wait(id)
        events = [e for batch in VIEWER.History(api.HistoryRequest(target=id)) for e in batch.events]
        assert len(events) >= 3 and {e.process_id for e in events} == {id}, events
        expect([e.sequence for e in events], sorted({e.sequence for e in events}))
        assert "user alice" in events[0].cause, events[0]


@check
def audit():
    with started("sleep", "1000") as id:
        refused("PERMISSION_DENIED", "ROLE", VIEWER.Stop, api.StopRequest(targets=[id]))
        lines, since = [], 0
        while page := ADMIN.Audit(api.AuditRequest(after_sequence=since, limit=100)).lines:
            since, lines = page[-1].sequence, lines + list(page)
        alice, vera = ([line for line in lines if f"user {name}" in line.caller] for name in ("alice", "vera"))
        assert "sleep" in alice[-1].request and alice[-1].result, alice[-1]
        assert id in vera[-1].request and "viewer may not stop" in vera[-1].result, vera[-1]


@check
def service():
    about = VIEWER.ServiceInfo(api.ServiceInfoRequest())
    assert about.version and about.keeper_pid and about.engine_pid and about.engine_starts == 1, about


@check
def health_of_the_store():
    expect(VIEWER.Health(api.HealthRequest()).store.state, health_types.STORE_STATE_SOUND)


@check
def upgrade_needs_admin():
    request = api.UpgradeRequest(id=str(uuid.uuid4()))
    for user in (VIEWER, OPERATOR):
        refused("PERMISSION_DENIED", "ROLE", user.Upgrade, request)


@check
def providers():
    link = connect()
    boss, other = (User(role, link, provider_services.ProviderServiceStub) for role in ("admin", "operator"))
    target = provider_api.ProviderTarget(alias="py-app")
    spec = provider_api.ProviderSpec(binary=MET["provider"], allow_external=True)
    request = provider_api.StartProviderRequest(target=target, spec=spec)
    refused("PERMISSION_DENIED", "ROLE", other.StartProvider, request)
    provider = boss.StartProvider(request).provider
    expect(provider.state, provider_api.PROVIDER_STATE_READY)
    value = other.FetchValue(provider_api.FetchValueRequest(target=target, path=["pid"])).value
    expect(value["value"], provider.pid)
    expect(other.ProviderInfo(provider_api.ProviderInfoRequest(target=target)).provider.type, "rude")
    health = other.ProviderHealth(provider_api.ProviderHealthRequest(target=target))
    expect(health.status, provider_api.PROVIDER_HEALTH_STATUS_OK)
    listed = other.ListProviders(provider_api.ListProvidersRequest()).providers
    expect([p.target.alias for p in listed], ["py-app"])
    boss.ResetProvider(provider_api.ResetProviderRequest(target=target))
    replaced = boss.ReplaceProvider(provider_api.ReplaceProviderRequest(target=target)).provider
    assert replaced.pid != provider.pid, replaced
    boss.StopProvider(provider_api.StopProviderRequest(target=target))
    boss.ShutDownProviders(provider_api.ShutDownProvidersRequest())
    link.close()


# --- how calls end


@check
def errors_have_details():
    hint = refused("INVALID_ARGUMENT", "USAGE", VIEWER.Status, api.StatusRequest())
    hint += refused("INVALID_ARGUMENT", "USAGE", OPERATOR.Output, api.OutputRequest(target="no good name"))
    assert hint, "no hint in either"


@check
def the_wrong_field_is_named():
    wrong = [
        (VIEWER.Wait, api.WaitRequest(targets=["x"], condition=99), "condition"),
        (OPERATOR.Signal, api.SignalRequest(targets=["x"], signal_number=65), "signal_number"),
        (OPERATOR.Signal, api.SignalRequest(targets=["x"], signal_number=15, scope=77), "scope"),
        (OPERATOR.Stop, api.StopRequest(targets=["x"], timeout=Duration(seconds=-1)), "timeout"),
        (ADMIN.Start, api.StartRequest(spec=process.ProcessSpec(command=["x"]), ids=["no uuid"]), "ids"),
        (ADMIN.Start, api.StartRequest(), "spec"),
    ]
    for method, request, field in wrong:
        error = failure(method, request)
        expect(error.code().name, "INVALID_ARGUMENT")
        [_, more] = rpc_status.from_call(error).details
        bad = error_details_pb2.BadRequest()
        assert more.Unpack(bad), more
        expect([v.field for v in bad.field_violations], [field])


@check
def deadline_ends_the_wait():
    with started("sleep", "1000") as id, with_one_call():
        begin = time.monotonic()
        error = failure(VIEWER.Wait, api.WaitRequest(targets=[id]), timeout=0.3)
        expect(error.code().name, "DEADLINE_EXCEEDED")
        assert time.monotonic() - begin < 5, "late"


@check
def cancelled_stream_leaves_no_thread():
    with started("sh", "-c", "echo first; exec sleep 1000") as id, with_one_call() as is_there:
        call = OPERATOR.Stream(api.StreamRequest(targets=[id], oldest=True), timeout=None)
        expect(next(call).chunk.data, b"first\n")
        is_there()
        call.cancel()
        expect(failure(list, call).code().name, "CANCELLED")
    with with_one_call() as is_there:
        call = VIEWER.Events(api.EventsRequest(follow=True), timeout=None)
        next(call)
        is_there()
        call.cancel()


@check
def large_message_is_refused():
    big = process.EnvironmentVariable(key="BIG", value="x" * 4_200_000)
    error = failure(ADMIN.Start, api.StartRequest(spec=process.ProcessSpec(command=["true"], environment=[big])))
    expect(error.code().name, "RESOURCE_EXHAUSTED")
    VIEWER.ServiceInfo(api.ServiceInfoRequest())


@check
def eight_streams():
    with started(sys.executable, "-c", PRINT, name="py-eight", count=8) as ids:
        got = queue.Queue()
        threads = [threading.Thread(target=lambda id=id: got.put(streamed(id)[:2])) for id in ids]
        [t.start() for t in threads]
        [t.join() for t in threads]
        expect([got.get() == (NO_TEXT, NO_TEXT[::-1]) for _ in range(got.qsize())], [True] * 8)


@check
def fifty_calls():
    with started("sleep", "1000") as id:
        calls = [VIEWER.stub.Status.future(api.StatusRequest(targets=[id]), timeout=SOON, metadata=VIEWER.metadata)
                 for _ in range(50)]
        expect({only(c.result().results[0]).id for c in calls}, {id})


# --- who may


@check
def wrong_password():
    for user, password in ((MET["users"]["admin"][0], "wrong password"), ("alice", ""), ("alice", "x" * 400)):
        refused("PERMISSION_DENIED", "CREDENTIALS", ADMIN.stub.ServiceInfo, api.ServiceInfoRequest(),
                metadata=login(user, password), timeout=SOON)


@check
def unknown_user():
    metadata = login("mallory", MET["users"]["admin"][1])
    refused("PERMISSION_DENIED", "CREDENTIALS", ADMIN.stub.ServiceInfo, api.ServiceInfoRequest(), metadata=metadata, timeout=SOON)
    request = api.StreamRequest(targets=["x"])
    refused("PERMISSION_DENIED", "CREDENTIALS", ADMIN.stub.Stream, request, metadata=metadata, timeout=SOON)


@check
def no_credentials():
    refused("PERMISSION_DENIED", "CREDENTIALS", ADMIN.stub.ServiceInfo, api.ServiceInfoRequest(), timeout=SOON)
    for value in ("Bearer abc", "Basic", "Basic !", "Basic " + "A" * 2000, ""):
        refused("PERMISSION_DENIED", "CREDENTIALS", ADMIN.stub.ServiceInfo, api.ServiceInfoRequest(),
                metadata=(("authorization", value),), timeout=SOON)
    twice = login_of("admin") * 2
    refused("PERMISSION_DENIED", "CREDENTIALS", ADMIN.stub.ServiceInfo, api.ServiceInfoRequest(), metadata=twice, timeout=SOON)


@check
def roles():
    with started("sleep", "1000") as id:
        targets = dict(targets=[id])
        operators = [
            ("StartAgain", api.StartAgainRequest(**targets)),
            ("Stop", api.StopRequest(**targets)),
            ("Restart", api.RestartRequest(**targets)),
            ("Signal", api.SignalRequest(signal_number=18, **targets)),
            ("Output", api.OutputRequest(target=id)),
            ("Stream", api.StreamRequest(**targets)),
        ]
        admins = [
            ("Start", api.StartRequest(spec=process.ProcessSpec(command=["true"]))),
            ("Remove", api.RemoveRequest(force=True, **targets)),
            ("Environment", api.EnvironmentRequest()),
            ("Audit", api.AuditRequest()),
            ("Environment", api.EnvironmentRequest(set=[process.EnvironmentVariable(key="LD_PRELOAD", value="/tmp/x")])),
        ]
        for method, request in operators + admins:
            refused("PERMISSION_DENIED", "ROLE", getattr(VIEWER, method), request)
        for method, request in admins:
            refused("PERMISSION_DENIED", "ROLE", getattr(OPERATOR, method), request)
        expect((state(id), status(id)[0].run), ("running", 1))


# --- who gets in


def not_let_in(credentials):
    with connect(credentials) as link:
        error = failure(User("admin", link).ServiceInfo, api.ServiceInfoRequest())
    # No details: not one of our statuses, no HTTP/2 was spoken.
    expect((error.code().name, rpc_status.from_call(error)), ("UNAVAILABLE", None))


def raw(context):
    """What a client gets that speaks HTTP/2 with this TLS: the bytes, or the error."""
    host, port = MET["host"].rsplit(":", 1)
    context.load_verify_locations(MET["dir"] + "/ca.pem")
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((host, int(port)), timeout=SOON) as tcp:
        with context.wrap_socket(tcp, server_hostname=host) as link:
            link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            return link.recv(100)


@check
def no_certificate():
    not_let_in(tls(certificate=None))
    try:
        got = raw(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    except ssl.SSLError as error:
        got = error.reason
    expect(got, "TLSV13_ALERT_CERTIFICATE_REQUIRED")
    good = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    good.load_cert_chain(MET["dir"] + "/client.pem", MET["dir"] + "/client.key")
    assert raw(good), "with one, it is answered"


@check
def other_authority():
    not_let_in(tls(certificate="other.pem", key="other.key"))
    # The other way round: it is we who do not believe the server.
    not_let_in(tls(ca="other-ca.pem"))


@check
def expired_certificate():
    not_let_in(tls(certificate="expired.pem", key="expired.key"))


@check
def tls_1_2():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(MET["dir"] + "/client.pem", MET["dir"] + "/client.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        got = raw(context)
    except ssl.SSLError as error:
        got = error.reason
    expect(got, "TLSV1_ALERT_PROTOCOL_VERSION")


# --- the standard services


@check
def health_check():
    stub = health_pb2_grpc.HealthStub(LINK)
    ask = lambda name, **more: stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=SOON, **more)
    for name in ("", "provost.v1.ProcessService"):
        expect(ask(name).status, health_pb2.HealthCheckResponse.SERVING)
    expect(failure(ask, "no.such.Service").code().name, "NOT_FOUND")
    refused("PERMISSION_DENIED", "CREDENTIALS", ask, "", metadata=login("alice", "wrong password"))
    expect(ask("", metadata=login_of("viewer")).status, health_pb2.HealthCheckResponse.SERVING)


@check
def health_watch():
    stub = health_pb2_grpc.HealthStub(LINK)
    with with_one_call():
        for name, status in (("", "SERVING"), ("no.such.Service", "SERVICE_UNKNOWN")):
            call = stub.Watch(health_pb2.HealthCheckRequest(service=name))
            expect(health_pb2.HealthCheckResponse.ServingStatus.Name(next(call).status), status)
            call.cancel()


def described_by(database):
    """Every method's messages, and what they are made of, can be made from what reflection says."""
    expect(set(database.get_services()), SERVICES)
    pool, seen = DescriptorPool(database), set()
    for name in SERVICES:
        for method in pool.FindServiceByName(name).methods:
            todo = [method.input_type, method.output_type]
            while todo:
                message = todo.pop()
                if message.full_name not in seen:
                    seen.add(message.full_name)
                    message_factory.GetMessageClass(message)()
                    todo += [field.message_type for field in message.fields if field.message_type]
    theirs = {f"provost.v1.{name}" for name in list(api.DESCRIPTOR.message_types_by_name) + ["ProcessSpec", "ProcessEvent"]}
    assert theirs <= seen and len(seen) > 40, sorted(seen)


@check
def reflection_v1alpha():
    described_by(ProtoReflectionDescriptorDatabase(LINK))


@check
def reflection_v1():
    # The library knows the older name; the messages are the same.
    class Renamed(grpc.StreamStreamClientInterceptor):
        def intercept_stream_stream(self, proceed, details, requests):
            assert "v1alpha" in details.method
            renamed = details._replace(method=details.method.replace("v1alpha", "v1"))
            return proceed(renamed, requests)

    described_by(ProtoReflectionDescriptorDatabase(grpc.intercept_channel(LINK, Renamed())))
    ask = reflection.ServerReflectionRequest(file_containing_symbol="provost.v1.Nothing")
    [answer] = reflection_pb2_grpc.ServerReflectionStub(LINK).ServerReflectionInfo(iter([ask]))
    expect(answer.error_response.error_code, grpc.StatusCode.NOT_FOUND.value[0])


# --- a connection that only pings


class KeptAlive:
    """Begun first and looked at last: a connection without calls that pings all the time."""

    def __init__(self):
        self.begin, self.states = time.monotonic(), []
        pings = (("grpc.keepalive_time_ms", 2000), ("grpc.keepalive_timeout_ms", 10_000),
                 ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0))
        self.link = connect(options=pings)
        User("viewer", self.link).ServiceInfo(api.ServiceInfoRequest())
        self.link.subscribe(self.states.append)


KEPT = KeptAlive()


@check
def keep_alive():
    until("five pings are through", lambda: time.monotonic() - KEPT.begin > 11)
    User("viewer", KEPT.link).ServiceInfo(api.ServiceInfoRequest())
    expect(set(KEPT.states), {grpc.ChannelConnectivity.READY})


@check
def every_method():
    of = lambda protos: [m.name for s in protos.DESCRIPTOR.services_by_name.values() for m in s.methods]
    expect([name for name in of(api) + of(provider_api) if name not in CALLED], [])


def main():
    failed = 0
    for function in CHECKS:
        name = function.__name__
        try:
            function()
            print("ok", name, flush=True)
        except Exception as error:
            failed += 1
            why = " ".join(str(error).split()) or type(error).__name__
            lines = [str(frame.lineno) for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
            print(f"FAILED {name}: {why[:600]} (lines {' '.join(lines)})", flush=True)
    LINK.close()
    KEPT.link.close()
    sys.exit(failed > 0)


main()
