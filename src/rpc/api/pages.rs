//! Answers that come by pages: how many a client wants at once, and where the last page ended.

use prost::Message;

use crate::rpc::api::values::Invalid;
use crate::rpc::services::public as api;

/// How many there are in a page where the client does not say.
const PAGE_SIZE: usize = 1000;
/// The most of a page.
const PAGE_SIZE_MAX: usize = 5000;
/// The most bytes of a page, and what is left for the rest of the message: most clients take 4 MiB.
const PAGE_LEN_MAX: usize = 3 << 20;

/// Where a page begins, and how long it is.
pub(crate) struct Page {
    size: usize,
    token: String,
}

impl Page {
    /// All of it, for methods that have no pages.
    pub(crate) fn all() -> Self {
        Self { size: usize::MAX, token: String::new() }
    }

    pub(super) fn new(size: u32, token: &str) -> Self {
        let size = match size as usize {
            0 => PAGE_SIZE,
            size => size.min(PAGE_SIZE_MAX),
        };
        Self { size, token: token.to_owned() }
    }

    /// How many there are in it at most.
    pub(super) fn size(&self) -> u32 {
        u32::try_from(self.size).unwrap_or(u32::MAX - 1)
    }

    /// Takes this page out of everything, and says what the next one begins after.
    pub(super) fn cut<T: Message>(
        &self,
        all: &mut Vec<T>,
        begin: impl FnOnce(&str, &[T]) -> Option<usize>,
        token: impl FnOnce(usize, &T) -> String,
    ) -> Result<String, Invalid> {
        let begin = match self.token.as_str() {
            "" => 0,
            token => begin(token, all)
                .ok_or_else(|| Invalid::because("page_token", "it is not from an answer to this request"))?,
        };
        all.drain(..begin);
        let mut len = 0;
        let fitting = all.iter().take(self.size).take_while(|item| {
            len += item.encoded_len();
            len <= PAGE_LEN_MAX
        });
        // One at least, or there would be no end.
        let count = fitting.count().max(1);
        if count >= all.len() {
            return Ok(String::new());
        }
        all.truncate(count);
        Ok(token(begin + count, &all[count - 1]))
    }
}

/// An answer that is cut into pages, or is not.
pub(crate) trait Paged {
    /// Leaves what belongs to the page.
    fn cut(&mut self, _: &Page) -> Result<(), Invalid> {
        Ok(())
    }

    /// The token of the page behind this one; empty: there is none.
    fn next_page(&self) -> &str {
        ""
    }
}

/// A request for a page.
pub(crate) trait NextPage {
    /// Asks for the page of this token.
    fn begin_at(&mut self, token: String);
}

impl NextPage for api::ListRequest {
    fn begin_at(&mut self, token: String) {
        self.page_token = token;
    }
}

impl NextPage for api::StatusRequest {
    fn begin_at(&mut self, token: String) {
        self.page_token = token;
    }
}

impl Paged for api::ListResponse {
    /// The token is the id of the last process: they are in the order of their ids.
    fn cut(&mut self, page: &Page) -> Result<(), Invalid> {
        let begin = |token: &str, all: &[api::ManagedProcess]| {
            let last = token.parse::<crate::wire::id::ProcessId>().ok()?.to_string();
            Some(all.partition_point(|p| p.id <= last))
        };
        self.next_page_token = page.cut(&mut self.processes, begin, |_, last| last.id.clone())?;
        Ok(())
    }

    fn next_page(&self) -> &str {
        &self.next_page_token
    }
}

impl Paged for api::StatusResponse {
    /// The token is the number of results before the page.
    fn cut(&mut self, page: &Page) -> Result<(), Invalid> {
        let begin =
            |token: &str, all: &[api::TargetResult]| Some(token.parse::<usize>().ok()?.min(all.len()));
        self.next_page_token = page.cut(&mut self.results, begin, |next, _| next.to_string())?;
        Ok(())
    }

    fn next_page(&self) -> &str {
        &self.next_page_token
    }
}

macro_rules! whole {
    ($($answer:ident)*) => { $(impl Paged for api::$answer {})* };
}

whole! {
    StartResponse StartAgainResponse UpdateResponse DefinitionsResponse StopResponse RestartResponse
    RemoveResponse SignalResponse WaitResponse EnvironmentResponse AuditResponse ServiceInfoResponse
    HealthResponse UpgradeResponse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(count: usize, size: u32, label: usize) -> Vec<usize> {
        let process = |n: usize| api::ManagedProcess {
            id: format!("00000000-0000-7000-8000-{n:012}"),
            cause: "x".repeat(label),
            ..Default::default()
        };
        let (mut lengths, mut token, mut seen) = (Vec::new(), String::new(), Vec::new());
        loop {
            let mut answer = api::ListResponse {
                processes: (0..count).map(process).collect(),
                next_page_token: String::new(),
            };
            answer.cut(&Page::new(size, &token)).unwrap();
            lengths.push(answer.processes.len());
            seen.extend(answer.processes.into_iter().map(|p| p.id));
            token = answer.next_page_token;
            if token.is_empty() {
                let all: Vec<_> = (0..count).map(|n| process(n).id).collect();
                assert_eq!(seen, all);
                return lengths;
            }
        }
    }

    #[test]
    fn pages_hold_everything_once() {
        assert_eq!(pages(0, 0, 0), [0]);
        assert_eq!(pages(2500, 0, 0), [1000, 1000, 500]);
        assert_eq!(pages(6000, u32::MAX, 0), [5000, 1000]);
        assert_eq!(pages(3, 1, 0), [1, 1, 1]);
        assert_eq!(pages(3, 0, 2 << 20), [1, 1, 1], "each is nearly as large as a page");
        assert_eq!(pages(2, 0, 4 << 20), [1, 1], "each is larger than a page");
    }

    #[test]
    fn the_service_is_asked_for_no_more_than_the_page() {
        use crate::rpc::api::requests::Ask;
        use crate::wire::request::{List, Request};
        let asked = |page_size, page_token: &str| {
            let request = api::ListRequest { page_size, page_token: page_token.into(), ..Default::default() };
            match request.request() {
                Ok(Request::List(List { after, max, .. })) => Ok((after.map(|id| id.to_string()), max)),
                Ok(_) => panic!("it is a list"),
                Err(e) => Err(e.field),
            }
        };
        let last = "01234567-89ab-7def-8123-456789abcdef";
        assert_eq!(asked(0, ""), Ok((None, 1001)));
        assert_eq!(asked(3, last), Ok((Some(last.to_owned()), 4)));
        assert_eq!(asked(u32::MAX, last), Ok((Some(last.to_owned()), 5001)));
        assert_eq!(asked(3, "nothing of the kind"), Err("page_token".to_owned()));
    }

    #[test]
    fn a_token_from_elsewhere_is_refused() {
        let mut answer = api::ListResponse::default();
        let refused = answer.cut(&Page::new(0, "no token")).unwrap_err();
        assert_eq!(refused.field, "page_token");
        assert!(api::StatusResponse::default().cut(&Page::new(0, "-1")).is_err());
    }
}
