//! HTTP/2 as a sequence of frames: their nine-byte headers, and nothing else of them.

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub len: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

/// One direction's frames, however the bytes are cut.
#[derive(Default)]
pub(super) struct Frames {
    header: [u8; 9],
    /// How much of the header has come.
    have: usize,
    /// How much of the payload is still to come.
    payload: usize,
}

impl Frames {
    /// The next header that is complete, told before its payload. Takes from the front of `bytes`.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        let skipped = self.payload.min(bytes.len());
        self.payload -= skipped;
        *bytes = &bytes[skipped..];

        let taken = (self.header.len() - self.have).min(bytes.len());
        self.header[self.have..][..taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        *bytes = &bytes[taken..];
        if self.have < self.header.len() {
            return None;
        }
        self.have = 0;
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        let (len, stream) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes(stream) & (u32::MAX >> 1));
        self.payload = len as usize;
        Some(Frame { len, kind, flags, stream })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn frame_of(stream: u32, kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(len).unwrap().to_be_bytes();
        let mut frame = [&[a, b, c, kind, flags], &stream.to_be_bytes()[..]].concat();
        frame.resize(9 + len, 0);
        frame
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            sent in prop::collection::vec((0u8..12, any::<u8>(), 0usize..300), 0..40),
            cuts in prop::collection::vec(1usize..80, 1..60),
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(|(kind, flags, len)| frame_of(1, *kind, *flags, *len)).collect();
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            let (mut rest, mut cut) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (mut chunk, after) = rest.split_at(rest.len().min(*cut.next().unwrap()));
                rest = after;
                while let Some(frame) = frames.next(&mut chunk) {
                    seen.push((frame.kind, frame.flags, frame.len as usize));
                }
                prop_assert!(chunk.is_empty());
            }
            prop_assert_eq!(seen, sent);
        }
    }
}
