//! Compiles `proto/` into Rust at build time, without `protoc`: protox parses, prost-build generates.
//! It knows nothing of the program; the generated code is included by `src/wire/proto.rs` alone.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/provost/v1/process.proto",
        "proto/provost/v1/channel.proto",
        "proto/provost/internal/v1/record.proto",
        "proto/provost/internal/v1/handover.proto",
    ];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let set = protox::compile(files, ["proto"])?;
    prost_build::Config::new().compile_fds(set)?;
    Ok(())
}
