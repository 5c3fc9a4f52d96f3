//! Messages to bytes and back, as grpcio's methods want it. Requests are decoded late: grpcio reads them on
//! its completion thread, which is everyone's, and before the credentials of the caller are looked at.

use std::io::Read;
use std::marker::PhantomData;

use bytes::Bytes;
use grpcio::{Error, GrpcSlice, MessageReader, Result};
use prost::Message;

/// A request as it crosses the wire. The channel's limit on messages has been applied to it.
pub(crate) struct Encoded<M> {
    content: Content,
    message: PhantomData<fn() -> M>,
}

enum Content {
    Received(MessageReader),
    ToSend(GrpcSlice),
}

impl<M: Message + Default> Encoded<M> {
    /// To be sent.
    pub(crate) fn new(message: &M) -> Self {
        Self::of(message.encode_to_vec())
    }

    /// To be sent, in bytes already. They are not copied if their vector has no room for more.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        Self { content: Content::ToSend(GrpcSlice::from(bytes)), message: PhantomData }
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.content {
            Content::Received(reader) => reader.len(),
            Content::ToSend(slice) => slice.len(),
        }
    }

    /// As it has come.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>> {
        match self.content {
            Content::Received(reader) => read(reader),
            Content::ToSend(slice) => Ok(slice.as_slice().to_vec()),
        }
    }

    pub(crate) fn decode(self) -> Result<M> {
        match self.content {
            Content::Received(reader) => decode(reader),
            Content::ToSend(slice) => M::decode(slice.as_slice()).map_err(|e| Error::Codec(Box::new(e))),
        }
    }
}

/// Takes over what has come, unread.
pub(crate) fn receive<M>(reader: MessageReader) -> Result<Encoded<M>> {
    Ok(Encoded { content: Content::Received(reader), message: PhantomData })
}

/// Hands out what is to be sent.
pub(crate) fn send<M>(encoded: &Encoded<M>, slice: &mut GrpcSlice) -> Result<()> {
    match &encoded.content {
        Content::ToSend(known) => *slice = known.clone(),
        Content::Received(_) => return Err(Error::Codec("a request that has come is not sent on".into())),
    }
    Ok(())
}

/// Into a slice that takes over the bytes without copying them.
pub(crate) fn encode<M: Message>(message: &M, slice: &mut GrpcSlice) -> Result<()> {
    *slice = GrpcSlice::from(message.encode_to_vec());
    Ok(())
}

/// The channel's limit on messages has been applied before this is called. Fields of the type `Bytes` are
/// parts of what was read, not copies.
pub(crate) fn decode<M: Message + Default>(reader: MessageReader) -> Result<M> {
    M::decode(Bytes::from(read(reader)?)).map_err(|e| Error::Codec(Box::new(e)))
}

fn read(mut reader: MessageReader) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(reader.len());
    reader.read_to_end(&mut bytes).map_err(|e| Error::Codec(Box::new(e)))?;
    Ok(bytes)
}
