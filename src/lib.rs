//! Provost keeps processes on a Linux host: it starts them, stops them, tells how they are, and hands out what they
//! print. This page is the architecture; there is no second document.
//!
//! # Three programs in one binary
//!
//! ```text
//!  shell ── provost CLI ─┐                                    remote gRPC clients
//!                        │ unix socket, frames                       │ TLS 1.3, both sides prove who they are
//!  provost serve         ▼                                           ▼
//!  ┌─────────┐  seqpacket  ┌──────────────────────┐  unix socket  ┌──────────────────────────┐
//!  │ keeper  │◄───────────►│ engine               │◄──────────────│ gateway                  │
//!  │ parent  │   + fds     │ one thread per child │   (Client)    │ a gRPC server for each   │
//!  │ of all  │             │ table · feed · door  │               │ connection, fed by a pump│
//!  └────┬────┘             └──────────────────────┘               └──────────────────────────┘
//!       ├── engine   ├── gateway   ├── web-1   ├── web-2  …    (all are the keeper's children)
//! ```
//!
//! * [`keeper`] is the parent of everything: one thread, one `poll`, no policy. It forks, reaps, and holds each
//!   process's memory and pipes and the listening socket. It starts the engine again whenever that dies.
//! * [`engine`] is the service: it knows what should run. It may be killed at any instruction; the next one learns
//!   from the keeper what there is, and goes on.
//! * [`gateway`] is everything that speaks gRPC. It keeps nothing and reaches processes only through the client library, so
//!   the C core of gRPC never shares a process with the state of your children. The engine runs it as a process of the
//!   service's own, if the configuration has `[grpc]`.
//! * [`cli`] and other programs talk to the engine through [`Client`], a typed call for every request: over the unix socket,
//!   or from another machine through its gateway.
//!
//! # What must not be lost is in memory that the keeper holds
//!
//! One memfd for each process, from its start to its removal, and one for what is global. The engine writes them so
//! that they are whole at every instruction (data first, then the word that publishes it); the keeper holds the
//! descriptors and never looks inside. `engine/process/memory.rs` has the layout, `engine/feed.rs` the global one.
//! Output goes from a pipe into the ring inside the kernel, in a call that also moves the file's own position: what
//! was taken from a pipe is always found again (`ring/write.rs`).
//!
//! # What outlives the keeper is in the store
//!
//! Whoever changes something marks it (`engine/write_queue/mod.rs`); one thread writes it to SQLite (`engine/write_queue/writer.rs`
//! over [`engine::store`]), and an answer that promises it waits for that. When a service begins anew, the store becomes
//! processes again (`engine/restore.rs`), after what has survived was looked for; `engine/reconcile.rs` decides, purely.
//! Events older than the feed are read from the store (`engine/history/journal.rs`), by clients and sinks alike.
//!
//! # Upgrade
//!
//! A new binary is tried as an engine first (`keeper/upgrade.rs`). If it comes up, the keeper becomes it by exec, with all
//! descriptors and what it knows in a memfd (`keeper/handover.rs`); if not, the old engine is started again. The order's
//! id makes it safe to ask again: whichever engine is there tells what came of it (`engine/service/upgrade.rs`).
//!
//! # A call from another machine
//!
//! `gateway/listener.rs` lets a TCP connection in, `tls/tunnel.rs` shakes hands with a deadline, `gateway/connection.rs` makes a
//! gRPC server of its own for it, whose handlers own the caller, and `tls/pump.rs` carries plaintext between the connection
//! and that server's socket, past a meter of HTTP/2 frames (`gateway/meter.rs`). `gateway/calls.rs` finds out who asks
//! ([`access`]), whether they may (`access/table.rs`), and asks the engine on their behalf. Output it reads where it lies: the
//! engine lends it the memory (`client/stream.rs`).
//!
//! # Layers
//!
//! Lower never imports upper; `tests/tidy.rs` has the table and fails otherwise.
//!
//! | folder | what | may import |
//! |---|---|---|
//! | [`sys`] | the system calls; the only `unsafe` and `libc` | |
//! | [`wire`] | domain types, and bytes to and from them | `sys` |
//! | [`keeper`] | the parent | `sys`, `wire` |
//! | [`ring`] | a process's output in its memory | `sys`, `wire` |
//! | [`engine`] | the service | `sys`, `wire`, `ring` |
//! | [`tls`] | mutual TLS 1.3, for both of its ends | `sys`, `wire` |
//! | [`access`] | users, passwords, roles | `sys`, `wire` |
//! | [`rpc`] | gRPC's codec, generated services, statuses | `sys`, `wire` |
//! | [`client`] | the library | `sys`, `wire`, `ring`, `tls`, `rpc` |
//! | [`gateway`] | gRPC for others | `sys`, `wire`, `tls`, `access`, `rpc`, `client` |
//! | [`config`] | the configuration file, into each layer's settings | the layers whose settings they are |
//! | [`cli`] | one file for each command; `serve` starts the keeper | all |
//!
//! # Threads
//!
//! | thread | where | owns | woken by |
//! |---|---|---|---|
//! | `provost` (keeper) | `keeper/mod.rs` | everything of the keeper | SIGCHLD and other signals, the engine's messages, newborn children |
//! | `provost` (engine) | `engine/mod.rs` | nothing | the keeper's messages |
//! | `listener` | `engine/listener/mod.rs` | who is connected | connections |
//! | `conn-N` | `engine/listener/connection.rs` | one connection | its client; what it waits for |
//! | `proc-ID` | `engine/process/worker.rs` | one process's life | output, the exec, the tree's end, messages, one deadline |
//! | `store` | `engine/write_queue/writer.rs` | the database | marks, questions, one deadline |
//! | `sink-NAME` | `engine/history/sinks/worker.rs` | what is on its way to one sink | new events, one deadline |
//! | `own` | `engine/own.rs` | what the service runs for itself, if anything | those processes, an upgrade's end |
//!
//! The gateway's threads are in `gateway/mod.rs`; a client that asks another machine has one for the pump (`tls`), and the C
//! core's own.
//!
//! A process at rest has no thread: its life is at home (`engine/process/handle.rs`) until somebody sends a message.
//! A thread waits in one place, `sys::poll::wait`, and is woken through it; nothing ticks.
//!
//! # Invariants
//!
//! * A transition is on record before it is acted on, and acted on before it is answered.
//! * "Stopped" is said when nothing of the tree is left, and its last output can be read.
//! * No pid is signalled that was not checked after it was opened: a pidfd, then start time or cgroup.
//! * Every queue, frame, ring, wait and table has a limit, and every thread a name.
//! * Decisions (`engine/process/state.rs`, `restart.rs`) are pure; the thread that owns the state acts.
//! * A panic ends keeper or engine at once (`sys::system::end_at_panic`), which is the same as being killed: nothing is
//!   lost.
//!
//! # Deliberately absent
//!
//! An async runtime; a thread or timer that polls; a shell between us and the program; configuration read deep inside;
//! signalling by a stored number.

#[cfg(feature = "gateway")]
pub mod access;
pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
#[cfg(feature = "gateway")]
pub mod gateway;
pub mod keeper;
pub mod ring;
#[cfg(feature = "gateway")]
pub mod rpc;
pub mod sys;
#[cfg(feature = "gateway")]
pub mod tls;
pub mod wire;

pub use client::Client;
pub use wire::error::{Code, Error};
pub use wire::spec::Spec;
