//! Provost keeps processes on a Linux host: it starts them, stops them, tells how they are, and hands out
//! what they print. This page is the architecture; there is no second document.
//!
//! # Four programs in one binary
//!
//! ```text
//!  shell ── provost CLI ─┐                                    remote gRPC clients
//!                        │ unix socket, frames                       │ TLS 1.3, both ends authenticated
//!  provost serve         ▼                                           ▼
//!  ┌─────────┐  seqpacket  ┌──────────────────────┐  socket pair  ┌──────────────────────────┐
//!  │ keeper  │◄───────────►│ engine               │◄──────────────│ gateway                  │
//!  │ parent  │   + fds     │ one thread per child │   (Client)    │ a gRPC server for each   │
//!  │ of all  │             │ table·feed·listener  │               │ connection, fed by a pump│
//!  └────┬────┘             └──────────────────────┘               └──────────────────────────┘
//!       ├── engine  ├── gateway  ├── host  ├── web-1  …        (all are the keeper's children)
//! ```
//!
//! * [`keeper`] is the parent of everything: one thread, one `poll`, no policy. It forks, reaps, and holds
//!   each process's memory and pipes and the listening socket. It starts the engine again whenever that dies.
//! * [`engine`] is the service: it knows what should run. It may be killed at any instruction; the next one
//!   learns from the keeper what there is, and goes on.
//! * [`gateway`] is everything that speaks gRPC. It keeps nothing, has no rights, and reaches processes only
//!   through the client library, so the C core of gRPC never shares a process with the state of your
//!   children. The engine runs it as a process of the service's own: if the configuration has `[grpc]`, or at
//!   the first connection on this machine.
//! * [`host`] holds the [`provider`]s: executables that give out configuration values over gRPC. It listens
//!   for the same frames as the engine, beside it, and reaches processes through the client library, so the
//!   engine knows nothing of providers. It makes the probes by gRPC, too. The engine runs it when a client or
//!   such a probe asks for it.
//! * [`cli`] and other programs talk to the engine through [`Client`], a typed call for every request: over
//!   the unix socket, or from another machine through its gateway.
//!
//! # What must not be lost is in memory that the keeper holds
//!
//! One memfd for each process, from its start to its removal, and one for what is global. The engine writes
//! them so that they are whole at every instruction (data first, then the word that publishes it); the keeper
//! holds the descriptors and never looks inside. `engine/memory.rs` has the layout, `engine/feed.rs`
//! the global one. Output goes from a pipe into the ring inside the kernel, in a call that also moves the
//! file's own position: what was taken from a pipe is always found again (`ring/write.rs`).
//!
//! # What outlives the keeper is in the store
//!
//! A thread that changes something marks it (`engine/write_queue.rs`); one thread writes it to SQLite
//! (`engine/store_writer.rs` over [`engine::store`]), and an answer that promises it waits for that.
//! When a service begins again, the store becomes processes again (`engine/restore.rs`), after what has
//! survived was looked for; `engine/reconcile.rs` decides, purely. Events older than the feed are read from
//! the store (`engine/history/journal.rs`), by clients and sinks alike.
//!
//! # What is declared
//!
//! `config/declared.rs` reads the sections `[process.NAME]`, field by field as `wire/fields.rs` has them;
//! the same table shows and compares definitions. `cli/plan.rs` decides, purely, what it takes to get
//! there from what the service has, and `cli/apply.rs` shows and does it, a request for each process. The
//! engine changes a process by its whole definition (`engine/process/worker/update.rs`). A service that
//! begins runs `apply` once, as an internal process.
//!
//! # Processes that need others
//!
//! A process that needs others is `starting` without a child until those are ready, and one that is needed
//! goes when those that need it have gone (`engine/process/worker/needs.rs`). Each tells on a board how it
//! stands (`engine/board.rs`), which wakes those that this concerns. Circles are found by `wire/order.rs`,
//! which also gives the order in which `cli/plan.rs` goes.
//!
//! # Processes with a schedule
//!
//! Which time is next is computed from the definition (`wire/schedule.rs`) and on record, with what it leads
//! to when it has come (`engine/process/due.rs`, pure). One thread waits for the first of all of them
//! (`engine/schedules.rs`) and tells that process, which starts its run as a client would.
//!
//! # Upgrade
//!
//! A new binary is tried as an engine first (`keeper/upgrade.rs`). If it comes up, the keeper becomes it by
//! exec, with all descriptors and what it knows in a memfd (`keeper/handover.rs`); if not, the old engine is
//! started again. The order's id makes it safe to ask again: whichever engine is there tells what came of it
//! (`engine/service/upgrade.rs`).
//!
//! # A start, from the terminal and back
//!
//! `main.rs` and `cli/mod.rs` find the command; `cli/start.rs` reads its options, those of the spec with
//! `cli/spec_options.rs`, and calls the [`Client`] that `cli/session.rs` connects. `client/session.rs` sends
//! the request, again where it may (`client/retry.rs`), over a connection of either kind
//! (`client/connection.rs`): `client/link.rs` writes frames to the unix socket, `client/remote.rs` calls a
//! gateway. In the engine `listener/connection.rs` reads the frame and calls what implements its trait
//! `Service`: `engine/service/mod.rs`, with one arm for each request. What changes something passes through
//! `engine/service/audit.rs`. `engine/service/start.rs` makes the process's memory, and
//! `engine/service/batch.rs` sends the process an `Ask`, which starts its thread
//! (`engine/process/handle.rs`). That takes it in `engine/process/worker/asks.rs`. What happens from there to
//! the exec is listed at the head of `keeper/spawn.rs`. Once the record says running
//! (`engine/process/waiting.rs`), the thread answers whoever waits for that
//! (`engine/process/worker/answers.rs`). The start waits until that is on the disk (`recorded` in
//! `engine/service/engine.rs`), and the replies go back the way that the request came
//! (`listener/replies.rs`).
//!
//! # A byte of output
//!
//! It wakes the process's thread (`engine/process/worker/mod.rs`), which moves what is in the pipe into the
//! ring (`engine/process/pipes.rs`, `ring/write.rs`) and wakes those who watch the process. Each client's own
//! thread reads the ring and sends what is new (`engine/service/streams.rs`, `ring/read.rs`).
//! `client/stream/sent.rs` goes on at the next byte after a broken connection, and `cli/stream.rs` prints.
//!
//! Where a reader holds the output (`provost run --hold`), no more is taken than that one leaves room for
//! (`engine/holds.rs`): it follows in the shared memory, and asks for more when it is ready for it.
//!
//! If the process has a log, its thread also marks that there is more (`engine/log_queue.rs`), and takes no
//! more than what the writer of the files has left room for (`engine/process/worker/output.rs`). That writer,
//! one thread for all, reads the rings and writes the files (`engine/logs/mod.rs`).
//!
//! # A call from another machine
//!
//! `gateway/listener.rs` lets a TCP connection in, `tls/tunnel.rs` shakes hands with a deadline,
//! `gateway/connection.rs` makes a gRPC server of its own for it, whose handlers own the caller, and
//! `tls/pump.rs` carries plaintext between the connection and that server's socket, past a meter of HTTP/2
//! frames (`meter/mod.rs`). `gateway/calls.rs` finds out the user ([`access`]), whether they may
//! (`access/policy.rs`), and asks the engine on their behalf. Output it reads where it lies: the engine
//! shares the memory with it (`client/stream/shared.rs`).
//!
//! A program on this machine comes in over a unix socket instead (`gateway/local.rs`), which the keeper
//! holds: the engine runs the gateway at the first connection (`engine/internal.rs`) and lends it the socket.
//!
//! The gateway itself opens nothing. It finds one end of a socket pair, of which the keeper holds both, as
//! its standard input; over it go its connections to the engine (`client/pair.rs`), which knows them by that
//! (`listener/mod.rs`). What it works with the engine opens and sends (`gateway/setup.rs`, with what
//! `cli/engine.rs` makes of the configuration).
//!
//! # A value from a provider
//!
//! `cli/provider.rs` asks the host at its socket. Where nobody listens there yet, the client has the engine
//! run it first (`engine/internal.rs`, with the spec that `cli/engine.rs` gives). `host/mod.rs` hands the
//! question to the registry, which lets it past the provider's circuit breaker (`registry/calls.rs`,
//! `guard/breaker.rs`) to `provider/mod.rs`, where the alias's state (`provider/alias.rs`, shared by
//! `provider/current.rs`) says whether this thread starts the provider, waits for another that does, or uses
//! the run that there is. `provider/run.rs` starts the process, reads its port (`sdk/handshake.rs`), and
//! gives it its configuration once; `provider/calls.rs` asks it. What another host has to know is in notes
//! (`provider/notes.rs`).
//!
//! Which providers there are is also discovered: `registry/refresh.rs` says when, `config/discovery.rs` reads
//! what the sources have, `registry/discovery.rs` decides, purely, and `registry/apply.rs` sees to it.
//! `registry/monitor.rs` and `registry/exits.rs` look at those that run, while nobody calls them.
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
//! | [`listener`] | clients' connections over the unix socket, as frames | `sys`, `wire` |
//! | [`engine`] | the service | `sys`, `wire`, `ring`, `listener` |
//! | [`tls`] | mutual TLS 1.3, for both of its ends | `sys`, `wire` |
//! | [`guard`] | limits on what others ask of us, and we of others | `sys` |
//! | [`meter`] | what a peer may do with HTTP/2, inside of TLS | `sys`, `guard`, `tls`, `rpc` |
//! | [`access`] | users, passwords, roles | `sys`, `wire`, `guard` |
//! | [`rpc`] | gRPC's codec, generated services, statuses | `sys`, `wire` |
//! | [`client`] | the library | `sys`, `wire`, `ring`, `tls`, `rpc` |
//! | [`gateway`] | gRPC for others | `sys`, `wire`, `guard`, `tls`, `meter`, `access`, `rpc`, `client` |
//! | [`sdk`] | for authors of providers; the pieces of their protocol | `sys`, `wire`, `tls`, `rpc` |
//! | [`schema`] | JSON Schemas of configurations, which strangers write | `sys`, `wire` |
//! | [`provider`] | the provider host: aliases, starts, calls, ends | `sys`, `wire`, `tls`, `rpc`, `client`, `sdk`, `schema` |
//! | [`registry`] | the registry of providers: entries, breakers, events | `sys`, `wire`, `client`, `guard`, `provider`, `module` |
//! | [`module`] | the module plane: who has registered what, and calls | `sys`, `wire`, `guard`, `tls`, `meter`, `rpc`, `sdk` |
//! | [`host`] | the process that holds them | `sys`, `wire`, `listener`, `access`, `rpc`, `client`, `provider`, `registry`, `module` |
//! | [`config`] | the configuration file, into each layer's settings | the layers whose settings they are |
//! | [`cli`] | one file for each command; `serve` starts the keeper | `sys`, `wire`, `client`; files such as `cli/serve.rs` also what they run |
//!
//! Inside of [`engine`] the same file has another table. From below: `settings`, `reserve`, `board`, `holds`,
//! `log_queue`, `schedule_queue`, `memory`, `audit_memory`, `drain`, `limit_mark`, `spawns`, `store`; then
//! `look`, `retention`, `feed` and `write_queue`; `context`, which every process shares; `process`; `table`,
//! `logs`, `schedules` and `history`; `reconcile`; `survivors`; `restore` and `store_writer`; `service`; and
//! above all `internal`, `ended` and `takeover`.
//!
//! # Threads
//!
//! | thread | where | owns | woken by |
//! |---|---|---|---|
//! | `provost` (keeper) | `keeper/mod.rs` | everything of the keeper | SIGCHLD and other signals, the engine's messages, children that have their descriptors |
//! | `provost` (engine) | `engine/mod.rs` | nothing | the keeper's messages |
//! | `listener` | `listener/mod.rs` | who is connected | connections |
//! | `conn-N` | `listener/connection.rs` | one connection | its client; what it waits for |
//! | `proc-ID` | `engine/process/worker/mod.rs` | one process's record | output, the exec, the tree's end, messages, one deadline |
//! | `store` | `engine/store_writer.rs` | the database | marks, questions, one deadline |
//! | `logs` | `engine/logs/mod.rs` | the files that output is written to | marks, one deadline |
//! | `schedules` | `engine/schedules.rs` | nothing; knows when the first schedule is due | a timer of the wall clock, which also tells that this was set |
//! | `log-old` | `engine/logs/old.rs` | old files of logs, while there is something to do | a rotation |
//! | `sink-NAME` | `engine/history/sinks/worker.rs` | what is on its way to one sink | new events, one deadline |
//! | `grpc-wait` | `engine/internal.rs` | nothing; there until somebody connects for gRPC on this machine | that connection |
//! | `host-run` | `engine/context.rs` | nothing; there until the host executes that a probe by gRPC needs | the host's start |
//! | `drain` | `engine/drain.rs` | pipes of runs that are over, while somebody writes to them | output |
//! | `ended` | `engine/ended.rs` | nothing; forgets what has ended and has no name | a process that comes to rest, one deadline |
//! | `internal` | `engine/internal.rs` | what the service runs for itself, if anything | those processes, an upgrade's end |
//!
//! The gateway's threads are in `gateway/mod.rs`, the host's in `host/mod.rs`; a client that asks another
//! machine has one for the pump (`tls`), and the C core's own.
//!
//! A process at rest has no thread: its record rests in its handle (`engine/process/handle.rs`) until a
//! message comes. A thread waits in one place, `sys::poll::wait`, and is woken through it; nothing ticks.
//!
//! # Invariants
//!
//! * A transition is on record before it is acted on, and acted on before it is answered.
//! * "Stopped" is said when nothing of the tree is left, and its last output can be read.
//! * No pid is signalled that was not checked after it was opened: a pidfd, then start time or cgroup.
//! * Every queue, frame, ring, wait and table has a limit, and every thread a name.
//! * Decisions (`engine/process/state.rs`, `engine/process/restart.rs`) are pure; the thread that owns the
//!   state acts.
//! * A panic ends keeper or engine at once (`sys::system::end_at_panic`), which is the same as being killed:
//!   nothing is lost.
//!
//! # Glossary
//!
//! One word for each idea; `tests/tidy.rs` refuses the words that these have replaced.
//!
//! | word | what it is |
//! |---|---|
//! | keeper, engine, gateway, host | the four programs, see above. The host is that of providers; `--host` names a machine |
//! | needs, board, standing | which others a process needs; where each tells how it stands; how it stands there |
//! | held, leaving | its start waits for others; its stop waits until those that need it are gone |
//! | job | a process that is ready when it has ended with success |
//! | hook | a program beside the life of a process: before its start, when it is ready, before its stop, after its end |
//! | scheduled, due, missed | it rests until its schedule says; that time has come; it passed without a run of its own |
//! | definition, spec | how a process is to be run; the value that has it, checked |
//! | declared, outdated | a configuration says that it is to be; its run is of an older definition |
//! | process, run | what a client asked to keep, by UUID; each of its starts has the next run number |
//! | record | what is known of a process: state, what is wanted, counters, last exit. In its memory, and in the store |
//! | idle, active | a process without a thread, at rest; one whose thread owns its record |
//! | internal process | one that the service runs for itself, such as the gateway |
//! | pair, setup | the gateway's way to the engine; what the engine gives it to work with |
//! | tree, scope | all that a process has started and that is still there; how much of it a signal reaches |
//! | cgroup | the control group of one run, where the machine allows one |
//! | launch | all that a child needs between fork and exec, looked up by the engine, in the memory of its process |
//! | spawn, spawn slots | fork and exec by the keeper; the low descriptor numbers at which a child finds what it needs |
//! | resources | what the keeper holds from its first moment: socket, lock, global memory, signals |
//! | ring, shared output | the last output of a process, in its memory; the same memory, read by another process |
//! | cursor | how far a stream has come in one process's output |
//! | feed, event | the last events in memory that the keeper holds; one thing that happened, numbered once for all |
//! | write queue, sequence number | what has yet to reach the store; an answer waits until its number is written |
//! | listener, slot | accepts connections and limits how many there are; a connection's part of that limit |
//! | share, place | how many of the gateway's calls one caller may have under way; a call's part of that |
//! | order, key | a restart or a signal; by what one that comes again is known |
//! | address | where a client reaches a service: a socket, or a gateway |
//! | response stream, pending response | answers of a gRPC call that go out one by one; one answer until it is out |
//! | rate limit, violation | how often an address may fail; one failure |
//! | readiness probe | what tells that a running process is ready |
//! | timeout, blocking | how long a wait may take; whether a call may wait at all |
//! | decision, outcome, counts | what a pure function says is to be done; what became of something; how many of each |
//! | arguments, error texts | of a command line; sentences for what a peer did wrong |
//! | take over | a new engine goes on with the running processes that its keeper lists |
//! | restore, reconcile | a new service makes processes of what is stored; the pure decision about each of them |
//! | registry, entry | all providers there are; what is known of one beside its runs |
//! | source, candidate | where providers are discovered; one that a source says there is to be |
//! | breaker, gate, permit | decides whether a provider is called; shared by threads; one call that may be made |
//! | provider, alias, set | an executable that gives out values; its name among those of a set |
//! | definition, note | how a provider is run; what one host leaves to the next about it |
//! | adopt | to keep a process that has outlived its service, under the new one |
//! | hand over | in an upgrade the keeper gives everything to the new program |
//! | resume | a client or a sink continues a stream where it stopped |
//! | restored, deaf | a registration of modules that an earlier host has noted; a provider whose executor does not answer |
//! | salvage | to read out of a damaged database what can be read |
//!
//! # Deliberately absent
//!
//! An async runtime; a thread or timer that polls; a shell between us and the program; configuration read
//! deep inside; signalling by a stored number.

#[cfg(feature = "gateway")]
pub mod access;
pub mod cli;
pub mod client;
pub mod config;
pub mod engine;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "gateway")]
pub mod guard;
#[cfg(feature = "gateway")]
pub mod host;
pub mod keeper;
pub mod listener;
#[cfg(feature = "gateway")]
pub mod meter;
#[cfg(feature = "gateway")]
pub mod module;
#[cfg(feature = "gateway")]
pub mod provider;
#[cfg(feature = "gateway")]
pub mod registry;
pub mod ring;
#[cfg(feature = "gateway")]
pub mod rpc;
#[cfg(feature = "gateway")]
pub mod schema;
#[cfg(feature = "gateway")]
pub mod sdk;
pub mod sys;
#[cfg(feature = "gateway")]
pub mod tls;
pub mod wire;

pub use client::Client;
pub use wire::error::{Code, Error};
pub use wire::spec::Spec;
