//! Messages to bytes and back, as grpcio's methods want it.

use std::io::Read;

use grpcio::{Error, GrpcSlice, MessageReader, Result};
use prost::Message;

/// Into a slice that takes over the bytes without copying them.
pub(crate) fn encode<M: Message>(message: &M, slice: &mut GrpcSlice) -> Result<()> {
    *slice = GrpcSlice::from(message.encode_to_vec());
    Ok(())
}

/// The channel's limit on messages has been applied before this is called.
pub(crate) fn decode<M: Message + Default>(mut reader: MessageReader) -> Result<M> {
    let mut bytes = Vec::with_capacity(reader.len());
    reader.read_to_end(&mut bytes).map_err(|e| Error::Codec(Box::new(e)))?;
    M::decode(bytes.as_slice()).map_err(|e| Error::Codec(Box::new(e)))
}
