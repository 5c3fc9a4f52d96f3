//! Events as documents of an OpenSearch index, by its bulk API. Blocking calls of the sink's own thread, each
//! with a deadline; an answer is read up to a limit, and nothing is followed to another place.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
#[cfg(feature = "gateway")]
use std::{fs, sync::Arc};

use ureq::config::Config;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use ureq::http::uri::Scheme;
use ureq::http::{HeaderMap, HeaderValue, StatusCode, Uri};
#[cfg(feature = "gateway")]
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body};
use uuid::Uuid;

use crate::engine::history::sinks::bulk;
use crate::engine::history::sinks::deliver::{Deliver, Delivery, Failed};
use crate::engine::settings::{Login, OpenSearchSettings};
use crate::sys::{clock, lookup};
use crate::wire::event::Event;
use crate::wire::id::quoted;
use crate::wire::json::base64;
use crate::wire::time::millis;

/// Until there is a connection; the whole request may take longer.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The largest answer to a request that was taken in.
const ANSWER_LEN_MAX: u64 = 8 << 20;
/// How much is read of one that says what is wrong.
const REFUSAL_LEN_MAX: u64 = 4096;
/// How often an event that is alone in its request may be too large before it counts as refused for ever: a
/// proxy may have said so, which is mended a few seconds later.
const TOO_LARGE_MAX: u32 = 5;
/// After so many requests in a row that were taken in, larger ones are tried again.
const GROW_AFTER: u32 = 16;
/// The most addresses of a name that are tried: as many as the library takes.
const ADDRESSES_MAX: usize = 16;
/// For each direction of a connection.
const BUFFER_LEN: usize = 16 << 10;

/// An index of OpenSearch.
#[derive(Debug)]
pub struct OpenSearch {
    settings: OpenSearchSettings,
    service: Uuid,
    agent: Agent,
    authorization: Option<HeaderValue>,
    /// The most documents in a request: less than is set where the other side found that too much.
    batch: usize,
    /// Requests in a row that were taken in since one was too large.
    taken_in: u32,
    /// How often in a row the first event, alone, was too large.
    too_large: u32,
}

/// Why a request was of no use.
enum Refusal {
    /// It, or its answer, is too large.
    TooLarge(String),
    Other(Failed),
}

impl From<Failed> for Refusal {
    fn from(failed: Failed) -> Self {
        Self::Other(failed)
    }
}

impl OpenSearch {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(settings: OpenSearchSettings, service: Uuid) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(settings.timeout))
            .timeout_connect(Some(settings.timeout.min(CONNECT_MAX)))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Else one from the environment would be taken.
            .proxy(None)
            .user_agent(concat!("provost/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(1)
            .max_idle_connections_per_host(1)
            .input_buffer_size(BUFFER_LEN)
            .output_buffer_size(BUFFER_LEN)
            .max_response_header_size(BUFFER_LEN);
        #[cfg(feature = "gateway")]
        let config = config.tls_config(tls(settings.ca.as_deref()));
        let config = config.build();
        Self {
            service,
            agent: Agent::with_parts(config, DefaultConnector::default(), ByName),
            authorization: settings.login.as_ref().map(basic),
            batch: settings.batch,
            taken_in: 0,
            too_large: 0,
            settings,
        }
    }

    fn post(&self, body: &[u8], events: &[Event]) -> Result<Delivery, Refusal> {
        let url = format!("{}/_bulk", self.settings.url);
        let mut request = self.agent.post(&url).header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut answer = request.send(body).map_err(|e| self.failed(&reason(&e)))?;
        let status = answer.status();
        if !status.is_success() {
            let why = excerpt(answer.body_mut());
            return Err(self.refusal(status, answer.headers(), &why));
        }
        match answer.body_mut().with_config().limit(ANSWER_LEN_MAX).read_to_vec() {
            Ok(bytes) => {
                Ok(bulk::outcome(&bytes, events, self.service).map_err(|e| self.failed(&e.message))?)
            }
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                Err(Refusal::TooLarge(format!("the answer is larger than {ANSWER_LEN_MAX} bytes")))
            }
            Err(e) => Err(self.failed(&reason(&e)).into()),
        }
    }

    fn refusal(&self, status: StatusCode, headers: &HeaderMap, why: &str) -> Refusal {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let more = match status {
            StatusCode::PAYLOAD_TOO_LARGE => return Refusal::TooLarge(format!("HTTP {status}")),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                ": look at username, password_file, and what that user may do".to_owned()
            }
            _ if status.is_redirection() => {
                format!(
                    ": it points to {}, where we do not follow",
                    quoted(header(LOCATION).unwrap_or("nowhere"))
                )
            }
            _ if why.is_empty() => String::new(),
            _ => format!(": {why}"),
        };
        // A date instead of seconds is not looked at: our own delay grows too.
        let after = header(RETRY_AFTER).and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        Failed { after, ..self.failed(&format!("HTTP {status}{more}")) }.into()
    }

    /// What was too large once need not be so for ever.
    fn took_in(&mut self) {
        (self.too_large, self.taken_in) = (0, self.taken_in + 1);
        if self.taken_in >= GROW_AFTER && self.batch < self.settings.batch {
            (self.batch, self.taken_in) = (self.settings.batch.min(self.batch * 2), 0);
        }
    }

    fn failed(&self, why: &str) -> Failed {
        Failed::new(format!("cannot deliver to {}: {why}", self.settings.url))
    }
}

impl Deliver for OpenSearch {
    fn batch_max(&self) -> usize {
        self.settings.batch
    }

    fn resume(&mut self) -> Result<Option<u64>, Failed> {
        // To send again does no harm, so it need not be asked.
        Ok(None)
    }

    fn deliver(&mut self, events: &[Event]) -> Result<Delivery, Failed> {
        loop {
            let some = &events[..events.len().min(self.batch)];
            let (body, count) = bulk::request(some, &self.settings.index, self.service);
            match self.post(&body, &some[..count]) {
                Ok(taken) => {
                    self.took_in();
                    return Ok(taken);
                }
                Err(Refusal::Other(failed)) => return Err(failed),
                // Ends: a half of it is less.
                Err(Refusal::TooLarge(_)) if count > 1 => (self.batch, self.taken_in) = (count / 2, 0),
                Err(Refusal::TooLarge(why)) => {
                    self.too_large += 1;
                    if self.too_large < TOO_LARGE_MAX {
                        return Err(self.failed(&why));
                    }
                    self.too_large = 0;
                    return Ok(Delivery { count, rejected: 1, reason: Some(why), again: None });
                }
            }
        }
    }
}

/// Where systems keep the certificates that they trust.
#[cfg(feature = "gateway")]
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Names are looked up as all that this program connects to.
#[derive(Debug)]
struct ByName;

impl Resolver for ByName {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let name = uri.host().ok_or(ureq::Error::HostNotFound)?.trim_matches(['[', ']']);
        let port = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(port);
        let deadline_ms = clock::now_ms().saturating_add(millis(*timeout.after));
        let found = lookup::addresses(name, deadline_ms).map_err(io::Error::other)?;
        let mut all = self.empty();
        found.into_iter().take(ADDRESSES_MAX).for_each(|ip| all.push(SocketAddr::new(ip, port)));
        Ok(all)
    }
}

/// Without a `ca_file`, what the machine trusts is trusted; without any of these files, no certificate is.
#[cfg(feature = "gateway")]
fn tls(ca: Option<&[u8]>) -> TlsConfig {
    let system;
    let pem = match ca {
        Some(pem) => pem,
        None => {
            system = SYSTEM_ROOTS.iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
            &system
        }
    };
    let certificates: Vec<Certificate<'static>> = parse_pem(pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build()
}

fn basic(login: &Login) -> HeaderValue {
    let pair = format!("{}:{}", login.username, login.password.reveal());
    let text = format!("Basic {}", base64(pair.as_bytes()));
    let mut value = HeaderValue::try_from(text).expect("base 64 can stand in a header");
    value.set_sensitive(true);
    value
}

/// Why a request came to nothing.
fn reason(e: &ureq::Error) -> String {
    match e {
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::Io(e) => e.to_string(),
        e => e.to_string(),
    }
}

/// The beginning of what a refusal says, on one line.
fn excerpt(body: &mut Body) -> String {
    let mut bytes = Vec::new();
    // What cannot be read is not missed: the status says the most.
    let _ =
        std::io::Read::read_to_end(&mut std::io::Read::take(body.as_reader(), REFUSAL_LEN_MAX), &mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let reason: Vec<&str> = text.split_whitespace().collect();
    reason.join(" ").chars().take(200).collect()
}
