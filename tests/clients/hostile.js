// A provider in Node that uses the protocol in the wrong order: what came of each is a line.
//
// hostile.js ADDRESS: the proto folder is in $PROTO, the libraries in $LIBRARIES.
const path = require('node:path');
const load = (name) => require(path.join(process.env.LIBRARIES, name));
const grpc = load('@grpc/grpc-js');
const loader = load('@grpc/proto-loader');

const [address] = process.argv.slice(2);
const definition = loader.loadSync('constellation/provider/v1/provider.proto', {
  includeDirs: [process.env.PROTO], keepCase: true, longs: Number, enums: String, oneofs: true,
});
const { ModuleProvider } = grpc.loadPackageDefinition(definition).constellation.provider.v1;
const service = new ModuleProvider(address, grpc.credentials.createInsecure());
const INT = { primitive: { kind: 'INT' } };
const say = (what, value) => console.log(`${what}: ${value}`);
const call = (method, request) => new Promise((resolve) => {
  service[method](request, (error, answer) => resolve(error ? { error: grpc.status[error.code] } : answer));
});
const register = (more) => call('Register', {
  namespace: 'node', modules: [{ name: 'm', input_schema: INT, output_schema: INT }], protocol_version: 1,
  executor_url: 'localhost:1', ...more,
});
// A stream that says this, and how it ended.
const stream = (work) => new Promise((resolve) => {
  const seen = [];
  const open = service.ControlPlane();
  open.on('data', (message) => seen.push(message.payload));
  open.on('error', () => {});
  open.on('status', (status) => resolve(`${seen.join(' ')} ${grpc.status[status.code]}`.trim()));
  work(open);
});
const beat = (connection_id) => ({ protocol_version: 1, connection_id, heartbeat: { namespace: 'node', timestamp: 1 } });

(async () => {
  say('a stream before a registration', await stream((s) => s.write(beat('none'))));
  say('a stream that says nothing', await stream((s) => s.end()));
  const empty = await register({ modules: [] });
  say('no modules', empty.success);
  say('its stream', await stream((s) => { s.write(beat(empty.connection_id)); s.end(); }));
  const partial = await register({ modules: [
    { name: 'good', input_schema: INT, output_schema: INT }, { name: 'bad', input_schema: INT },
    { name: 'b ad', input_schema: INT, output_schema: {} },
  ] });
  say('in part', partial.results.map((r) => r.accepted || r.rejection_reason).join(' | '));
  // Beats after the half-close are the library's error; the service sees the end, and the modules are gone.
  say('it ends', await stream((s) => { s.write(beat(partial.connection_id)); s.end(); }));
  const names = { namespace: 'node', module_names: ['good', 'bad'], connection_id: partial.connection_id };
  say('deregistered late', (await call('Deregister', names)).results.map((r) => r.error).join(' | '));
  // A call that is cancelled in the middle of its stream.
  const next = await register();
  say('cancelled', await stream((s) => { s.write(beat(next.connection_id)); s.once('data', () => s.cancel()); }));
  let again = await register();
  for (let n = 0; !again.success && n < 100; n += 1) again = await register();
  say('free again', again.success);
  // The same executor again, without a word about the one before: in its place.
  const replaced = await register();
  say('in its place', replaced.success && replaced.connection_id !== again.connection_id);
  say('the one before', await stream((s) => s.write(beat(again.connection_id))));
  say('gone', (await call('Deregister', { namespace: 'node', module_names: ['m'], connection_id: replaced.connection_id })).success);
  service.close();
})();
