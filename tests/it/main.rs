//! The tests against the real binary, with real children. Each file holds one family of failures, each test
//! is named after what it shows; `tour.rs` holds what a user was promised, `programs.rs` runs
//! programs from outside. `raw.rs` and `h2.rs` are clients that keep to no rules. See `tests/README.md`.

#![forbid(unsafe_code)]

mod a_crash;
mod a_engine_ends;
mod a_keeper;
mod a_recover;
mod a_spawns;
mod a_sweep;
mod a_total;
mod b_batch;
mod b_model;
mod b_orders;
mod b_restart;
mod b_signals;
mod b_stop;
mod b_strangers;
mod b_tree;
mod c_child;
mod c_landlock;
mod c_limits;
mod c_spawn;
mod d_flood;
mod d_in_place;
mod d_log_disk;
mod d_log_flood;
mod d_logs;
mod d_output;
mod d_receivers;
mod d_redact;
mod e_clock;
mod e_damage;
mod e_disk;
mod e_history;
mod e_orphans;
mod e_sinks;
mod e_store;
mod f_names;
#[cfg(feature = "gateway")]
mod f_numbers;
mod f_place;
mod f_socket;
#[cfg(feature = "gateway")]
mod g_access;
#[cfg(feature = "gateway")]
mod g_calls;
#[cfg(feature = "gateway")]
mod g_clients;
#[cfg(feature = "gateway")]
mod g_demo;
#[cfg(feature = "gateway")]
mod g_drain;
#[cfg(feature = "gateway")]
mod g_groups;
#[cfg(feature = "gateway")]
mod g_hoard;
#[cfg(feature = "gateway")]
mod g_http2;
#[cfg(feature = "gateway")]
mod g_identity;
#[cfg(feature = "gateway")]
mod g_local;
#[cfg(feature = "gateway")]
mod g_process;
#[cfg(feature = "gateway")]
mod g_refused;
#[cfg(feature = "gateway")]
mod g_registry;
#[cfg(feature = "gateway")]
mod g_remote;
#[cfg(feature = "gateway")]
mod g_shares;
#[cfg(feature = "gateway")]
mod g_tls;
#[cfg(feature = "gateway")]
mod g_turns;
#[cfg(feature = "gateway")]
mod h2;
#[cfg(feature = "gateway")]
mod h_hosting;
#[cfg(feature = "gateway")]
mod h_pinned;
#[cfg(feature = "gateway")]
mod h_promises;
#[cfg(feature = "gateway")]
mod h_providers;
#[cfg(feature = "gateway")]
mod h_rules;
#[cfg(feature = "gateway")]
mod h_sdk;
#[cfg(feature = "gateway")]
mod h_tls;
#[cfg(feature = "gateway")]
mod h_tree;
mod harness;
#[cfg(feature = "gateway")]
mod i_batch;
#[cfg(feature = "gateway")]
mod i_canary;
#[cfg(feature = "gateway")]
mod i_changes;
#[cfg(feature = "gateway")]
mod i_discovery;
#[cfg(feature = "gateway")]
mod i_elsewhere;
#[cfg(feature = "gateway")]
mod i_ends;
#[cfg(feature = "gateway")]
mod i_expected;
#[cfg(feature = "gateway")]
mod i_groups;
#[cfg(feature = "gateway")]
mod i_health;
#[cfg(feature = "gateway")]
mod i_hostile;
#[cfg(feature = "gateway")]
mod i_intruders;
#[cfg(feature = "gateway")]
mod i_kept;
#[cfg(feature = "gateway")]
mod i_linear;
#[cfg(feature = "gateway")]
mod i_modules;
#[cfg(feature = "gateway")]
mod i_namespaces;
#[cfg(feature = "gateway")]
mod i_permits;
#[cfg(feature = "gateway")]
mod i_plugins;
#[cfg(feature = "gateway")]
mod i_registry;
#[cfg(feature = "gateway")]
mod i_remote;
#[cfg(feature = "gateway")]
mod i_replace;
#[cfg(feature = "gateway")]
mod i_restored;
#[cfg(feature = "gateway")]
mod i_scale;
#[cfg(feature = "gateway")]
mod i_schemas;
#[cfg(feature = "gateway")]
mod i_sdk;
#[cfg(feature = "gateway")]
mod i_shutdown;
#[cfg(feature = "gateway")]
mod i_soak;
#[cfg(feature = "gateway")]
mod i_streams;
#[cfg(feature = "gateway")]
mod i_tls;
mod j_apply;
mod j_config;
mod j_declared;
mod j_example;
mod j_forking;
#[cfg(feature = "gateway")]
mod j_grpc;
mod j_import;
mod j_needs;
mod j_ready;
mod j_reload;
mod j_total;
mod k_container;
mod k_essential;
mod k_guide;
mod k_habits;
#[cfg(feature = "gateway")]
mod k_habits_addressed;
mod k_habits_completion;
mod k_habits_screen;
mod k_habits_stream;
#[cfg(feature = "gateway")]
mod k_habits_viewer;
mod k_hooks;
mod k_jobs;
mod k_limits;
mod k_limits_vm;
mod k_newcomer;
#[cfg(feature = "gateway")]
mod k_notices;
#[cfg(feature = "gateway")]
mod k_roles;
mod k_signals;
mod k_upgrade;
mod k_usage;
mod k_wrong_turns;
mod l_scale;
mod linear;
#[cfg(feature = "gateway")]
mod m_access;
mod m_audit;
#[cfg(feature = "gateway")]
mod m_gateway_process;
#[cfg(feature = "gateway")]
mod m_gateway_rights;
#[cfg(feature = "gateway")]
mod plane;
mod programs;
mod raw;
mod tour;
