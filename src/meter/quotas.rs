//! What one connection may do, and why just so much.

use crate::guard::token_bucket::Rate;

/// What one connection may do. Beyond `bytes` and `frames` the client is slowed down, beyond the others the
/// connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Bytes from the client.
    pub bytes: Rate,
    /// Frames from the client.
    pub frames: Rate,
    /// Streams that the client resets.
    pub resets: Rate,
    /// Streams that we reset, which is what a client can make us do.
    pub our_resets: Rate,
    /// Frames that carry nothing: PING, SETTINGS, PRIORITY, CONTINUATION, data without a message. Every frame
    /// of ours with headers or data allows one more.
    pub control: Rate,
    /// CONTINUATION frames in one block of headers.
    pub continuations_max: u32,
    /// Bytes in one block of headers, as they are on the wire.
    pub header_block_len_max: u32,
    /// Calls begun before our settings are acknowledged.
    pub early_calls_max: u32,
    /// Calls at a time, which is in our settings.
    pub calls_max: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            // Requests are small. This keeps one client from having the machine for itself.
            bytes: Rate { burst: 32 << 20, per_second: 8 << 20 },
            // 15,000 calls in a second are 30,000 frames of headers and data, and some to widen windows.
            frames: Rate { burst: 100_000, per_second: 50_000 },
            // A client that gives up 50 calls in each second is in trouble, but honest. Rapid reset needs
            // thousands.
            resets: Rate { burst: 200, per_second: 100 },
            our_resets: Rate { burst: 200, per_second: 100 },
            // Pings that measure a line come at most once for each batch of data, and those are allowed for.
            // What is left is a few for keeping the connection alive.
            control: Rate { burst: 2000, per_second: 500 },
            // A block of 64 KiB in frames of the usual 16 KiB needs four; the gRPC core takes blocks of 16
            // KiB at most.
            continuations_max: 32,
            header_block_len_max: 64 << 10,
            // The gRPC core does not hold a client to limits that it has not acknowledged. What a client
            // assumes until it has read them is usually 100.
            early_calls_max: 100,
            calls_max: 100,
        }
    }
}
