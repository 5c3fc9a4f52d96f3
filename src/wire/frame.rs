//! Frames of the command channel: a length of 4 bytes, big endian, then that many bytes. The length is
//! checked before any memory is taken for it. Knows nothing of what is inside, nor of sockets: bytes go in,
//! whole frames come out.

use prost::Message;

use crate::wire::buffer::Buffer;
use crate::wire::error::{Code, Error};

/// The largest frame, in bytes: room for the 2 MiB of arguments and environment that Linux takes, and as much
/// again.
pub const FRAME_LEN_MAX: usize = 4 << 20;
/// The length in front.
pub const HEADER_LEN: usize = 4;
/// Memory kept between two frames; a large frame's buffer is given back.
const KEEP_LEN: usize = 64 << 10;

/// Adds one encoded message to `out` as a frame.
pub fn put(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), Error> {
    put_header(out, payload.len())?;
    out.extend_from_slice(payload);
    Ok(())
}

/// Encodes a message right into `out`, as a frame.
pub fn put_message(out: &mut Vec<u8>, message: &impl Message) -> Result<(), Error> {
    let len = message.encoded_len();
    put_header(out, len)?;
    out.reserve(len);
    message.encode(out).expect("there is room");
    Ok(())
}

fn put_header(out: &mut Vec<u8>, len: usize) -> Result<(), Error> {
    if len > FRAME_LEN_MAX {
        return Err(too_large(len));
    }
    let len = u32::try_from(len).expect("4 MiB fit 32 bits");
    out.extend_from_slice(&len.to_be_bytes());
    Ok(())
}

fn too_large(len: usize) -> Error {
    Error::new(Code::Usage, format!("a frame of {len} bytes is over the limit of {FRAME_LEN_MAX}"))
}

/// Collects what was read from a peer and hands out whole frames.
#[derive(Debug, Default)]
pub struct Frames(Buffer);

impl Frames {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// So much room to read into; what was read counts when it is told to [`Self::add`].
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        self.0.trim(KEEP_LEN.max(4 * len));
        &mut self.0.room(len)[..len]
    }

    /// Counts what was read into the room.
    pub fn add(&mut self, len: usize) {
        self.0.add(len);
    }

    /// Takes in a copy of bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.room(bytes.len()).copy_from_slice(bytes);
        self.add(bytes.len());
    }

    /// The next whole frame's payload, if there is one. An error is final: the peer does not speak our
    /// language.
    pub fn take(&mut self) -> Result<Option<&[u8]>, Error> {
        let Some(header) = self.0.filled().first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let len = u32::from_be_bytes(*header) as usize;
        if len == 0 {
            return Err(Error::new(Code::Usage, "an empty frame"));
        }
        if len > FRAME_LEN_MAX {
            return Err(too_large(len));
        }
        if self.0.len() < HEADER_LEN + len {
            return Ok(None);
        }
        self.0.consume(HEADER_LEN);
        Ok(Some(self.0.take(len)))
    }

    /// Whether a frame has begun and not ended: the peer owes us the rest.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.0.is_empty()
    }

    /// How many bytes the frame under way still lacks, at least; 0 when none is.
    #[must_use]
    pub fn missing(&self) -> usize {
        match self.0.filled().first_chunk::<HEADER_LEN>() {
            None => 0,
            Some(header) => {
                let len = (u32::from_be_bytes(*header) as usize).min(FRAME_LEN_MAX);
                (HEADER_LEN + len).saturating_sub(self.0.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        for len in [u32::try_from(FRAME_LEN_MAX).unwrap() + 1, u32::MAX] {
            let mut frames = Frames::new();
            frames.feed(&len.to_be_bytes());
            assert!(frames.take().is_err());
        }
    }

    #[test]
    fn an_empty_frame_is_refused() {
        let mut frames = Frames::new();
        frames.feed(&[0; 4]);
        assert!(frames.take().is_err());
    }

    #[test]
    fn the_largest_frame_passes() {
        let mut out = Vec::new();
        put(&mut out, &vec![7; FRAME_LEN_MAX]).unwrap();
        assert!(put(&mut out, &vec![7; FRAME_LEN_MAX + 1]).is_err());
        let mut frames = Frames::new();
        frames.feed(&out);
        assert_eq!(frames.take().unwrap().unwrap().len(), FRAME_LEN_MAX);
        assert!(!frames.is_partial());
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..20),
            cuts in prop::collection::vec(1usize..97, 1..50),
        ) {
            let mut wire = Vec::new();
            for payload in &payloads {
                put(&mut wire, payload).unwrap();
            }
            let mut frames = Frames::new();
            let mut got = Vec::new();
            let mut rest = &wire[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                frames.feed(now);
                rest = later;
                while let Some(frame) = frames.take().unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, payloads);
            prop_assert!(!frames.is_partial());
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut frames = Frames::new();
            frames.feed(&bytes);
            while let Ok(Some(_)) = frames.take() {}
        }
    }
}
