//! What the engine writes for the registry: who wanted which change, and the entries that were registered
//! while the service runs, which so outlive the machine. A registration is one write: its line of the audit
//! and its document. It is sent before the provider is met, and its answer awaited after.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use parking_lot::Mutex;

use crate::client::Client;
use crate::wire::audit::{AuditLine, Note, fit};
use crate::wire::entry_document::EntryDocument;
use crate::wire::envelope::Behalf;
use crate::wire::error::{Code, Error};
use crate::wire::keep::{CONTENT_LEN_MAX, Document, Keep};
use crate::wire::provider::ProviderName;
use crate::wire::role::Role;
use crate::wire::time::Timestamp;

/// What documents of entries are called.
const KIND: &str = "provider";
/// The most connections that are kept for the next change.
const FREE_MAX: usize = 1;

/// The way to the engine. Any thread may ask.
#[derive(Debug)]
pub struct Records {
    socket: PathBuf,
    free: Mutex<Vec<Client>>,
    /// There is no database of ours behind it.
    is_off: Mutex<bool>,
}

/// A change that is under way.
pub struct Begun {
    client: Client,
    /// What was sent last; its answer is not awaited yet.
    keep: Keep,
    /// What goes if it fails.
    document: Option<Document>,
}

impl Begun {
    /// Waits until what was sent is written; what came of it is to be sent next.
    fn next(&mut self, error: Option<&Error>) -> Option<()> {
        let seq = self.client.keep(self.keep.clone()).ok()?;
        self.keep.document = self.document.take_if(|_| error.is_some());
        if let Some(line) = &mut self.keep.line {
            (line.seq, line.result) = (seq, Some(fit(&result(error))));
        }
        Some(())
    }
}

impl Records {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, free: Mutex::default(), is_off: Mutex::new(false) }
    }

    /// Puts a line into the audit that is written when this returns. Without the service there is no audit to
    /// put it into.
    pub fn note(&self, who: &str, what: &str, result: &str) {
        let Some(mut client) = self.client() else { return };
        client.on_behalf_of(Some(Behalf { who: who.to_owned(), role: Role::Viewer }));
        let noted = client.note(Note { what: fit(what), result: fit(result) });
        client.on_behalf_of(None);
        if noted.is_ok() {
            self.give_back(client);
        }
    }

    /// Sends that this is to be done, and what is kept of it. [`Records::end`] says how it went.
    pub fn begin(&self, who: &str, what: &str, document: Option<Document>) -> Option<Begun> {
        let mut client = self.client()?;
        let (who, what) = (fit(who), fit(what));
        let line = AuditLine { seq: 0, at: Timestamp::now(), who, what, result: None };
        let gone =
            document.as_ref().map(|d| Document { kind: d.kind.clone(), key: d.key.clone(), content: None });
        let keep = Keep { line: Some(line), document };
        client.keep_ahead(&keep);
        Some(Begun { client, keep, document: gone })
    }

    /// Waits until both are written, and sends that it went well: the caller has something to do until that
    /// is on record, too, and then calls [`Records::end`].
    pub fn succeeded(&self, begun: Option<Begun>) -> Option<Begun> {
        let mut begun = begun?;
        begun.next(None)?;
        begun.client.keep_ahead(&begun.keep);
        Some(begun)
    }

    /// Waits until all that was sent is written, and says what came of it. What failed is kept no more.
    pub fn end(&self, begun: Option<Begun>, error: Option<&Error>) {
        let Some(mut begun) = begun else { return };
        let is_told = error.is_none() && begun.keep.line.as_ref().is_some_and(|line| line.result.is_some());
        if begun.next(error).is_some() && (is_told || begun.client.keep(begun.keep).is_ok()) {
            self.give_back(begun.client);
        }
    }

    /// Has a document kept, or go: with the next line that is written, or soon.
    pub fn put(&self, document: Document) {
        if *self.is_off.lock() {
            return;
        }
        let Some(mut client) = self.client() else { return };
        if client.keep(Keep { line: None, document: Some(document) }).is_ok() {
            self.give_back(client);
        }
    }

    /// Takes an entry's document away.
    pub fn forget(&self, name: &ProviderName) {
        self.put(Document { kind: KIND.to_owned(), key: key(name), content: None });
    }

    /// All entries that are kept, with the digests of their documents; and what cannot be read.
    pub fn all(&self) -> (Vec<(ProviderName, EntryDocument, u64)>, Vec<String>) {
        let documents =
            self.client().ok_or_else(|| "the service does not answer".to_owned()).and_then(|mut client| {
                let documents = client.documents(KIND);
                // Who is not the host of this service has nothing kept there.
                *self.is_off.lock() = documents.as_ref().is_err_and(|e| e.code == Code::Refused);
                documents.map_err(|e| e.message)
            });
        let documents = match documents {
            Ok(documents) => documents,
            Err(_) if *self.is_off.lock() => return (Vec::new(), Vec::new()),
            Err(why) => return (Vec::new(), vec![why]),
        };
        let (mut entries, mut bad) = (Vec::new(), Vec::new());
        for document in documents {
            let content = document.content.unwrap_or_default();
            let name =
                document.key.split_once('.').and_then(|(set, alias)| ProviderName::new(set, alias).ok());
            match (name, EntryDocument::decode(&content)) {
                (Some(name), Ok(entry)) => entries.push((name, entry, digest(&content))),
                (_, Err(e)) => bad.push(format!("{}: {}", document.key, e.message)),
                (None, _) => bad.push(format!("{}: it is no name", document.key)),
            }
        }
        (entries, bad)
    }

    fn client(&self) -> Option<Client> {
        let free = self.free.lock().pop();
        free.or_else(|| Client::connect(&self.socket).ok())
    }

    fn give_back(&self, client: Client) {
        let mut free = self.free.lock();
        if free.len() < FREE_MAX {
            free.push(client);
        }
    }
}

/// The document of an entry, and its digest; none: it is too large to be kept.
pub fn document(name: &ProviderName, entry: &EntryDocument) -> Option<(Document, u64)> {
    let content = entry.encode();
    let digest = digest(&content);
    let is_small = content.len() <= CONTENT_LEN_MAX;
    is_small.then(|| (Document { kind: KIND.to_owned(), key: key(name), content: Some(content) }, digest))
}

/// What came of a change, as the audit says it.
pub fn result(error: Option<&Error>) -> String {
    error.map_or_else(|| "done".to_owned(), |e| format!("failed: {}", e.message))
}

fn key(name: &ProviderName) -> String {
    format!("{}.{}", name.set(), name.alias())
}

fn digest(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}
