// A provider of modules as an author would write one in Node, by docs/modules.md alone.
//
// module.js ADDRESS NAMESPACE: registers mul and who, and says so. The proto folder is in $PROTO, the libraries in $LIBRARIES.
const path = require('node:path');
const load = (name) => require(path.join(process.env.LIBRARIES, name));
const grpc = load('@grpc/grpc-js');
const loader = load('@grpc/proto-loader');

const [address, namespace] = process.argv.slice(2);
const definition = loader.loadSync('constellation/provider/v1/provider.proto', {
  includeDirs: [process.env.PROTO], keepCase: true, longs: Number, enums: String, oneofs: true,
});
const { ModuleExecutor, ModuleProvider } = grpc.loadPackageDefinition(definition).constellation.provider.v1;
const INT = { primitive: { kind: 'INT' } };
const modules = {
  mul: [{ record: { fields: { a: INT, b: INT } } }, (given) => given.a.value * given.b.value],
  who: [{ record: { fields: {} } }, () => process.pid],
};

const executor = new grpc.Server();
executor.addService(ModuleExecutor.service, {
  Execute(call, answer) {
    const [, execute] = modules[call.request.module_name];
    const value = execute(JSON.parse(call.request.input_data).value);
    answer(null, { output_data: Buffer.from(JSON.stringify({ tag: 'CInt', value })) });
  },
});
executor.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  const service = new ModuleProvider(address, grpc.credentials.createInsecure());
  const declared = Object.entries(modules).map(([name, [input_schema]]) => ({ name, input_schema, output_schema: INT }));
  const request = { namespace, modules: declared, protocol_version: 1, executor_url: `localhost:${port}` };
  service.Register(request, (failure, answer) => {
    if (failure) throw failure;
    const stream = service.ControlPlane();
    const beat = () => stream.write({
      protocol_version: 1, connection_id: answer.connection_id, heartbeat: { namespace, timestamp: Date.now() },
    });
    stream.once('data', () => console.log(`active ${answer.connection_id}`));
    stream.on('data', () => {});
    stream.on('error', (e) => console.log(`the stream failed: ${e.code}`));
    beat();
    setInterval(beat, 200);
  });
});
