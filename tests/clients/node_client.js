// The gRPC interface as Node's grpc-js sees it: one line for each check, `ok NAME` or `FAILED NAME: why`.
// Takes one argument: a JSON object with what it meets. The other client of the tests makes the same checks in Python.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const tls = require("node:tls");

const met = JSON.parse(process.argv[2]);
const library = (name) => require(path.join(met.libraries, name));
const grpc = library("@grpc/grpc-js");
const loader = library("@grpc/proto-loader");
const protobuf = library("protobufjs");
const descriptor = library("protobufjs/ext/descriptor");

const OPTIONS = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true, includeDirs: [met.proto] };
const loaded = (file) => grpc.loadPackageDefinition(loader.loadSync(file, OPTIONS));
const { ProcessService } = loaded("provost/v1/process_service.proto").provost.v1;
const { ProviderService } = loaded("provost/v1/provider_service.proto").provost.v1;
const { Health } = loaded("grpc/health/v1/health.proto").grpc.health.v1;
const REFLECTIONS = {
  v1: loaded("grpc/reflection/v1/reflection.proto").grpc.reflection.v1.ServerReflection,
  v1alpha: loaded("grpc/reflection/v1alpha/reflection.proto").grpc.reflection.v1alpha.ServerReflection,
};
const rpc = protobuf.loadSync([path.join(met.proto, "google/rpc/status.proto"), path.join(met.proto, "google/rpc/error_details.proto")]);

// Generous: what is waited for comes at once, or when a busy machine gets to it.
const SOON = 20_000;
const SERVICES = [
  "grpc.health.v1.Health",
  "grpc.reflection.v1.ServerReflection",
  "grpc.reflection.v1alpha.ServerReflection",
  "provost.v1.ModuleService",
  "provost.v1.ProcessService",
  "provost.v1.ProviderService",
  "provost.v1.RegistryService",
];
const checks = {};

// --- connections

const file = (name) => fs.readFileSync(path.join(met.dir, name));
const secured = (ca = "ca.pem", certificate = "client.pem", key = "client.key") =>
  certificate ? grpc.credentials.createSsl(file(ca), file(key), file(certificate)) : grpc.credentials.createSsl(file(ca));
// Without a pool in common, each client is a connection of its own.
const connect = (Service, credentials = secured(), options = {}) =>
  new Service(met.host, credentials, { "grpc.use_local_subchannel_pool": 1, ...options });

const metadata = (authorization) => {
  const all = new grpc.Metadata();
  if (authorization !== undefined) all.set("authorization", authorization);
  return all;
};
const basic = (user, password) => "Basic " + Buffer.from(`${user}:${password}`).toString("base64");
const login = (user, password) => metadata(basic(user, password));
const loginOf = (role) => login(...met.users[role]);
const soon = () => ({ deadline: Date.now() + SOON });

// A unary call as a promise.
const call = (client, method, request, credentials, options = soon()) =>
  new Promise((resolve, reject) =>
    client[method](request, credentials, options, (error, answer) => (error ? reject(error) : resolve(answer))),
  );
const isStream = (client, method) => client[method].responseStream;

// What has been called at least once.
const called = new Set();

// The methods with the credentials of a role, on a connection.
class User {
  constructor(role, client) {
    this.client = client;
    this.metadata = loginOf(role);
  }
  ask(method, request = {}, options = soon()) {
    called.add(method);
    return call(this.client, method, request, this.metadata, options);
  }
  open(method, request = {}, options = soon()) {
    called.add(method);
    return this.client[method](request, this.metadata, options);
  }
}

const link = connect(ProcessService);
const admin = new User("admin", link);
const operator = new User("operator", link);
const viewer = new User("viewer", link);

// --- processes

const only = (item) => {
  assert.equal(item.error, null, JSON.stringify(item.error));
  return item.process;
};
const all = async (answer) => (await answer).results.map(only);
const one = async (answer) => {
  const results = await all(answer);
  assert.equal(results.length, 1);
  return results[0];
};

// Processes for the time of `use`, which gets their ids as text.
async function started(spec, use, count = 0) {
  const made = await all(admin.ask("Start", { spec, count, numbered: count > 0 }));
  const ids = made.map((p) => p.id);
  try {
    return await use(count === 0 ? ids[0] : ids);
  } finally {
    await admin.ask("Remove", { targets: ids, force: true });
  }
}

const SLEEP = { command: ["sleep", "1000"] };
const status = (...targets) => all(viewer.ask("Status", { targets }));
const wait = (...targets) => all(viewer.ask("Wait", { targets }));

async function until(what, condition) {
  const deadline = Date.now() + SOON;
  while (!(await condition())) {
    assert.ok(Date.now() < deadline, `waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

// How many threads of the gateway are there for one call each.
function threadsOfCalls() {
  const tasks = `/proc/${met.gateway_pid}/task`;
  return fs.readdirSync(tasks).filter((task) => {
    try {
      return fs.readFileSync(`${tasks}/${task}/comm`, "utf8") === "call\n";
    } catch {
      return false;
    }
  }).length;
}

// A call within has a thread in the gateway, and none afterwards, with the connection still there.
async function withOneCall(use) {
  const over = () => until("no call has a thread", () => threadsOfCalls() === 0);
  await over();
  await use(() => until("the call has a thread", () => threadsOfCalls() === 1));
  await over();
}

// The error that something ends with.
async function failure(answer) {
  try {
    await answer;
  } catch (error) {
    if (error.code !== undefined && error.metadata !== undefined) return error;
    throw error;
  }
  throw new assert.AssertionError({ message: "it did not fail" });
}

// All messages of a stream.
async function collect(stream, each = () => {}) {
  const got = [];
  for await (const message of stream) {
    got.push(message);
    each(message);
  }
  return got;
}

const codeOf = (error) => grpc.status[error.code];
const detailsOf = (error) => error.metadata.get("grpc-status-details-bin")[0];

// It fails with this status, and its details say this reason. Returns the hint.
async function refused(code, reason, answer) {
  const error = await failure(answer);
  assert.equal(codeOf(error), code, error.message);
  const details = rpc.lookupType("google.rpc.Status").decode(detailsOf(error));
  assert.deepEqual([details.code, details.message], [error.code, error.details]);
  const [any] = details.details;
  assert.equal(any.type_url ?? any.typeUrl, "type.googleapis.com/google.rpc.ErrorInfo");
  const info = rpc.lookupType("google.rpc.ErrorInfo").decode(any.value);
  assert.deepEqual([info.domain, info.reason], ["provost.internal", reason]);
  return info.metadata.hint ?? "";
}

// --- every method

checks.start_one = () =>
  started({ ...SLEEP, name: "js-one", labels: [{ key: "tier", value: "web" }] }, async (id) => {
    const [found] = await status("js-one");
    assert.deepEqual([found.id, found.run, found.state], [id, 1, "PROCESS_STATE_RUNNING"]);
    assert.deepEqual([found.command, found.labels], [SLEEP.command, [{ key: "tier", value: "web" }]]);
    assert.ok(found.pid > 0);
    assert.match(found.cause, /user alice.*client\.provost/);
  });

checks.start_count = () =>
  started({ ...SLEEP, name: "js-many" }, async (ids) => {
    assert.equal(new Set(ids).size, 3);
    const found = await status(...ids);
    assert.deepEqual(found.map((p) => p.name), ["js-many-1", "js-many-2", "js-many-3"]);
    assert.deepEqual(found.map((p) => p.instance), [1, 2, 3]);
  }, 3);

checks.start_again = () =>
  started({ command: ["true"] }, async (id) => {
    await wait(id);
    assert.equal((await one(operator.ask("StartAgain", { targets: [id] }))).run, 2);
  });

checks.start_of_nothing = async () => {
  await refused("FAILED_PRECONDITION", "PROGRAM_NOT_FOUND", admin.ask("Start", { spec: { command: ["/no/such"] } }));
  await refused("INVALID_ARGUMENT", "USAGE", admin.ask("Start", { spec: {} }));
  await refused("INVALID_ARGUMENT", "USAGE", admin.ask("Start", { count: 2 }));
};

checks.stop = () =>
  started(SLEEP, async (id) => {
    const stopped = await one(operator.ask("Stop", { targets: [id] }));
    assert.deepEqual([stopped.state, stopped.last_end.signal_number], ["PROCESS_STATE_STOPPED", 15]);
  });

checks.stop_with_a_signal = () =>
  started(SLEEP, async (id) => {
    const stopped = await one(operator.ask("Stop", { targets: [id], signal_number: 2, timeout: { seconds: 5 } }));
    assert.equal(stopped.last_end.signal_number, 2);
  });

checks.restart = () =>
  started(SLEEP, async (id) => {
    const [before] = await status(id);
    const after = await one(operator.ask("Restart", { targets: [id] }));
    assert.equal(after.run, 2);
    assert.notEqual(after.pid, before.pid);
  });

checks.remove = () =>
  started({ command: ["true"] }, async (id) => {
    await wait(id);
    await one(admin.ask("Remove", { targets: [id] }));
    const { results } = await viewer.ask("Status", { targets: [id] });
    assert.deepEqual([results[0].target, results[0].error.code], [id, "ERROR_CODE_NOT_FOUND"]);
  });

checks.update_and_definitions = () =>
  started({ ...SLEEP, name: "js-update" }, async (id) => {
    const definition = async () => {
      const [item] = await collect(admin.open("Definitions", { targets: [id] }));
      return item.definition;
    };
    const { spec } = await definition();
    assert.deepEqual(spec.command, SLEEP.command);
    const labels = [{ key: "team", value: "web" }];
    const updated = await one(admin.ask("Update", { target: id, spec: { ...spec, labels } }));
    assert.deepEqual([updated.id, updated.run], [id, 1]);
    assert.deepEqual((await definition()).spec.labels, labels);
    const command = ["sleep", "1001"];
    await one(admin.ask("Update", { target: "js-update", spec: { ...spec, command }, restart: true }));
    await until("it runs in the new way", async () => (await status(id))[0].run === 2);
    const [missing] = await collect(admin.open("Definitions", { targets: ["nobody"] }));
    assert.equal(missing.missing.error.code, "ERROR_CODE_NOT_FOUND");
  });

checks.signal = () => {
  const script = "trap 'echo usr1; exit 7' USR1; echo up; while :; do sleep 0.05; done";
  return started({ command: ["sh", "-c", script], readiness: { line: "up" } }, async (id) => {
    await viewer.ask("Wait", { targets: [id], condition: "WAIT_CONDITION_READY" });
    await one(operator.ask("Signal", { targets: [id], signal_number: 10, scope: "SIGNAL_SCOPE_LEADER" }));
    assert.equal((await wait(id))[0].last_end.exit_code, 7);
  });
};

checks.wait_for_states = async () => {
  await started({ command: ["sh", "-c", "exit 3"] }, async (id) => {
    const [ended] = await wait(id);
    assert.deepEqual([ended.state, ended.last_end.exit_code], ["PROCESS_STATE_STOPPED", 3]);
  });
  await started(SLEEP, async (id) => {
    const running = await one(viewer.ask("Wait", { targets: [id], condition: "WAIT_CONDITION_RUNNING" }));
    assert.equal(running.state, "PROCESS_STATE_RUNNING");
    const { results } = await viewer.ask("Wait", { targets: [id], timeout: { nanos: 50_000_000 } });
    assert.equal(results[0].error.code, "ERROR_CODE_TIMED_OUT");
  });
};

checks.status_by_every_target = () =>
  started({ ...SLEEP, name: "js-target" }, async (ids) => {
    // A prefix of a UUID of now is not unique; all but its last digits is.
    for (const target of [ids[0], ids[0].slice(0, 34), "js-target-1"]) {
      assert.deepEqual((await status(target)).map((p) => p.id), ids.slice(0, 1));
    }
    assert.deepEqual((await status("js-*")).map((p) => p.id), ids);
    const { results } = await viewer.ask("Status", { targets: ["nobody", ids[1]] });
    assert.equal(results.find((i) => i.target === "nobody").error.code, "ERROR_CODE_NOT_FOUND");
  }, 2);

checks.list_all = () =>
  started({ ...SLEEP, name: "js-list" }, async () => {
    const names = async (request) => (await viewer.ask("List", request)).processes.map((p) => p.name);
    assert.deepEqual((await names({ pattern: "js-list*" })).sort(), ["js-list-1", "js-list-2"]);
    assert.ok(!(await names({})).includes("provost.gateway"));
    assert.ok((await names({ include_internal: true })).includes("provost.gateway"));
  }, 2);

// All of an answer, page by page.
async function pages(method, request, field) {
  const found = [];
  for (let page_token = ""; ; ) {
    const page = await viewer.ask(method, { ...request, page_token });
    assert.ok(page[field].length <= request.page_size);
    found.push(...page[field]);
    page_token = page.next_page_token;
    if (!page_token) return found;
  }
}

checks.answers_by_pages = () =>
  started({ ...SLEEP, name: "js-page" }, async (ids) => {
    const listed = await pages("List", { pattern: "js-page*", page_size: 3 }, "processes");
    assert.deepEqual(listed.map((p) => p.id), ids);
    const asked = await pages("Status", { targets: ["nobody", "js-page*"], page_size: 2 }, "results");
    assert.deepEqual(asked.flatMap((r) => (r.error ? [r.target] : [])), ["nobody"]);
    assert.deepEqual(asked.flatMap((r) => (r.process ? [r.process.id] : [])), ids);
    await refused("INVALID_ARGUMENT", "USAGE", viewer.ask("List", { page_token: "nothing of the kind" }));
  }, 7);

checks.output = () =>
  started({ command: ["sh", "-c", "printf 'to out'; printf 'to err' >&2"] }, async (id) => {
    await wait(id);
    const read = async (selection) =>
      Buffer.concat((await collect(operator.open("Output", { target: id, selection }))).map((p) => p.chunk.data)).toString();
    assert.equal(await read("OUTPUT_SELECTION_STDOUT"), "to out");
    assert.equal(await read("OUTPUT_SELECTION_STDERR"), "to err");
    assert.equal((await read("OUTPUT_SELECTION_BOTH")).length, 12);
    await refused("NOT_FOUND", "NOT_FOUND", collect(operator.open("Output", { target: "nobody" })));
  });

// Every byte there is, most of them no UTF-8, many times.
const NO_TEXT = Buffer.concat(Array(256).fill(Buffer.from([...Array(256).keys()])));
const BACKWARDS = Buffer.from(NO_TEXT).reverse();
const PRINT = `const fs = require("fs"), b = Buffer.concat(Array(256).fill(Buffer.from([...Array(256).keys()])));
  for (let n = 0; n < b.length; n += 4096) fs.writeSync(1, b, n, 4096);
  for (let r = Buffer.from(b).reverse(), n = 0; n < r.length; ) n += fs.writeSync(2, r, n);`;
const PRINTER = { command: [process.execPath, "-e", PRINT] };

// All bytes of a stream by the stream that they came on; they are complete and in order.
async function streamed(id, since = { oldest: true }) {
  const got = { out: [], err: [] };
  let next = since.offset ?? 0;
  await collect(operator.open("Stream", { targets: [id], ...since }), (message) => {
    assert.ok(["chunk", "ended"].includes(message.item), message.item);
    if (message.item === "ended") return;
    assert.equal(message.chunk.offset, next);
    next += message.chunk.data.length;
    got[message.chunk.stream === "OUTPUT_STREAM_STDERR" ? "err" : "out"].push(message.chunk.data);
  });
  return [Buffer.concat(got.out), Buffer.concat(got.err)];
}

const same = (got, wanted) =>
  got.forEach((bytes, n) => assert.ok(bytes.equals(wanted[n]), `stream ${n}: ${bytes.length} bytes`));

checks.stream_both = () => started(PRINTER, async (id) => same(await streamed(id), [NO_TEXT, BACKWARDS]));

checks.stream_from_offset = () =>
  started(PRINTER, async (id) => {
    await wait(id);
    same(await streamed(id, { offset: 1000 }), [NO_TEXT.subarray(1000), BACKWARDS]);
    const request = { targets: [id], oldest: true, selection: "OUTPUT_SELECTION_STDERR" };
    const chunks = (await collect(operator.open("Stream", request))).flatMap((m) => (m.chunk ? [m.chunk] : []));
    assert.ok(chunks.every((c) => c.stream === "OUTPUT_STREAM_STDERR"));
    same([Buffer.concat(chunks.map((c) => c.data))], [BACKWARDS]);
    await refused("NOT_FOUND", "NOT_FOUND", collect(operator.open("Stream", { targets: ["nobody"] })));
  });

checks.env = async () => {
  await admin.ask("Environment", { set: [{ key: "JS_COLOUR", value: "blau ü" }] });
  const shown = (await admin.ask("Environment")).environment.find((v) => v.key === "JS_COLOUR");
  assert.equal(shown.value, "blau ü");
  await started({ command: ["sh", "-c", 'printf %s "$JS_COLOUR"'] }, async (id) =>
    assert.equal((await streamed(id))[0].toString(), "blau ü"),
  );
  const { environment } = await admin.ask("Environment", { unset: ["JS_COLOUR"] });
  assert.ok(!environment.some((v) => v.key === "JS_COLOUR"));
};

checks.events_follow_and_resume = () =>
  started(SLEEP, async (id) => {
    // The kinds of the events that come until this one, and its number.
    const kinds = async (since, last) => {
      const got = [];
      const stream = viewer.open("Events", { after_sequence: since, follow: true, target: id });
      for await (const batch of stream) {
        for (const event of batch.events) {
          got.push(event.kind.replace("PROCESS_EVENT_KIND_", "").toLowerCase());
          if (got.at(-1) === last) {
            stream.on("error", () => {});
            stream.cancel();
            return [got, event.sequence];
          }
        }
      }
    };
    const [begin, seq] = await kinds(0, "started");
    assert.deepEqual(begin, ["created", "started"]);
    const stopped = operator.ask("Stop", { targets: [id] });
    const [rest] = await kinds(seq, "stopped");
    await stopped;
    assert.equal(rest[0], "stopping");
    assert.ok(!rest.includes("started"));
  });

checks.history = () =>
  started({ command: ["true"] }, async (id) => {
    await wait(id);
    const batches = await collect(viewer.open("History", { target: id }));
    const events = batches.flatMap((b) => b.events);
    assert.ok(events.length >= 3 && events.every((e) => e.process_id === id));
    assert.ok(events.every((e, n) => n === 0 || e.sequence > events[n - 1].sequence));
    assert.match(events[0].cause, /user alice/);
  });

checks.audit = () =>
  started(SLEEP, async (id) => {
    await refused("PERMISSION_DENIED", "ROLE", viewer.ask("Stop", { targets: [id] }));
    const lines = [];
    for (;;) {
      const page = (await admin.ask("Audit", { after_sequence: lines.at(-1)?.sequence ?? 0, limit: 100 })).lines;
      if (page.length === 0) break;
      lines.push(...page);
    }
    const last = (user) => lines.filter((line) => line.caller.includes(`user ${user}`)).at(-1);
    assert.match(last("alice").request, /sleep/);
    assert.ok(last("alice").result);
    assert.ok(last("vera").request.includes(id), last("vera").request);
    assert.match(last("vera").result, /viewer may not stop/);
  });

checks.service = async () => {
  const about = await viewer.ask("ServiceInfo");
  assert.ok(about.version && about.keeper_pid && about.engine_pid);
  assert.equal(about.engine_starts, 1);
};

checks.health_of_the_store = async () => assert.equal((await viewer.ask("Health")).store.state, "STORE_STATE_SOUND");

checks.upgrade_needs_admin = async () => {
  for (const user of [viewer, operator]) {
    await refused("PERMISSION_DENIED", "ROLE", user.ask("Upgrade", { id: "01234567-89ab-7def-8123-456789abcdef" }));
  }
};

checks.providers = async () => {
  const client = connect(ProviderService);
  const [boss, other] = [new User("admin", client), new User("operator", client)];
  const target = { alias: "js-app" };
  const spec = { binary: met.provider, allow_external: true };
  await refused("PERMISSION_DENIED", "ROLE", other.ask("StartProvider", { target, spec }));
  const { provider } = await boss.ask("StartProvider", { target, spec });
  assert.equal(provider.state, "PROVIDER_STATE_READY");
  const { value } = await other.ask("FetchValue", { target, path: ["pid"] });
  assert.equal(value.fields.value.numberValue, provider.pid);
  assert.equal((await other.ask("ProviderInfo", { target })).provider.type, "rude");
  assert.equal((await other.ask("ProviderHealth", { target })).status, "PROVIDER_HEALTH_STATUS_OK");
  const listed = (await other.ask("ListProviders")).providers;
  assert.deepEqual(listed.map((p) => p.target.alias), ["js-app"]);
  await boss.ask("ResetProvider", { target });
  assert.notEqual((await boss.ask("ReplaceProvider", { target })).provider.pid, provider.pid);
  await boss.ask("StopProvider", { target });
  await boss.ask("ShutDownProviders");
  client.close();
};

// --- how calls end

checks.errors_have_details = async () => {
  const hints = [
    await refused("INVALID_ARGUMENT", "USAGE", viewer.ask("Status")),
    await refused("INVALID_ARGUMENT", "USAGE", collect(operator.open("Output", { target: "no good name" }))),
  ];
  assert.ok(hints.join(""), "no hint in either");
};

checks.the_wrong_field_is_named = async () => {
  const wrong = [
    [viewer, "Wait", { targets: ["x"], condition: 99 }, "condition"],
    [operator, "Signal", { targets: ["x"], signal_number: 65 }, "signal_number"],
    [operator, "Signal", { targets: ["x"], signal_number: 15, scope: 77 }, "scope"],
    [operator, "Stop", { targets: ["x"], timeout: { seconds: -1 } }, "timeout"],
    [admin, "Start", { spec: { command: ["x"] }, ids: ["no uuid"] }, "ids"],
    [admin, "Start", {}, "spec"],
  ];
  for (const [user, method, request, field] of wrong) {
    const error = await failure(user.ask(method, request));
    assert.equal(codeOf(error), "INVALID_ARGUMENT", method);
    const [, more] = rpc.lookupType("google.rpc.Status").decode(detailsOf(error)).details;
    const bad = rpc.lookupType("google.rpc.BadRequest").decode(more.value);
    assert.deepEqual(bad.fieldViolations.map((v) => v.field), [field]);
  }
};

checks.deadline_ends_the_wait = () =>
  started(SLEEP, (id) =>
    withOneCall(async () => {
      const begin = Date.now();
      const error = await failure(viewer.ask("Wait", { targets: [id] }, { deadline: begin + 300 }));
      assert.equal(codeOf(error), "DEADLINE_EXCEEDED");
      assert.ok(Date.now() - begin < 5000, "late");
    }),
  );

// Reads one message of a stream that has more, does something meanwhile, and cancels it.
async function firstOf(stream, meanwhile = () => {}) {
  try {
    for await (const message of stream) {
      await meanwhile();
      stream.on("error", () => {});
      stream.cancel();
      return message;
    }
  } finally {
    stream.cancel();
  }
}

checks.cancelled_stream_leaves_no_thread = async () => {
  await started({ command: ["sh", "-c", "echo first; exec sleep 1000"] }, (id) =>
    withOneCall(async (isThere) => {
      const { chunk } = await firstOf(operator.open("Stream", { targets: [id], oldest: true }, {}), isThere);
      assert.equal(chunk.data.toString(), "first\n");
    }),
  );
  await withOneCall((isThere) => firstOf(viewer.open("Events", { follow: true }, {}), isThere));
};

checks.large_message_is_refused = async () => {
  const environment = [{ key: "BIG", value: "x".repeat(4_200_000) }];
  const error = await failure(admin.ask("Start", { spec: { command: ["true"], environment } }));
  assert.equal(codeOf(error), "RESOURCE_EXHAUSTED");
  await viewer.ask("ServiceInfo");
};

checks.eight_streams = () =>
  started({ ...PRINTER, name: "js-eight" }, async (ids) => {
    for (const got of await Promise.all(ids.map((id) => streamed(id)))) same(got, [NO_TEXT, BACKWARDS]);
  }, 8);

checks.fifty_calls = () =>
  started(SLEEP, async (id) => {
    const answers = await Promise.all(Array.from({ length: 50 }, () => status(id)));
    assert.ok(answers.every(([p]) => p.id === id));
  });

// --- who may

const denied = (credentials) =>
  refused("PERMISSION_DENIED", "CREDENTIALS", call(link, "ServiceInfo", {}, credentials));

checks.wrong_password = async () => {
  for (const password of ["wrong password", "", "x".repeat(400)]) await denied(login("alice", password));
};

checks.unknown_user = async () => {
  const unknown = login("mallory", met.users.admin[1]);
  await denied(unknown);
  const stream = link.Stream({ targets: ["x"] }, unknown, soon());
  await refused("PERMISSION_DENIED", "CREDENTIALS", collect(stream));
};

checks.no_credentials = async () => {
  for (const value of ["Bearer abc", "Basic", "Basic !", "Basic " + "A".repeat(2000), ""]) await denied(metadata(value));
  await denied(metadata());
};

checks.roles = () =>
  started(SLEEP, async (id) => {
    const targets = [id];
    const operators = [
      ["StartAgain", { targets }],
      ["Stop", { targets }],
      ["Restart", { targets }],
      ["Signal", { targets, signal_number: 18 }],
      ["Output", { target: id }],
      ["Stream", { targets }],
    ];
    const admins = [
      ["Start", { spec: { command: ["true"] } }],
      ["Remove", { targets, force: true }],
      ["Environment", {}],
      ["Audit", {}],
      ["Environment", { set: [{ key: "LD_PRELOAD", value: "/tmp/x" }] }],
    ];
    const tried = [...[...operators, ...admins].map((t) => [viewer, ...t]), ...admins.map((t) => [operator, ...t])];
    for (const [user, method, request] of tried) {
      const answer = isStream(link, method) ? collect(user.open(method, request)) : user.ask(method, request);
      await refused("PERMISSION_DENIED", "ROLE", answer);
    }
    const [found] = await status(id);
    assert.deepEqual([found.state, found.run], ["PROCESS_STATE_RUNNING", 1]);
  });

// --- who gets in

async function notLetIn(credentials) {
  const other = connect(ProcessService, credentials);
  const error = await failure(new User("admin", other).ask("ServiceInfo"));
  // No details: not one of our statuses, no HTTP/2 was spoken.
  assert.deepEqual([codeOf(error), detailsOf(error)], ["UNAVAILABLE", undefined]);
  other.close();
}

// What a client gets that speaks HTTP/2 with this TLS: the bytes, or the error.
function raw(options) {
  const [host, port] = met.host.split(":");
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host, port, ca: file("ca.pem"), ALPNProtocols: ["h2"], ...options });
    socket.setTimeout(SOON, () => reject(new Error("nothing came")));
    socket.on("secureConnect", () => socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"));
    socket.on("data", (bytes) => socket.end(() => resolve(bytes)));
    socket.on("error", (error) => resolve(error.code));
    socket.on("close", () => resolve("closed"));
  });
}

const ours = () => ({ cert: file("client.pem"), key: file("client.key") });

checks.no_certificate = async () => {
  await notLetIn(secured("ca.pem", null));
  assert.equal(await raw({}), "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED");
  assert.ok((await raw(ours())).length > 8, "with one, it is answered");
};

checks.other_authority = async () => {
  await notLetIn(secured("ca.pem", "other.pem", "other.key"));
  // The other way round: it is we who do not believe the server.
  await notLetIn(secured("other-ca.pem"));
};

checks.expired_certificate = () => notLetIn(secured("ca.pem", "expired.pem", "expired.key"));

checks.tls_1_2 = async () =>
  assert.equal(await raw({ ...ours(), maxVersion: "TLSv1.2" }), "ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION");

// --- the standard services

const health = connect(Health);

checks.health_check = async () => {
  const ask = (service, credentials = metadata()) => call(health, "Check", { service }, credentials);
  for (const name of ["", "provost.v1.ProcessService"]) assert.equal((await ask(name)).status, "SERVING");
  assert.equal(codeOf(await failure(ask("no.such.Service"))), "NOT_FOUND");
  await refused("PERMISSION_DENIED", "CREDENTIALS", ask("", login("alice", "wrong password")));
  assert.equal((await ask("", loginOf("viewer"))).status, "SERVING");
};

checks.health_watch = () =>
  withOneCall(async () => {
    for (const [service, wanted] of [["", "SERVING"], ["no.such.Service", "SERVICE_UNKNOWN"]]) {
      assert.equal((await firstOf(health.Watch({ service }))).status, wanted);
    }
  });

// Asks all of these, one after the other, on one stream.
async function reflected(version, requests) {
  const client = connect(REFLECTIONS[version]);
  const stream = client.ServerReflectionInfo(metadata(), soon());
  const answers = collect(stream);
  for (const request of requests) stream.write(request);
  stream.end();
  const got = await answers;
  client.close();
  assert.equal(got.length, requests.length);
  return got;
}

// Every service and its messages can be made from what reflection says.
async function described(version) {
  const [list] = await reflected(version, [{ list_services: "" }]);
  assert.deepEqual(list.list_services_response.service.map((s) => s.name).sort(), SERVICES);
  const answers = await reflected(version, SERVICES.map((name) => ({ file_containing_symbol: name })));
  const files = new Map();
  for (const answer of answers) {
    for (const bytes of answer.file_descriptor_response.file_descriptor_proto) {
      const one = descriptor.FileDescriptorProto.decode(bytes);
      files.set(one.name, one);
    }
  }
  const set = descriptor.FileDescriptorSet.encode({ file: [...files.values()] }).finish();
  const definitions = loader.loadFileDescriptorSetFromBuffer(Buffer.from(set), OPTIONS);
  for (const name of SERVICES) {
    for (const method of Object.values(definitions[name])) {
      method.responseSerialize({});
      method.requestSerialize({});
    }
  }
  const methods = Object.keys(definitions["provost.v1.ProcessService"]).sort();
  assert.deepEqual(methods, Object.keys(ProcessService.service).sort());
  for (const name of ["ProcessSpec", "ProcessEvent", "ManagedProcess", "StreamResponse"]) assert.ok(definitions[`provost.v1.${name}`], name);
  const [nothing] = await reflected(version, [{ file_containing_symbol: "provost.v1.Nothing" }]);
  assert.equal(nothing.error_response.error_code, grpc.status.NOT_FOUND);
}

checks.reflection_v1alpha = () => described("v1alpha");
checks.reflection_v1 = () => described("v1");

// --- a connection that only pings: begun first and looked at last

const kept = {
  begin: Date.now(),
  states: [],
  client: connect(ProcessService, secured(), {
    "grpc.keepalive_time_ms": 2000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.keepalive_permit_without_calls": 1,
  }),
  async start() {
    await new User("viewer", this.client).ask("ServiceInfo");
    this.note();
  },
  // Every state that the connection is in, from now on.
  note() {
    const channel = this.client.getChannel();
    const state = channel.getConnectivityState(false);
    this.states.push(grpc.connectivityState[state]);
    channel.watchConnectivityState(state, Infinity, (error) => error || this.note());
  },
};

checks.keep_alive = async () => {
  await until("five pings are through", () => Date.now() - kept.begin > 11_000);
  await new User("viewer", kept.client).ask("ServiceInfo");
  assert.deepEqual(kept.states, ["READY"]);
};

checks.every_method = async () => {
  const methods = [ProcessService, ProviderService].flatMap((each) => Object.keys(each.service));
  assert.deepEqual(methods.filter((method) => !called.has(method)), []);
};

async function main() {
  await kept.start();
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log("ok", name);
    } catch (error) {
      failed += 1;
      const lines = [...(error.stack ?? "").matchAll(/node_client\.js:(\d+)/g)].map((m) => m[1]).join(" ");
      console.log(`FAILED ${name}: ${String(error.message).replace(/\s+/g, " ").slice(0, 600)} (lines ${lines})`);
    }
  }
  process.exit(failed > 0 ? 1 : 0);
}

main();
