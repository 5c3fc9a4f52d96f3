//! What a provider of modules and a service have agreed on beside the messages.

/// The version of the protocol that is spoken.
pub const PROTOCOL_VERSION: i32 = 1;
/// Metadata in which a provider names the connection that its registration replaces.
pub const REPLACES: &str = "provost-connection-id";
/// The largest message, each way, in bytes.
pub const MESSAGE_LEN_MAX: i32 = 4 << 20;
