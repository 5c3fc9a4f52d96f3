#!/usr/bin/env node
// A provider as an author would write one in Node, by docs/providers.md alone. Its proto folder is in $PROTO, its libraries
// are in $LIBRARIES.
"use strict";

const path = require("node:path");

const library = (name) => require(path.join(process.env.LIBRARIES, name));
const grpc = library("@grpc/grpc-js");
const loader = library("@grpc/proto-loader");

const file = path.join(process.env.PROTO, "nomos/provider/v1/provider.proto");
const options = { keepCase: true, enums: String, defaults: true, oneofs: true, includeDirs: [process.env.PROTO] };
const { ProviderService } = grpc.loadPackageDefinition(loader.loadSync(file, options)).nomos.provider.v1;

const tree = { database: { host: "db1", port: 5432, replicas: ["a", "b"], tls: true, ratio: 0.5, none: null } };
let config = null;

// google.protobuf.Struct has no helper here.
const wrap = (value) => {
  if (value === null) return { nullValue: "NULL_VALUE" };
  if (typeof value === "number") return { numberValue: value };
  if (typeof value === "string") return { stringValue: value };
  if (typeof value === "boolean") return { boolValue: value };
  if (Array.isArray(value)) return { listValue: { values: value.map(wrap) } };
  return { structValue: struct(value) };
};
const struct = (map) => ({ fields: Object.fromEntries(Object.entries(map).map(([key, value]) => [key, wrap(value)])) });

const fail = (callback, code, details) => callback({ code, details });

const implementation = {
  Init({ request }, callback) {
    if (config !== null) return fail(callback, grpc.status.FAILED_PRECONDITION, "Init came twice");
    config = request.config ?? {};
    callback(null, {});
  },
  Fetch({ request }, callback) {
    if (config === null) return fail(callback, grpc.status.FAILED_PRECONDITION, "there was no Init yet");
    if (request.path.length === 0) return fail(callback, grpc.status.INVALID_ARGUMENT, "the path is empty");
    if (request.path[0] === "hang") return;
    let value = { pid: process.pid, ...tree };
    for (const key of request.path) {
      value = value?.[key];
      if (value === undefined) return fail(callback, grpc.status.NOT_FOUND, request.path.join("/"));
    }
    const isMap = typeof value === "object" && value !== null && !Array.isArray(value);
    callback(null, { value: struct(isMap ? value : { value }) });
  },
  Info: (_, callback) => callback(null, { alias: "", version: "1.0", type: "node" }),
  Health: (_, callback) =>
    callback(null, config === null ? { status: "STATUS_DEGRADED" } : { status: "STATUS_OK", message: "healthy" }),
  Shutdown: (_, callback) => callback(null, {}),
};

const server = new grpc.Server();
server.addService(ProviderService.service, implementation);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log("getting ready");
  console.log(`PROVIDER_PORT=${port}`);
  console.error("the last words of node");
});
process.on("SIGTERM", () => process.exit(0));
