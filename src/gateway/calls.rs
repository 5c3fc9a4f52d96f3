//! How a call is answered: the caller is identified, its rights are checked, then the engine is asked. There
//! are three ways, by how long that can take; a completion thread only begins them.

use std::sync::Arc;

use grpcio::{Deadline, RpcContext, RpcStatus, ServerStreamingSink, UnarySink};

use crate::access::policy;
use crate::client::{Client, Feed, OutputStream, StreamItem};
use crate::gateway::caller::{Caller, Entry, User, note};
use crate::gateway::pool::{Asker, Engine, Finish};
use crate::gateway::response_stream::{Gone, ResponseStream};
use crate::gateway::running::RunningCall;
use crate::gateway::serving::Watches;
use crate::gateway::shared::Gateway;
use crate::gateway::shares::{Place, Shares};
use crate::gateway::threads::{busy, caught};
use crate::gateway::unread::Unread;
use crate::rpc::api::answers::Answer;
use crate::rpc::api::pages::{Page, Paged};
use crate::rpc::api::requests::Ask;
use crate::rpc::codec::Encoded;
use crate::rpc::pending;
use crate::rpc::status::{self, Reason};
use crate::wire::envelope::Behalf;
use crate::wire::error::{Code, Error};
use crate::wire::id::OrderKey;
use crate::wire::module::{ModuleAnswer, ModuleCall};
use crate::wire::reply::Reply;
use crate::wire::request::Request;

/// The longest request that is sent ahead, in bytes: a completion thread, which is everyone's, reads it, and
/// it fits into the socket of a connection at rest.
const AHEAD_MAX: usize = 4096;

/// The calls of one connection: the rights of other callers are not within reach.
#[derive(Clone)]
pub(super) struct Calls {
    pub gateway: Arc<Gateway>,
    pub caller: Arc<Caller>,
    pub watches: Watches,
    pub unread: Unread,
}

impl Calls {
    /// Answers at once: on a thread of the pool. Of a new caller the password is checked before, on a thread
    /// of its own, for that takes a while.
    pub fn at_once<Q, A>(&self, ctx: &RpcContext<'_>, request: Encoded<Q>, sink: UnarySink<A>)
    where
        Q: Ask,
        A: Answer + Paged,
    {
        let deadline = ctx.deadline();
        let entry = self.caller.enter(&self.gateway, ctx.request_headers()).and_then(|entry| {
            let known = entry.known();
            let shares = if known.is_some() { &self.gateway.quick } else { &self.gateway.lasting };
            Ok((self.place(shares, known)?, entry))
        });
        let (place, login) = match entry {
            Ok((place, Entry::Known(user))) => return self.in_turn(user, place, deadline, request, sink),
            Ok((place, Entry::Login(login))) => (place, login),
            Err(status) => return pending::answer(sink, Err(status)),
        };
        let ours = self.clone();
        let refused = self.gateway.threads.run(sink, move |sink| {
            let entered = caught(|| {
                let user = ours.caller.verify(&ours.gateway, &login)?;
                Ok::<_, RpcStatus>((ours.place(&ours.gateway.quick, Some(&user))?, user))
            });
            drop(place);
            match entered {
                Ok((place, user)) => ours.in_turn(user, place, deadline, request, sink),
                Err(status) => pending::answer(sink, Err(status)),
            }
        });
        if let Err(sink) = refused {
            pending::answer(sink, Err(busy()));
        }
    }

    /// Answers when it is this caller's turn, on a thread of the pool.
    fn in_turn<Q, A>(
        &self,
        user: User,
        place: Place,
        deadline: Deadline,
        request: Encoded<Q>,
        sink: UnarySink<A>,
    ) where
        Q: Ask,
        A: Answer + Paged,
    {
        let (ours, asker) = (self.clone(), Asker(self.caller.holder(self.gateway.service_uid), user.clone()));
        let begin = move |engine: &mut Engine| -> Finish {
            let asked = ours.ask_ahead(&user, request, engine);
            Box::new(move |engine| {
                let result = if deadline.exceeded() {
                    Err(expired())
                } else {
                    caught(|| ours.ask(&user, asked, engine))
                };
                drop(place);
                ours.answer(sink, result);
            })
        };
        self.gateway.pool.submit(asker, Box::new(begin));
    }

    /// Answers soon, unless the host of providers has to be waited for: so not on a thread of the pool, which
    /// all calls share.
    pub fn of_host<Q, A>(&self, ctx: &RpcContext<'_>, request: Encoded<Q>, sink: UnarySink<A>)
    where
        Q: Ask,
        A: Answer + Paged,
    {
        let entry = self.caller.enter(&self.gateway, ctx.request_headers());
        match entry.and_then(|entry| Ok((self.place(&self.gateway.lasting, None)?, entry))) {
            Ok((place, entry)) => self.unary_on_thread(entry, place, request, sink),
            Err(status) => pending::answer(sink, Err(status)),
        }
    }

    fn unary_on_thread<Q, A>(&self, entry: Entry, mut place: Place, request: Encoded<Q>, sink: UnarySink<A>)
    where
        Q: Ask,
        A: Answer + Paged,
    {
        let ours = self.clone();
        let refused = self.gateway.threads.run(sink, move |sink| {
            let result = caught(|| {
                let user = match entry {
                    Entry::Known(user) => user,
                    Entry::Login(login) => ours.caller.verify(&ours.gateway, &login)?,
                };
                ours.caller.share(&mut place, &user)?;
                ours.gateway.with(None, |engine| ours.ask(&user, Asked::Encoded(request), engine))
            });
            ours.answer(sink, result);
        });
        if let Err(sink) = refused {
            pending::answer(sink, Err(busy()));
        }
    }

    /// Answers, and has the connection end if the client does not take the answer in time.
    fn answer<A: Answer>(&self, sink: UnarySink<A>, result: Result<A, RpcStatus>) {
        match result {
            Ok(answer) => {
                let len = answer.encoded_len() as u64;
                match self.unread.room(len) {
                    Some(room) => room.keep(sink.success(answer), self.gateway.limits.stall),
                    None => pending::answer(sink, Err(unread())),
                }
            }
            Err(status) => pending::answer(sink, Err(status)),
        }
    }

    /// A place in the shares of this connection's caller and of the user, if known by now.
    pub fn place(&self, shares: &Shares, user: Option<&User>) -> Result<Place, RpcStatus> {
        let mut place = shares.take(self.caller.holder(self.gateway.service_uid)).ok_or_else(busy)?;
        user.map_or(Ok(()), |user| self.caller.share(&mut place, user))?;
        Ok(place)
    }

    /// Answers once, after a while: on a thread of its own, which stops waiting when the client goes.
    pub fn later<Q, A>(&self, ctx: &RpcContext<'_>, request: Encoded<Q>, sink: ServerStreamingSink<A>)
    where
        Q: Ask,
        A: Answer + Paged,
    {
        self.on_thread(ctx, sink, |_| (None, Asked::Encoded(request)), Self::wait);
    }

    /// The same of the host, which has the request before that thread runs, if that takes no wait.
    pub fn ahead<Q, A>(&self, ctx: &RpcContext<'_>, request: Encoded<Q>, sink: ServerStreamingSink<A>)
    where
        Q: Ask,
        A: Answer + Paged,
    {
        let begin = |user: Option<&User>| {
            let mut engine = user.and_then(|_| self.gateway.rested());
            let asked = match user.zip(engine.as_mut()) {
                Some((user, engine)) => self.ask_ahead(user, request, engine),
                None => Asked::Encoded(request),
            };
            (engine, asked)
        };
        self.on_thread(ctx, sink, begin, Self::wait);
    }

    /// Waits for the one answer.
    fn wait<Q, A>(
        &self,
        user: User,
        (engine, asked): (Option<Engine>, Asked<Q>),
        response: &mut ResponseStream<A>,
        running: &RunningCall,
    ) -> Result<Option<A>, Stop>
    where
        Q: Ask,
        A: Answer + Paged,
    {
        self.gateway.with(engine, |engine| {
            let (request, how) = asked.read()?;
            // One that was sent ahead, too: its caller may have lost the role since.
            self.admit(&user, &request, engine)?;
            let client = engine.client_for(&request)?;
            running.waits(&client.canceller());
            response.watch(&client.canceller())?;
            Ok(Some(self.call(&user, request, &how, client)?))
        })
    }

    /// Answers as things happen: on a thread of its own, until there is nothing more to come or the client
    /// goes.
    pub fn as_it_comes<Q, A>(&self, ctx: &RpcContext<'_>, request: Encoded<Q>, sink: ServerStreamingSink<A>)
    where
        Q: Ask,
        A: Answer,
    {
        self.on_thread(
            ctx,
            sink,
            |_| request,
            |ours, user, request, response, running| {
                let mut engine = ours.gateway.engine();
                let (request, _) = read(request)?;
                ours.admit(&user, &request, &mut engine)?;
                let client = engine.client_for(&request)?;
                client.on_behalf_of(Some(ours.caller.behalf(&ours.gateway, &user)?));
                let canceller = client.canceller();
                running.waits(&canceller);
                response.watch(&canceller)?;
                let mut source = Source::of(request, client)?;
                loop {
                    let item = match source.next_ready() {
                        None => {
                            response.watch(&canceller)?;
                            source.next()
                        }
                        some => some,
                    };
                    let Some(item) = item else { return Ok(None) };
                    // What is read where it lies is not ended by the canceller.
                    if running.is_over() {
                        return Err(Stop::Failed(RunningCall::over()));
                    }
                    let mut answer = A::default();
                    answer.put(item?);
                    response.send(answer)?;
                }
            },
        );
    }

    /// `begin`: what can be done without a wait, for a user whose password need not be checked. `work` comes
    /// to the last message, if there is one more.
    fn on_thread<A: Answer, T: Send + 'static>(
        &self,
        ctx: &RpcContext<'_>,
        sink: ServerStreamingSink<A>,
        begin: impl FnOnce(Option<&User>) -> T,
        work: impl FnOnce(&Self, User, T, &mut ResponseStream<A>, &RunningCall) -> Result<Option<A>, Stop>
        + Send
        + 'static,
    ) {
        let (ours, generation) = (self.clone(), self.gateway.verifier.generation());
        let entry = self.caller.enter(&self.gateway, ctx.request_headers());
        let entered = entry.and_then(|entry| Ok((self.place(&self.gateway.lasting, entry.known())?, entry)));
        let (mut place, entry) = match entered {
            Ok(entered) => entered,
            Err(status) => return fail(ctx, sink, status),
        };
        let begun = begin(entry.known());
        let refused = self.gateway.threads.run(sink, move |sink| {
            let mut response = ResponseStream::new(sink, ours.gateway.limits.stall);
            let result = caught(|| {
                let user = match entry {
                    Entry::Known(user) => user,
                    Entry::Login(login) => {
                        let user = ours.caller.verify(&ours.gateway, &login)?;
                        ours.caller.share(&mut place, &user)?;
                        user
                    }
                };
                let running = ours.caller.begin(&ours.gateway, &user, generation)?;
                work(&ours, user, begun, &mut response, &running).map_err(|stop| match stop {
                    Stop::Failed(_) if running.is_over() => Stop::Failed(RunningCall::over()),
                    stop => stop,
                })
            });
            match result {
                Ok(None) => response.finish(Ok(())),
                Ok(Some(last)) => match ours.unread.room(last.encoded_len() as u64) {
                    Some(room) => response.finish_with(last, room),
                    None => response.finish(Err(unread())),
                },
                Err(Stop::Failed(status)) => response.finish(Err(status)),
                // There is no client left to be told.
                Err(Stop::Gone) => drop(response),
            }
        });
        if let Err(sink) = refused {
            fail(ctx, sink, busy());
        }
    }

    /// Sends a request whose user may make it, if it is short and a connection is at rest: the thread for it
    /// then wakes up while the service is at work. Whatever else there is to do or to say, that does.
    fn ask_ahead<Q: Ask>(&self, user: &User, request: Encoded<Q>, engine: &mut Engine) -> Asked<Q> {
        if request.len() > AHEAD_MAX {
            return Asked::Encoded(request);
        }
        let read = caught(|| {
            let (request, how) = read(request)?;
            let is_allowed = |behalf: &Behalf| policy::allow(behalf.role, &request).is_ok();
            if let Some(behalf) = self.caller.behalf(&self.gateway, user).ok().filter(is_allowed) {
                engine.ask_ahead(&request, behalf);
            }
            Ok((request, how))
        });
        Asked::Read(read)
    }

    /// Whether this user may make the request. A refusal is put on record.
    fn admit(&self, user: &User, request: &Request, engine: &mut Engine) -> Result<(), RpcStatus> {
        let role = self.caller.role(&self.gateway, user);
        let role = role.inspect_err(|status| self.note(user, request, status.message(), engine))?;
        policy::allow(role, request).map_err(|e| {
            self.gateway.log.say(&format!("{}: refused: {}", self.caller.who(user), e.message));
            self.note(user, request, &e.message, engine);
            status::refusal(Reason::Role, &e)
        })
    }

    /// Puts a refusal on record, whatever was asked for.
    fn note(&self, user: &User, request: &Request, why: &str, engine: &mut Engine) {
        let what = request.on_record().unwrap_or_else(|| request.verb().to_owned());
        // A request that was sent ahead is not answered to this one.
        engine.rest();
        // Without the service there is nowhere to put it.
        let _ = note(&self.caller.who(user), &what, why, engine);
    }

    fn ask<Q, A>(&self, user: &User, asked: Asked<Q>, engine: &mut Engine) -> Result<A, RpcStatus>
    where
        Q: Ask,
        A: Answer + Paged,
    {
        let (request, how) = asked.read()?;
        self.admit(user, &request, engine)?;
        let client = engine.client_for(&request)?;
        self.call(user, request, &how, client)
    }

    fn call<A: Answer + Paged>(
        &self,
        user: &User,
        request: Request,
        how: &How,
        client: &mut Client,
    ) -> Result<A, RpcStatus> {
        client.on_behalf_of(Some(self.caller.behalf(&self.gateway, user)?));
        let mut answer = A::default();
        for reply in client.call_with_key(request, how.key)? {
            answer.put(reply);
        }
        self.fit(answer, &how.page)
    }

    /// What of an answer goes into one message.
    fn fit<A: Answer + Paged>(&self, mut answer: A, page: &Page) -> Result<A, RpcStatus> {
        answer.cut(page).map_err(|e| status::invalid(&e))?;
        let (len, max) = (answer.encoded_len(), self.gateway.limits.message_size);
        if len <= max {
            return Ok(answer);
        }
        let e = Error::new(Code::Refused, format!("the answer has {len} bytes, one message takes {max}"))
            .hint("ask for fewer targets at once");
        Err(status::refusal(Reason::TooLarge, &e))
    }
}

/// What a request says besides what is asked for.
struct How {
    /// Which part of the answer is wanted.
    page: Page,
    key: Option<OrderKey>,
}

/// What a call has asked for.
enum Asked<Q> {
    /// As it came.
    Encoded(Encoded<Q>),
    /// What it says, or what is wrong with it. It may be on its way.
    Read(Result<(Request, How), RpcStatus>),
}

impl<Q: Ask> Asked<Q> {
    fn read(self) -> Result<(Request, How), RpcStatus> {
        match self {
            Self::Encoded(request) => read(request),
            Self::Read(read) => read,
        }
    }
}

/// What a request says. To be called only after the credentials were found good.
fn read<Q: Ask>(request: Encoded<Q>) -> Result<(Request, How), RpcStatus> {
    let asked = request.decode().map_err(|_| {
        let e = Error::usage("the request cannot be decoded");
        e.hint("is it of provost.v1, and not compressed?")
    })?;
    let how = How { page: asked.page(), key: asked.key().map_err(|e| status::invalid(&e))? };
    Ok((asked.request().map_err(|e| status::invalid(&e))?, how))
}

/// Where the messages of a stream come from.
enum Source {
    /// What was kept when it was asked for.
    Kept(std::vec::IntoIter<Reply>),
    Output(OutputStream),
    Events(Feed),
    None,
}

impl Source {
    fn of(request: Request, client: &mut Client) -> Result<Self, Error> {
        Ok(match request {
            Request::Output(_) => {
                let mut replies = client.call(request)?;
                replies.retain(|reply| matches!(reply, Reply::Chunk(_)));
                Self::Kept(replies.into_iter())
            }
            Request::Definitions(_) => {
                let mut replies = client.call(request)?;
                replies.retain(|reply| matches!(reply, Reply::Definition(_) | Reply::Item(_)));
                Self::Kept(replies.into_iter())
            }
            Request::Module(ModuleCall::Batch(_)) => {
                let mut replies = client.call(request)?;
                replies.retain(|reply| matches!(reply, Reply::Module(ModuleAnswer::Outcome(_))));
                Self::Kept(replies.into_iter())
            }
            Request::Stream(r) => Self::Output(client.stream_shared(r)?),
            Request::Events(r) => Self::Events(client.events(r)?),
            _ => Self::None,
        })
    }

    /// What comes next, if it comes without a wait.
    fn next_ready(&mut self) -> Option<Result<Reply, Error>> {
        match self {
            Self::Kept(replies) => replies.next().map(Ok),
            Self::Output(stream) => stream.next_ready().map(|item| item.map(reply)),
            Self::Events(_) | Self::None => None,
        }
    }

    fn next(&mut self) -> Option<Result<Reply, Error>> {
        match self {
            Self::Kept(replies) => replies.next().map(Ok),
            Self::Output(stream) => stream.next().map(|item| item.map(reply)),
            Self::Events(feed) => feed.batch().map(|batch| batch.map(Reply::Events)),
            Self::None => None,
        }
    }
}

/// Why a call's thread has no more to say.
enum Stop {
    Gone,
    Failed(RpcStatus),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl<E: Into<RpcStatus>> From<E> for Stop {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

fn reply(item: StreamItem) -> Reply {
    match item {
        StreamItem::Chunk(chunk) => Reply::Chunk(chunk),
        StreamItem::Gap(gap) => Reply::Gap(gap),
        StreamItem::Ended(item) => Reply::Item(*item),
    }
}

fn unread() -> RpcStatus {
    let e = Error::new(Code::Refused, "earlier answers of this connection are not taken yet");
    status::refusal(Reason::Busy, &e.hint("take them first, or ask for less at once"))
}

fn expired() -> RpcStatus {
    Error::new(Code::TimedOut, "the deadline came before there was time for the call").into()
}

/// Ends a call that has not begun.
pub(super) fn fail<A: 'static>(ctx: &RpcContext<'_>, sink: ServerStreamingSink<A>, status: RpcStatus) {
    ctx.spawn(async move { drop(sink.fail(status).await) });
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use grpcio::{ChannelBuilder, RpcStatusCode, ServerBuilder};

    use super::*;
    use crate::gateway::threads::Threads;
    use crate::rpc::block;
    use crate::rpc::services::health::health_check_response::ServingStatus;
    use crate::rpc::services::health::{
        Health, HealthCheckRequest, HealthCheckResponse, HealthClient, health_service,
    };
    use crate::sys::{clock, grpc};

    const CALLS: usize = 20;

    /// Panics whenever it is asked about something.
    #[derive(Clone)]
    struct Fragile(Threads);

    impl Health for Fragile {
        fn check(
            &mut self,
            _: RpcContext<'_>,
            request: Encoded<HealthCheckRequest>,
            sink: UnarySink<HealthCheckResponse>,
        ) {
            let request = request.decode().unwrap();
            self.0.answer(sink, move || {
                assert!(request.service.is_empty(), "a defect");
                Ok(HealthCheckResponse { status: ServingStatus::Serving.into() })
            });
        }

        fn watch(
            &mut self,
            _: RpcContext<'_>,
            _: Encoded<HealthCheckRequest>,
            _: ServerStreamingSink<HealthCheckResponse>,
        ) {
        }
    }

    #[test]
    fn a15_a_panic_is_its_own_calls_failure() {
        // Never dropped: its last owner may be its own thread, which would wait for itself.
        static ENV: std::sync::OnceLock<Arc<grpcio::Environment>> = std::sync::OnceLock::new();
        let env = Arc::clone(ENV.get_or_init(|| Arc::new(grpc::environment(1).build())));
        let threads = Threads::new(CALLS);
        let mut server = ServerBuilder::new(Arc::clone(&env))
            .register_service(health_service(Fragile(threads.clone())))
            .build()
            .unwrap();
        server.start();
        let (ours, theirs) = UnixStream::pair().unwrap();
        grpc::serve(&mut server, theirs).unwrap();
        let client =
            HealthClient(grpcio::Client::new(grpc::channel(ChannelBuilder::new(env), "test", ours).unwrap()));
        let ask = |service: &str| {
            let request = HealthCheckRequest { service: service.to_owned() };
            let call = client.check(&request, grpcio::CallOption::default()).unwrap();
            block::wait(call, Some(clock::now_ms() + 20_000)).unwrap()
        };
        for _ in 0..CALLS / 2 {
            let Err(grpcio::Error::RpcFailure(status)) = ask("panic") else { panic!("it is answered") };
            assert_eq!(status.code(), RpcStatusCode::INTERNAL);
            assert_eq!(status.message(), "the gateway failed in the middle of the call");
            assert_eq!(ask("").unwrap().status, i32::from(ServingStatus::Serving));
        }
        // The threads that panicked have been counted down like the others.
        let deadline = clock::now_ms() + 20_000;
        while threads.busy() > 0 {
            assert!(clock::now_ms() < deadline, "{} threads are lost", threads.busy());
            std::thread::yield_now();
        }
    }
}
