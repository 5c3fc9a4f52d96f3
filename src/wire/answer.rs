//! What a gRPC method answers with, made of the replies of the command channel and taken apart into them: so
//! that both listeners give the same answers, and the client library reads both in the same way.

use crate::wire::error::Error;
use crate::wire::proto::v1;
use crate::wire::proto::v1::reply::Body;
use crate::wire::proto::v1::stream_item::Item as Streamed;
use crate::wire::reply::Reply;

/// A message that answers a call, or a part of an answer that is streamed.
pub(crate) trait Answer: Default {
    /// Adds a reply; what has no place in this answer is left out.
    fn put(&mut self, reply: Reply);

    /// The replies in it.
    fn take(self) -> Result<Vec<Reply>, Error>;
}

fn all(bodies: impl IntoIterator<Item = Body>) -> Result<Vec<Reply>, Error> {
    bodies.into_iter().map(Reply::from_body).collect()
}

impl Answer for v1::Items {
    fn put(&mut self, reply: Reply) {
        if let Body::Item(item) = reply.to_body() {
            self.items.push(item);
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        all(self.items.into_iter().map(Body::Item))
    }
}

impl Answer for v1::Processes {
    fn put(&mut self, reply: Reply) {
        if let Body::Processes(some) = reply.to_body() {
            self.processes.extend(some.processes);
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        all([Body::Processes(self)])
    }
}

impl Answer for v1::AuditLines {
    fn put(&mut self, reply: Reply) {
        if let Body::Audit(some) = reply.to_body() {
            self.lines.extend(some.lines);
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        all([Body::Audit(self)])
    }
}

impl Answer for v1::Chunks {
    fn put(&mut self, reply: Reply) {
        if let Body::Chunk(chunk) = reply.to_body() {
            self.chunks.push(chunk);
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        all(self.chunks.into_iter().map(Body::Chunk))
    }
}

impl Answer for v1::StreamItem {
    fn put(&mut self, reply: Reply) {
        if let Reply::Chunk(chunk) = reply {
            // The bytes are many: they move.
            self.item = Some(Streamed::Chunk(chunk.into_wire()));
            return;
        }
        self.item = match reply.to_body() {
            Body::Gap(gap) => Some(Streamed::Gap(gap)),
            Body::Item(item) => Some(Streamed::Ended(item)),
            _ => None,
        };
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        all(self.item.map(|item| match item {
            Streamed::Chunk(chunk) => Body::Chunk(chunk),
            Streamed::Gap(gap) => Body::Gap(gap),
            Streamed::Ended(item) => Body::Item(item),
        }))
    }
}

/// An answer that is one reply.
macro_rules! single {
    ($message:ty, $body:ident) => {
        impl Answer for $message {
            fn put(&mut self, reply: Reply) {
                if let Body::$body(message) = reply.to_body() {
                    *self = message;
                }
            }

            fn take(self) -> Result<Vec<Reply>, Error> {
                all([Body::$body(self)])
            }
        }
    };
}

single!(v1::Environment, Environment);
single!(v1::EventBatch, Events);
single!(v1::ServiceInfo, Service);
single!(v1::Health, Health);
single!(v1::Upgraded, Upgraded);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::audit::AuditLine;
    use crate::wire::time::Timestamp;

    #[test]
    fn lines_of_the_audit_come_in_several_replies() {
        let line = |seq| AuditLine { seq, at: Timestamp(1), who: "a".into(), what: "b".into(), result: None };
        let mut answer = v1::AuditLines::default();
        for seq in [1, 2] {
            answer.put(Reply::Audit(vec![line(seq)]));
        }
        assert_eq!(answer.take(), Ok(vec![Reply::Audit(vec![line(1), line(2)])]));
    }
}
