//! What a provider has written to its standard error while it was asked.

use crate::client::Client;
use crate::provider::secrets;
use crate::wire::provider::Definition;
use crate::wire::request::{Output, StreamKind};
use crate::wire::time::Timestamp;

/// The most of it that is told, in bytes: the end.
const LEN_MAX: usize = 16 << 10;

/// Since then, without the secrets of its configuration. What cannot be told is nothing.
pub fn since(client: &mut Client, target: &str, begun: Timestamp, definition: &Definition) -> String {
    let output = client.output(Output { target: target.to_owned(), kind: StreamKind::Stderr });
    let chunks = output.unwrap_or_default();
    let before = chunks.iter().filter(|chunk| chunk.at < begun).map(|chunk| chunk.data.len()).sum();
    let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.data.to_vec()).collect();
    secrets::tail(&bytes, before, LEN_MAX, definition)
}
