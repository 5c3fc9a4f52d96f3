//! The monotonic clock: what every deadline is measured by. It holds over a set clock and over a new engine,
//! not over a reboot.

/// Milliseconds of CLOCK_MONOTONIC.
#[must_use]
pub fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

/// Nanoseconds of CLOCK_MONOTONIC.
#[must_use]
pub fn now_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of CLOCK_BOOTTIME, by which the kernel tells when a process started.
#[must_use]
pub fn boot_ns() -> u64 {
    read(libc::CLOCK_BOOTTIME)
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for one timespec, and both clocks exist on every Linux that we run on.
    unsafe { libc::clock_gettime(clock, &raw mut ts) };
    ts.tv_sec.cast_unsigned() * 1_000_000_000 + ts.tv_nsec.cast_unsigned()
}
