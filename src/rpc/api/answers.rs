//! Answers: what a method answers with, made of the service's replies and taken apart into them, so that both
//! ways to the service give the same answers and the client library reads them in the same way.

use crate::rpc::api::processes::variables;
use crate::rpc::api::values::{proto_time, time};
use crate::rpc::services::public as api;
use crate::wire::audit::AuditLine;
use crate::wire::error::Error;
use crate::wire::id::ProcessId;
use crate::wire::process::Process;
use crate::wire::reply::{Chunk, Environment, EventBatch, Gap, Item, Reply, Service, Upgraded};
use crate::wire::time::Timestamp;

/// A message that answers a call, or a part of an answer that is streamed.
pub(crate) trait Answer: prost::Message + Default + 'static {
    /// Adds a reply; what has no place in this answer is left out.
    fn put(&mut self, reply: Reply);

    /// The replies in it.
    fn take(self) -> Result<Vec<Reply>, Error>;
}

/// Answers with a result for each target.
macro_rules! results {
    ($($answer:ident)*) => {
        $(impl Answer for api::$answer {
            fn put(&mut self, reply: Reply) {
                if let Reply::Item(item) = reply {
                    self.results.push(item.into());
                }
            }

            fn take(self) -> Result<Vec<Reply>, Error> {
                self.results.into_iter().map(|result| Item::try_from(result).map(Reply::Item)).collect()
            }
        })*
    };
}

results! {
    StartResponse StartAgainResponse UpdateResponse StopResponse RestartResponse RemoveResponse SignalResponse
    WaitResponse StatusResponse
}

impl Answer for api::ListResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Processes(some) = reply {
            self.processes.extend(some.into_iter().map(Into::into));
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let all = self.processes.into_iter().map(Process::try_from).collect::<Result<_, _>>()?;
        Ok(vec![Reply::Processes(all)])
    }
}

impl From<Chunk> for api::OutputChunk {
    fn from(chunk: Chunk) -> Self {
        let stream = if chunk.stderr { api::OutputStream::Stderr } else { api::OutputStream::Stdout };
        Self {
            process_id: chunk.id.to_string(),
            offset: chunk.offset,
            stream: stream.into(),
            time: Some(proto_time(chunk.at)),
            data: chunk.data,
        }
    }
}

impl TryFrom<api::OutputChunk> for Chunk {
    type Error = Error;

    fn try_from(chunk: api::OutputChunk) -> Result<Self, Error> {
        Ok(Self {
            id: chunk.process_id.parse::<ProcessId>()?,
            offset: chunk.offset,
            stderr: chunk.stream() == api::OutputStream::Stderr,
            at: chunk.time.map_or(Timestamp(0), time),
            data: chunk.data,
        })
    }
}

impl Answer for api::OutputResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Chunk(chunk) = reply {
            self.chunk = Some(chunk.into());
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        self.chunk.into_iter().map(|chunk| Chunk::try_from(chunk).map(Reply::Chunk)).collect()
    }
}

impl Answer for api::StreamResponse {
    fn put(&mut self, reply: Reply) {
        use api::stream_response::Item as Public;
        self.item = match reply {
            Reply::Chunk(chunk) => Some(Public::Chunk(chunk.into())),
            Reply::Gap(gap) => Some(Public::Gap(api::OutputGap {
                process_id: gap.id.to_string(),
                offset: gap.offset,
                missed: gap.missed,
            })),
            Reply::Item(item) => Some(Public::Ended(item.into())),
            _ => None,
        };
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        use api::stream_response::Item as Public;
        let reply = match self.item {
            None => return Ok(Vec::new()),
            Some(Public::Chunk(chunk)) => Reply::Chunk(chunk.try_into()?),
            Some(Public::Gap(gap)) => {
                Reply::Gap(Gap { id: gap.process_id.parse()?, offset: gap.offset, missed: gap.missed })
            }
            Some(Public::Ended(result)) => Reply::Item(result.try_into()?),
        };
        Ok(vec![reply])
    }
}

/// Answers with a batch of events.
macro_rules! events {
    ($($answer:ident)*) => {
        $(impl Answer for api::$answer {
            fn put(&mut self, reply: Reply) {
                if let Reply::Events(batch) = reply {
                    self.missed = batch.missed;
                    self.events = batch.events.into_iter().map(Into::into).collect();
                }
            }

            fn take(self) -> Result<Vec<Reply>, Error> {
                let events = self.events.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
                Ok(vec![Reply::Events(EventBatch { events, missed: self.missed })])
            }
        })*
    };
}

events! { EventsResponse HistoryResponse }

impl Answer for api::EnvironmentResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Environment(environment) = reply {
            self.environment = variables(environment.env);
            self.unrecorded = environment.unrecorded.unwrap_or_default();
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        Ok(vec![Reply::Environment(Environment {
            env: self.environment.into_iter().map(|v| (v.key, v.value)).collect(),
            unrecorded: (!self.unrecorded.is_empty()).then_some(self.unrecorded),
        })])
    }
}

impl Answer for api::AuditResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Audit(lines) = reply {
            self.lines.extend(lines.into_iter().map(|line| api::AuditLine {
                sequence: line.seq,
                time: Some(proto_time(line.at)),
                caller: line.who,
                request: line.what,
                result: line.result.unwrap_or_default(),
            }));
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let line = |line: api::AuditLine| AuditLine {
            seq: line.sequence,
            at: line.time.map_or(Timestamp(0), time),
            who: line.caller,
            what: line.request,
            result: (!line.result.is_empty()).then_some(line.result),
        };
        Ok(vec![Reply::Audit(self.lines.into_iter().map(line).collect())])
    }
}

impl Answer for api::ServiceInfoResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Service(s) = reply {
            *self = Self {
                version: s.version,
                keeper_pid: s.keeper_pid,
                engine_pid: s.engine_pid,
                start_time: Some(proto_time(s.started_at)),
                engine_starts: s.engine_starts,
                processes: s.processes,
                running: s.running,
                cgroups: s.cgroups,
                keeper_version: s.keeper_version,
            };
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        Ok(vec![Reply::Service(Service {
            version: self.version,
            keeper_pid: self.keeper_pid,
            engine_pid: self.engine_pid,
            started_at: self.start_time.map_or(Timestamp(0), time),
            engine_starts: self.engine_starts,
            processes: self.processes,
            running: self.running,
            cgroups: self.cgroups,
            keeper_version: self.keeper_version,
            // For the service's own programs alone.
            last_event: 0,
            is_stopping: false,
        })])
    }
}

impl Answer for api::HealthResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Health(health) = reply {
            *self = health.into();
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        Ok(vec![Reply::Health(self.try_into()?)])
    }
}

impl Answer for api::UpgradeResponse {
    fn put(&mut self, reply: Reply) {
        if let Reply::Upgraded(u) = reply {
            *self = Self { version_before: u.before, version_after: u.after, path: u.path };
        }
    }

    fn take(self) -> Result<Vec<Reply>, Error> {
        let (before, after, path) = (self.version_before, self.version_after, self.path);
        Ok(vec![Reply::Upgraded(Upgraded { before, after, path })])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_audit_come_in_several_replies() {
        let line = |seq| AuditLine { seq, at: Timestamp(1), who: "a".into(), what: "b".into(), result: None };
        let mut answer = api::AuditResponse::default();
        for seq in [1, 2] {
            answer.put(Reply::Audit(vec![line(seq)]));
        }
        assert_eq!(answer.take(), Ok(vec![Reply::Audit(vec![line(1), line(2)])]));
    }
}
