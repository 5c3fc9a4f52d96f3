//! Compiles `proto/` into Rust at build time, without `protoc`: protox parses, prost-build generates the
//! messages, and the generator below the services for grpcio. It knows nothing of the program. Messages are
//! included by `src/wire/proto.rs`, services and standard messages by `src/rpc/services.rs`, the descriptors
//! by server reflection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::rc::Rc;
use std::{env, fs};

use prost::Message;
use prost_build::{Config, Method, Service, ServiceGenerator};
use prost_types::{DescriptorProto, FileDescriptorSet};

const MESSAGES: [&str; 8] = [
    "proto/provost/internal/v1/process.proto",
    "proto/provost/internal/v1/channel.proto",
    "proto/provost/internal/v1/module.proto",
    "proto/provost/internal/v1/provider.proto",
    "proto/provost/internal/v1/registry.proto",
    "proto/provost/internal/v1/record.proto",
    "proto/provost/internal/v1/handover.proto",
    "proto/provost/internal/v1/gateway.proto",
];
/// Only with the gateway.
const SERVICES: [&str; 11] = [
    "proto/provost/v1/process_service.proto",
    "proto/provost/v1/provider_service.proto",
    "proto/provost/v1/registry_service.proto",
    "proto/provost/v1/module_service.proto",
    "proto/nomos/provider/v1/provider.proto",
    "proto/constellation/provider/v1/provider.proto",
    "proto/grpc/health/v1/health.proto",
    "proto/grpc/reflection/v1/reflection.proto",
    "proto/grpc/reflection/v1alpha/reflection.proto",
    "proto/google/rpc/status.proto",
    "proto/google/rpc/error_details.proto",
];
/// Unary methods that may take long. Their handlers get a sink for a stream, of which they use one message:
/// the same bytes go over the wire, but grpcio tells only a stream's handler that the client has gone.
const LONG: [&str; 21] = [
    "Start",
    "StartAgain",
    "Update",
    "Stop",
    "Restart",
    "Remove",
    "Wait",
    "Upgrade",
    "StartProvider",
    "FetchValue",
    "ProviderInfo",
    "ProviderHealth",
    "StopProvider",
    "ReplaceProvider",
    "ShutDownProviders",
    "RegisterProvider",
    "ChangeEntries",
    "CallChain",
    "DiscoverProviders",
    "ValidateProviders",
    "CallModule",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=DEFER_INITIALISERS");
    println!("cargo:rustc-check-cfg=cfg(deferred_initialisers)");
    let out = env::var("OUT_DIR")?;
    let with_services = env::var_os("CARGO_FEATURE_GATEWAY").is_some();
    let files = MESSAGES.iter().chain(if with_services { SERVICES.as_slice() } else { &[] });
    let set = protox::compile(files, ["proto"])?;
    if with_services && env::var_os("DEFER_INITIALISERS").is_some() {
        defer_initialisers();
    }
    if with_services {
        fs::write(Path::new(&out).join("descriptors.rs"), descriptors(&set)?)?;
    }
    let written = Rc::default();
    let mut config = Config::new();
    config.service_generator(Box::new(Grpcio { written: Rc::clone(&written) }));
    // Output and values of modules are shared, not copied, on their way through a process.
    config.bytes([
        ".provost.internal.v1.Chunk.data",
        ".provost.v1.OutputChunk.data",
        ".constellation.provider.v1.ExecuteRequest.input_data",
        ".constellation.provider.v1.ExecuteResponse.output_data",
    ]);
    // The older name has the same messages.
    config.extern_path(".grpc.reflection.v1alpha", "crate::rpc::services::reflection");
    config.compile_fds(set)?;
    for (package, code) in written.borrow().iter() {
        fs::write(Path::new(&out).join(format!("{package}.services.rs")), code)?;
    }
    Ok(())
}

/// libc finds no initialisers in the binary: `sys::grpc` runs them where they are needed. `make static` asks for
/// it: only what is linked here gets these symbols, a program that has Provost as a library does not, and only a
/// static libc takes them.
fn defer_initialisers() {
    println!("cargo:rustc-cfg=deferred_initialisers");
    let end = "provost_init_array_end=ADDR(.init_array)+SIZEOF(.init_array)";
    // What one of the compiler's own initialisers has taken up, its counterpart at the exit would give back.
    for symbol in ["__init_array_end=__init_array_start", end, "__fini_array_end=__fini_array_start"] {
        println!("cargo:rustc-link-arg=-Wl,--defsym={symbol}");
    }
}

/// What server reflection hands out: every file that a service is made of, with those that it imports, and
/// which one a name is in.
fn descriptors(set: &FileDescriptorSet) -> Result<String, std::fmt::Error> {
    // What the command channel carries is not public, providers are called, not served, and modules are
    // registered elsewhere.
    let is_elsewhere = |package: &str| package.starts_with("nomos.") || package.starts_with("constellation.");
    let is_public = |package: &str| !package.contains("internal") && !is_elsewhere(package);
    let files: Vec<_> = set.file.iter().filter(|f| is_public(f.package())).collect();
    let mut symbols = BTreeMap::new();
    let mut code = "pub static FILES: &[(&str, &[&str], &[u8])] = &[\n".to_owned();
    for (n, file) in files.iter().enumerate() {
        let mut bare = (*file).clone();
        bare.source_code_info = None;
        writeln!(code, "({:?}, &{:?}, &{:?}),", file.name(), file.dependency, bare.encode_to_vec())?;
        let enums = file.enum_type.iter().map(|e| e.name().to_owned());
        let services = file.service.iter().flat_map(|s| {
            let methods = s.method.iter().map(|m| format!("{}.{}", s.name(), m.name()));
            methods.chain([s.name().to_owned()])
        });
        let messages = file.message_type.iter().flat_map(|m| named(m, ""));
        for name in enums.chain(services).chain(messages) {
            symbols.insert(format!("{}.{name}", file.package()), n);
        }
    }
    writeln!(code, "];\npub static SYMBOLS: &[(&str, usize)] = &{:?};", Vec::from_iter(&symbols))?;
    let services =
        files.iter().flat_map(|f| f.service.iter().map(move |s| format!("{}.{}", f.package(), s.name())));
    writeln!(code, "pub static SERVICES: &[&str] = &{:?};", Vec::from_iter(services))?;
    Ok(code)
}

/// A message, and what is declared inside of it.
fn named(message: &DescriptorProto, outer: &str) -> Vec<String> {
    let name = format!("{outer}{}", message.name());
    let inner = message.nested_type.iter().flat_map(|m| named(m, &format!("{name}.")));
    let enums = message.enum_type.iter().map(|e| format!("{name}.{}", e.name()));
    let mut all: Vec<_> = inner.chain(enums).collect();
    all.push(name);
    all
}

/// Writes the services of each package to a file of its own: only what speaks gRPC includes it.
struct Grpcio {
    written: Rc<RefCell<BTreeMap<String, String>>>,
}

impl ServiceGenerator for Grpcio {
    fn generate(&mut self, service: Service, messages: &mut String) {
        // A package of services alone has to have something, too.
        messages.push('\n');
        let mut written = self.written.borrow_mut();
        let code = written.entry(service.package.clone()).or_default();
        generate(code, &service).expect("a string takes everything");
    }
}

/// What grpcio calls the kinds of methods, and what their handlers are given.
struct Kind {
    method_type: &'static str,
    handler: &'static str,
    request: String,
    sink: String,
}

/// Requests of reflection are decoded late, too: they come from who has shown a certificate and nothing else.
/// Other streams come to modules' plane, where anybody may speak.
fn is_late(service: &Service, method: &Method) -> bool {
    !method.client_streaming || service.package.starts_with("grpc.reflection")
}

/// A request that is decoded late.
fn encoded(input: &str) -> String {
    format!("codec::Encoded<{input}>")
}

fn kind(service: &Service, method: &Method) -> Kind {
    let (input, output) = (&method.input_type, &method.output_type);
    let streamed = if is_late(service, method) { encoded(input) } else { input.clone() };
    let (method_type, handler, request, sink) = match (method.client_streaming, method.server_streaming) {
        (false, false) if LONG.contains(&method.proto_name.as_str()) => {
            ("Unary", "add_server_streaming_handler", encoded(input), "ServerStreamingSink")
        }
        (false, false) => ("Unary", "add_unary_handler", encoded(input), "UnarySink"),
        (false, true) => {
            ("ServerStreaming", "add_server_streaming_handler", encoded(input), "ServerStreamingSink")
        }
        (true, false) => (
            "ClientStreaming",
            "add_client_streaming_handler",
            format!("::grpcio::RequestStream<{streamed}>"),
            "ClientStreamingSink",
        ),
        (true, true) => (
            "Duplex",
            "add_duplex_streaming_handler",
            format!("::grpcio::RequestStream<{streamed}>"),
            "DuplexSink",
        ),
    };
    Kind { method_type, handler, request, sink: format!("::grpcio::{sink}<{output}>") }
}

/// A constant for each method, a trait for who answers them, and a client.
fn generate(code: &mut String, service: &Service) -> std::fmt::Result {
    let name = &service.name;
    let full = format!("{}.{}", service.package, service.proto_name);
    let constant = |method: &Method| format!("{}_{}", snake(name), method.name).to_uppercase();
    writeln!(code, "pub const {}_NAME: &str = \"{full}\";", snake(name).to_uppercase())?;
    for method in &service.methods {
        let (input, output) = (&method.input_type, &method.output_type);
        let (request, ser, de) = if is_late(service, method) {
            (encoded(input), "send", "receive")
        } else {
            (input.clone(), "encode", "decode")
        };
        writeln!(
            code,
            "pub const {}: ::grpcio::Method<{request}, {output}> = ::grpcio::Method {{\n\
             \x20   ty: ::grpcio::MethodType::{},\n\
             \x20   name: \"/{full}/{}\",\n\
             \x20   req_mar: ::grpcio::Marshaller {{ ser: codec::{ser}::<{input}>, de: codec::{de}::<{input}> }},\n\
             \x20   resp_mar: ::grpcio::Marshaller {{ ser: codec::encode::<{output}>, de: codec::decode::<{output}> }},\n\
             }};",
            constant(method),
            kind(service, method).method_type,
            method.proto_name,
        )?;
    }
    writeln!(code, "pub trait {name}: Clone + Send + 'static {{")?;
    for method in &service.methods {
        let Kind { request, sink, .. } = kind(service, method);
        writeln!(
            code,
            "    fn {}(&mut self, ctx: ::grpcio::RpcContext<'_>, request: {request}, sink: {sink});",
            method.name
        )?;
    }
    writeln!(code, "}}\npub fn {}_service<S: {name}>(service: S) -> ::grpcio::Service {{", snake(name))?;
    writeln!(code, "    let mut builder = ::grpcio::ServiceBuilder::new();")?;
    for method in &service.methods {
        writeln!(
            code,
            "    let mut each = service.clone();\n    builder = builder.{}(&{}, move |ctx, request, sink| each.{}(ctx, request, sink));",
            kind(service, method).handler,
            constant(method),
            method.name
        )?;
    }
    writeln!(code, "    builder.build()\n}}")?;
    writeln!(code, "#[derive(Clone)]\npub struct {name}Client(pub ::grpcio::Client);\nimpl {name}Client {{")?;
    for method in &service.methods {
        let (input, output) = (&method.input_type, &method.output_type);
        let streamed = if is_late(service, method) { encoded(input) } else { input.clone() };
        let (takes, call, given, result) = match (method.client_streaming, method.server_streaming) {
            (false, false) => (
                true,
                "unary_call_async",
                "&codec::Encoded::new(request), ",
                format!("::grpcio::ClientUnaryReceiver<{output}>"),
            ),
            (false, true) => (
                true,
                "server_streaming",
                "&codec::Encoded::new(request), ",
                format!("::grpcio::ClientSStreamReceiver<{output}>"),
            ),
            (true, false) => (
                false,
                "client_streaming",
                "",
                format!(
                    "(::grpcio::ClientCStreamSender<{streamed}>, ::grpcio::ClientCStreamReceiver<{output}>)"
                ),
            ),
            (true, true) => (
                false,
                "duplex_streaming",
                "",
                format!(
                    "(::grpcio::ClientDuplexSender<{streamed}>, ::grpcio::ClientDuplexReceiver<{output}>)"
                ),
            ),
        };
        let request = if takes { format!("request: &{input}, ") } else { String::new() };
        writeln!(
            code,
            "    pub fn {}(&self, {request}option: ::grpcio::CallOption) -> ::grpcio::Result<{result}> {{\n        self.0.{call}(&{}, {given}option)\n    }}",
            method.name,
            constant(method),
        )?;
    }
    writeln!(code, "}}")
}

fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}
