//! The bare limit: a gRPC server of the same library that does nothing but answer, without TLS, in a process
//! of its own.

use std::io::{BufRead, BufReader, Read, stdin};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use futures_util::{FutureExt, SinkExt};
use grpcio::{
    ChannelBuilder, Marshaller, Method, MethodType, RpcContext, ServerBuilder, ServerCredentials,
    ServerStreamingSink, ServiceBuilder, UnarySink, WriteFlags,
};

use provost::sys::grpc;

use crate::grpc::LOOPBACK;
use crate::grpc::client::{get, put};
use crate::programs::our_path;
use crate::sample::Outcome;
use crate::sweep::MARK;

/// Answers with as many bytes as the request says.
pub static ECHO: Method<Vec<u8>, Vec<u8>> = method(MethodType::Unary, "/bare.Echo/Echo");
/// The same, in messages of [`MESSAGE_LEN`].
pub static FLOW: Method<Vec<u8>, Vec<u8>> = method(MethodType::ServerStreaming, "/bare.Echo/Flow");
/// As much as the service puts into a message of output.
const MESSAGE_LEN: usize = 240 << 10;
/// As many as the gateway has.
const COMPLETION_THREADS: usize = 1;

/// A method whose messages are bytes to us.
pub const fn method(ty: MethodType, name: &'static str) -> Method<Vec<u8>, Vec<u8>> {
    Method { ty, name, req_mar: Marshaller { ser: put, de: get }, resp_mar: Marshaller { ser: put, de: get } }
}

/// The request for so many bytes.
pub fn want(len: u64) -> Vec<u8> {
    len.to_le_bytes().to_vec()
}

fn wanted(request: &[u8]) -> usize {
    request.try_into().map_or(0, |bytes| u64::from_le_bytes(bytes) as usize)
}

/// The program: prints its port, and serves until its standard input ends.
pub fn echo() -> Outcome {
    let env = Arc::new(grpc::environment(COMPLETION_THREADS).build());
    let service =
        ServiceBuilder::new().add_unary_handler(&ECHO, answer).add_server_streaming_handler(&FLOW, flow);
    let arguments = ChannelBuilder::new(Arc::clone(&env)).build_args();
    let mut server =
        ServerBuilder::new(env).channel_args(arguments).register_service(service.build()).build()?;
    let port = server.add_listening_port(format!("{LOOPBACK}:0"), ServerCredentials::insecure())?;
    server.start();
    println!("{port}");
    stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn answer(ctx: RpcContext<'_>, request: Vec<u8>, sink: UnarySink<Vec<u8>>) {
    ctx.spawn(sink.success(vec![0; wanted(&request)]).map(drop));
}

fn flow(ctx: RpcContext<'_>, request: Vec<u8>, mut sink: ServerStreamingSink<Vec<u8>>) {
    let count = wanted(&request) / MESSAGE_LEN;
    ctx.spawn(async move {
        for _ in 0..count {
            if sink.send((vec![0; MESSAGE_LEN], WriteFlags::default())).await.is_err() {
                return;
            }
        }
        let _ = sink.close().await;
    });
}

/// The running program.
pub struct Echo {
    program: Child,
    pub address: SocketAddr,
}

impl Echo {
    pub fn serve(dir: &Path) -> Outcome<Self> {
        let (program, line) = serve(&[&our_path()?, "grpc-echo"], dir)?;
        Ok(Self { program, address: format!("{LOOPBACK}:{line}").parse()? })
    }

    pub fn pid(&self) -> u32 {
        self.program.id()
    }

    pub fn end(mut self) -> Outcome {
        drop(self.program.stdin.take());
        self.program.wait()?;
        Ok(())
    }
}

/// Runs a command that prints a line when it is ready, and ends with its standard input.
pub fn serve(args: &[&str], dir: &Path) -> Outcome<(Child, String)> {
    let mut program = Command::new(args[0])
        .args(&args[1..])
        .env(MARK, dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = program.stdout.as_mut().ok_or("it has an output")?;
    BufReader::with_capacity(1, output).read_line(&mut line)?;
    if line.is_empty() {
        return Err(format!("{}: it ended before it was ready", args.join(" ")).into());
    }
    Ok((program, line.trim_end().to_owned()))
}
