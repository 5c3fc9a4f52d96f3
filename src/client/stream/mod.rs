//! Output of several processes as an iterator, in one of two ways: sent over the connection (`sent.rs`), or
//! read in the memory that the service shares (`shared.rs`).

mod followed;
mod sent;
mod shared;

use crate::client::session::Session;
pub use crate::client::stream::followed::StreamItem;
use crate::client::stream::followed::{Followed, ReaderIs};
use crate::client::stream::sent::SentStream;
use crate::client::stream::shared::SharedStream;
use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::request::Stream;

/// Output as it comes, made by [`Client::stream`](crate::Client::stream). Ends when every process is at rest
/// and all was delivered.
///
/// ```no_run
/// use provost::client::StreamItem;
/// use provost::wire::request::{Since, Stream, StreamKind};
///
/// let mut client = provost::Client::connect_default()?;
/// let stream = Stream { targets: vec!["web".into()], kind: StreamKind::Stdout, since: Since::Start };
/// for item in client.stream(stream)? {
///     match item? {
///         StreamItem::Chunk(chunk) => print!("{}", String::from_utf8_lossy(&chunk.data)),
///         StreamItem::Gap(gap) => println!("({} bytes were missed)", gap.missed),
///         StreamItem::Ended(item) => println!("({} ended)", item.target),
///     }
/// }
/// # Ok::<(), provost::Error>(())
/// ```
#[derive(Debug)]
pub struct OutputStream(Way);

#[derive(Debug)]
enum Way {
    Sent(SentStream),
    Shared(SharedStream),
}

impl OutputStream {
    pub(super) fn begin(session: Session, stream: Stream) -> Result<Self, Error> {
        Followed::find(session, stream).map(|followed| Self(Way::Sent(SentStream::new(followed))))
    }

    /// From shared memory if the service shares it, or else over the connection.
    pub(super) fn begin_shared(session: Session, stream: Stream) -> Result<Self, Error> {
        let mut followed = Followed::find(session, stream)?;
        Ok(Self(match shared::request(&mut followed) {
            Some(shares) => Way::Shared(SharedStream::new(followed, shares)),
            None => Way::Sent(SentStream::new(followed)),
        }))
    }

    /// From shared memory, by the reader that holds the output: when it asks for more, it has dealt with what
    /// it was given. Sent over the connection, nothing tells how far it is.
    pub(super) fn hold(&mut self) -> bool {
        match &mut self.0 {
            Way::Sent(_) => false,
            Way::Shared(stream) => {
                stream.followed.reader = ReaderIs::Awaited;
                true
            }
        }
    }

    /// The processes that are followed, with their names, or else their ids.
    pub fn labels(&self) -> impl Iterator<Item = (ProcessId, &str)> {
        let followed = match &self.0 {
            Way::Sent(stream) => &stream.followed,
            Way::Shared(stream) => &stream.followed,
        };
        followed.cursors.iter().map(|cursor| (cursor.id, cursor.label.as_str()))
    }

    /// Whether output is read in the service's memory.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Way::Shared(_))
    }

    /// The next item, if it comes without a wait.
    pub fn next_ready(&mut self) -> Option<Result<StreamItem, Error>> {
        let filled = match &mut self.0 {
            Way::Sent(_) => Ok(()),
            Way::Shared(stream) => stream.fill_without_wait(),
        };
        self.take(filled)
    }

    fn take(&mut self, filled: Result<(), Error>) -> Option<Result<StreamItem, Error>> {
        let followed = match &mut self.0 {
            Way::Sent(stream) => &mut stream.followed,
            Way::Shared(stream) => &mut stream.followed,
        };
        if let Err(e) = filled {
            followed.ended = true;
            return Some(Err(e));
        }
        followed.ready.pop_front().map(Ok)
    }
}

impl Iterator for OutputStream {
    type Item = Result<StreamItem, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let filled = match &mut self.0 {
            Way::Sent(stream) => stream.fill(),
            Way::Shared(stream) => stream.fill(),
        };
        self.take(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake_server::{Act, FakeServer, process};
    use crate::wire::error::Code;
    use crate::wire::reply::{Chunk, Gap, Item, Reply};
    use crate::wire::request::{Request, Since, StreamKind};
    use crate::wire::time::Timestamp;

    fn status(names: &[&str]) -> Act {
        Act::Answer(
            (names.iter())
                .map(|name| {
                    Reply::Item(Item {
                        target: (*name).into(),
                        process: Some(process(name)),
                        error: None,
                        unrecorded: None,
                        has_others: false,
                    })
                })
                .collect(),
        )
    }

    fn chunk(name: &str, offset: u64, data: &str) -> Reply {
        let (id, data) = (process(name).id, data.as_bytes().to_vec());
        Reply::Chunk(Chunk { id, offset, stderr: false, at: Timestamp(1), data: data.into() })
    }

    fn text_of(items: &[StreamItem], name: &str) -> String {
        let id = process(name).id;
        let mut text = String::new();
        for item in items {
            match item {
                StreamItem::Chunk(c) if c.id == id => text += std::str::from_utf8(&c.data).unwrap(),
                StreamItem::Gap(g) if g.id == id => text += &format!("<{}>", g.missed),
                StreamItem::Chunk(_) | StreamItem::Gap(_) | StreamItem::Ended(_) => {}
            }
        }
        text
    }

    #[test]
    fn each_process_goes_on_at_its_own_byte() {
        let gap = Reply::Gap(Gap { id: process("b").id, offset: 12, missed: 5 });
        let server = FakeServer::new(vec![
            vec![status(&["a", "b"]), Act::Partly(vec![chunk("a", 0, "one "), chunk("b", 10, "B1"), gap])],
            vec![status(&["a", "b"]), Act::Hangup],
            // The overlap is dropped, byte for byte.
            vec![status(&["a", "b"]), Act::Answer(vec![chunk("a", 2, "e two"), chunk("b", 17, "B2")])],
        ]);
        let stream = Stream { targets: vec!["*".into()], kind: StreamKind::Both, since: Since::Start };
        let items: Vec<_> =
            OutputStream::begin(server.session(), stream).unwrap().map(Result::unwrap).collect();
        assert_eq!((text_of(&items, "a").as_str(), text_of(&items, "b").as_str()), ("one two", "B1<5>B2"));
        let seen = server.finish().requests;
        let asked: Vec<_> = seen
            .iter()
            .filter_map(|r| if let Request::Stream(s) = r { Some(&s.since) } else { None })
            .collect();
        assert_eq!(asked, [&Since::Start, &Since::Offsets(vec![4, 17]), &Since::Offsets(vec![4, 17])]);
    }

    #[test]
    fn the_others_go_on_without_a_removed_one() {
        let gone = Reply::Item(Item {
            target: process("a").id.to_string(),
            process: None,
            error: Some(Error::new(Code::NotFound, "gone")),
            unrecorded: None,
            has_others: false,
        });
        let left = Reply::Item(Item {
            target: "b".into(),
            process: Some(process("b")),
            error: None,
            unrecorded: None,
            has_others: false,
        });
        let server = FakeServer::new(vec![
            vec![status(&["a", "b"]), Act::Hangup],
            vec![Act::Answer(vec![gone, left]), Act::Answer(vec![chunk("b", 100, "x")])],
        ]);
        let stream = Stream { targets: vec!["*".into()], kind: StreamKind::Both, since: Since::Now };
        let items: Vec<_> =
            OutputStream::begin(server.session(), stream).unwrap().map(Result::unwrap).collect();
        assert!(matches!(&items[0], StreamItem::Ended(item) if item.error.is_some()));
        assert_eq!(text_of(&items, "b"), "x");
        server.finish();
    }
}
