//! The benchmarks, run by `make bench`: Provost beside the bare machine and beside the supervisors that a
//! user would pick instead, all in one run, sample by sample in turn, so that what the machine does otherwise
//! hits all alike. Each group prints its rows when it is done; docs/benchmarks.md says how to read them.
//!
//! The same program is what is run in the measurements: a writer, a program that tells that it was started,
//! the other end of a socket (`programs.rs`), servers and attackers (`grpc/`), and the one that cleans up
//! whatever happens (`sweep.rs`).

#![forbid(unsafe_code)]

mod commands;
mod declared;
mod grpc;
mod host;
mod idle;
mod logs;
mod ours;
mod output;
mod programs;
mod recovery;
mod restart;
mod rivals;
mod sample;
mod starts;
mod store;
mod sweep;
mod table;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use crate::ours::Provost;
use crate::rivals::Rival;
use crate::sample::Outcome;
use crate::sweep::Sweeper;
use crate::table::Table;

/// How many services every supervisor keeps while it is measured.
const SERVICES: u32 = 200;

/// The groups, by the words that select them. Without a word all of them run.
const GROUPS: [&str; 13] = [
    "starts",
    "idle",
    "commands",
    "restart",
    "output",
    "logs",
    "recovery",
    "store",
    "declared",
    "grpc",
    "providers",
    "registry",
    "modules",
];

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let called = env::args_os().next().unwrap_or_default();
    let done = match args[..] {
        [] if Path::new(&called).ends_with(grpc::PROVIDER) => grpc::provide(),
        ["write", report, block, total] => programs::write(report, block, total),
        ["tell", report, tag] => programs::tell(report, tag),
        ["echo", socket] => programs::echo(socket),
        ["sweep", dir] => sweep::sweep(dir),
        ["module", addresses] => grpc::module(addresses),
        ["grpc-echo"] => grpc::echo(),
        ["grpc-idle", address, certificates, count] => grpc::idle(address, certificates, count),
        ["grpc-attack", kind, address, certificates] => grpc::attack(kind, address, certificates),
        // cargo adds this word when benchmarks are to be run, and leaves it out when they are only tested.
        _ if args.contains(&"--bench") => run(&args),
        _ => {
            println!("run this with 'make bench'");
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the groups that were asked for. One that fails is told and leaves the others alone.
fn run(args: &[&str]) -> Outcome {
    let wanted = |group: &str| !args.iter().any(|w| GROUPS.contains(w)) || args.contains(&group);
    let sweeper = Sweeper::new()?;
    let dir = sweeper.dir();
    println!("{}", host::line());
    let mut ours = Provost::serve(dir)?;
    println!("{}\n", ours.describe()?);
    let mut table = Table::new();
    let mut failed = Vec::new();
    let mut take = |group: &str, outcome: Outcome, table: &mut Table| {
        table.print_new(group);
        if let Err(e) = outcome {
            println!("{group}: not measured: {e}");
            failed.push(group.to_owned());
        }
    };

    if wanted("starts") {
        take("starts", starts::measure(&mut ours, &mut table), &mut table);
    }
    if ["idle", "commands", "restart"].into_iter().any(wanted) {
        ours.fill(SERVICES)?;
        let mut rivals = Rival::bring_up_all(dir, SERVICES, &mut table);
        take("bring-up", Ok(()), &mut table);
        if wanted("idle") {
            take("idle", idle::measure(&mut ours, &rivals, &mut table), &mut table);
        }
        if wanted("commands") {
            take("commands", commands::measure(&mut ours, &rivals, dir, &mut table), &mut table);
        }
        if wanted("restart") {
            take("restart", restart::measure(&mut ours, &mut rivals, dir, &mut table), &mut table);
        }
    }
    if wanted("output") {
        take("output", output::measure(&mut ours, dir, &mut table), &mut table);
    }
    if wanted("logs") {
        take("logs", logs::measure(&mut ours, dir, &mut table), &mut table);
    }
    if wanted("recovery") {
        take("recovery", recovery::measure(&mut ours, &mut table), &mut table);
    }
    ours.end()?;
    if wanted("store") {
        take("store", store::measure(dir, &mut table), &mut table);
    }
    if wanted("declared") {
        take("declared", declared::measure(dir, &mut table), &mut table);
    }
    if wanted("grpc") {
        take("grpc", grpc::measure(dir, &mut table), &mut table);
    }
    if wanted("providers") {
        take("providers", grpc::measure_providers(dir, &mut table), &mut table);
    }
    if wanted("registry") {
        take("registry", grpc::measure_registry(dir, &mut table), &mut table);
    }
    if wanted("modules") {
        take("modules", grpc::measure_modules(dir, &mut table), &mut table);
    }
    println!("{}", table.summary());
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", ")).into()) }
}
