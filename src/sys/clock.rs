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
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid place for one timespec, and the clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts) };
    ts.tv_sec.cast_unsigned() * 1_000_000_000 + ts.tv_nsec.cast_unsigned()
}
