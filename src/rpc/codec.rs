//! Messages to bytes and back, as grpcio's methods want it. Requests are decoded late: grpcio reads them on
//! its completion thread, which is everyone's, and before the credentials of the caller are looked at.

use std::io::Read;
use std::marker::PhantomData;

use grpcio::{Error, GrpcSlice, MessageReader, Result};
use prost::Message;

/// A request as it crosses the wire. The channel's limit on messages has been applied to it.
pub(crate) struct Encoded<M> {
    bytes: Bytes,
    message: PhantomData<fn() -> M>,
}

enum Bytes {
    Received(MessageReader),
    ToSend(Vec<u8>),
}

impl<M: Message + Default> Encoded<M> {
    /// To be sent.
    pub(crate) fn new(message: &M) -> Self {
        Self { bytes: Bytes::ToSend(message.encode_to_vec()), message: PhantomData }
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Received(reader) => reader.len(),
            Bytes::ToSend(bytes) => bytes.len(),
        }
    }

    /// As it has come.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>> {
        match self.bytes {
            Bytes::Received(mut reader) => {
                let mut bytes = Vec::with_capacity(reader.len());
                reader.read_to_end(&mut bytes).map_err(|e| Error::Codec(Box::new(e)))?;
                Ok(bytes)
            }
            Bytes::ToSend(bytes) => Ok(bytes),
        }
    }

    pub(crate) fn decode(self) -> Result<M> {
        match self.bytes {
            Bytes::Received(reader) => decode(reader),
            Bytes::ToSend(bytes) => M::decode(bytes.as_slice()).map_err(|e| Error::Codec(Box::new(e))),
        }
    }
}

/// Takes over what has come, unread.
pub(crate) fn receive<M>(reader: MessageReader) -> Result<Encoded<M>> {
    Ok(Encoded { bytes: Bytes::Received(reader), message: PhantomData })
}

/// Hands out what is to be sent.
pub(crate) fn send<M>(encoded: &Encoded<M>, slice: &mut GrpcSlice) -> Result<()> {
    match &encoded.bytes {
        Bytes::ToSend(bytes) => *slice = GrpcSlice::from(bytes.as_slice()),
        Bytes::Received(_) => return Err(Error::Codec("a request that has come is not sent on".into())),
    }
    Ok(())
}

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
