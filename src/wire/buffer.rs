//! Bytes on their way: put in at the end, taken out at the front, the memory kept between.

/// A queue of bytes that lie in one piece.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What is in it.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// The same, to be worked on in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// How much that is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether that is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes from the front.
    pub fn consume(&mut self, len: usize) {
        self.start += len;
        assert!(self.start <= self.end, "no more is taken out than is in");
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Takes this much from the front, to be looked at.
    pub fn take(&mut self, len: usize) -> &[u8] {
        let start = self.start;
        self.consume(len);
        &self.bytes[start..start + len]
    }

    pub fn clear(&mut self) {
        self.consume(self.len());
    }

    /// At least this much room at the end; what is written there counts when it is told to [`Self::add`].
    pub fn room(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < len {
            let filled = self.len();
            if self.bytes.len() - filled < len {
                // Zeroed by the kernel as far as it is touched.
                let mut bytes = vec![0; (filled + len).max(2 * filled)];
                bytes[..filled].copy_from_slice(self.filled());
                self.bytes = bytes;
            } else {
                self.bytes.copy_within(self.start..self.end, 0);
            }
            (self.start, self.end) = (0, filled);
        }
        &mut self.bytes[self.end..]
    }

    /// Counts what was written into the room.
    pub fn add(&mut self, len: usize) {
        self.end += len;
        assert!(self.end <= self.bytes.len(), "no more is added than there was room for");
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.add(bytes.len());
    }

    /// Gives back the memory of an empty one if it is more than this.
    pub fn trim(&mut self, len: usize) {
        if self.is_empty() && self.bytes.len() > len {
            *self = Self::default();
        }
    }

    /// Gives back all memory that is not in use.
    pub fn shrink(&mut self) {
        let filled = self.filled().to_vec();
        *self = Self { start: 0, end: filled.len(), bytes: filled };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_their_order_whatever_moves() {
        let mut buffer = Buffer::default();
        let (mut written, mut read) = (0u8, 0u8);
        for round in 0..1000 {
            for _ in 0..round % 7 {
                buffer.push(&[written, written.wrapping_add(1)]);
                written = written.wrapping_add(2);
            }
            for _ in 0..buffer.len().min(round % 11) {
                assert_eq!(buffer.filled()[0], read);
                buffer.consume(1);
                read = read.wrapping_add(1);
            }
            if round % 50 == 0 {
                buffer.shrink();
                assert_eq!(buffer.bytes.len(), buffer.len());
            }
        }
        buffer.clear();
        assert!(buffer.is_empty() && buffer.filled_mut().is_empty());
    }
}
