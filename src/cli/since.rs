//! Where to begin in what is kept: behind a number, or at a time.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use crate::cli::log_lines::moment;
use crate::cli::stdout;
use crate::cli::values;
use crate::client::{Client, FeedItem};
use crate::wire::error::Error;
use crate::wire::request::Events;
use crate::wire::time::{Timestamp, millis};
use crate::wire::values::duration;

/// Where events, or lines of the audit, begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Behind the one with this number; 0: all that are kept.
    After(u64),
    /// With the first one of this time or later.
    At(Timestamp),
    /// With the next one that comes.
    Now,
}

impl Default for Begin {
    fn default() -> Self {
        Self::After(0)
    }
}

impl Begin {
    pub fn parse(option: &str, text: &str) -> Result<Self, Error> {
        let number = || text.parse().ok().map(Self::After);
        match text {
            "start" => Ok(Self::After(0)),
            "now" => Ok(Self::Now),
            _ => number().or_else(|| time(text).map(Self::At)).ok_or_else(|| {
                let how = format!("write start, now, a number, {TIME_HINT}");
                values::bad(option, text, &how)
            }),
        }
    }

    /// The number of the event behind which it is; that some are missing there is told on standard error.
    pub fn event(self, client: &mut Client) -> Result<u64, Error> {
        match self {
            Self::After(seq) => Ok(seq),
            Self::Now => last_event(client),
            Self::At(at) => {
                let mut before = 0;
                for item in client.events(Events::default())? {
                    match item? {
                        FeedItem::Event(event) if event.at >= at => {
                            // There may have been more since then.
                            if before == 0 && event.seq > 1 {
                                stdout::notice(&format!("events before {} are no longer kept", event.seq));
                            }
                            break;
                        }
                        FeedItem::Event(event) => before = event.seq,
                        FeedItem::Missed(_) => {}
                    }
                }
                Ok(before)
            }
        }
    }
}

/// The number of the last event that there is.
pub fn last_event(client: &mut Client) -> Result<u64, Error> {
    let last = client.service()?.last_event;
    if last > 0 {
        return Ok(last);
    }
    // Through a gateway it is not told.
    let mut last = 0;
    for item in client.events(Events::default())? {
        if let FeedItem::Event(event) = item? {
            last = event.seq;
        }
    }
    Ok(last)
}

/// A time as an option has it: how long ago, RFC 3339, or a date, a time of this day or both here.
pub fn when(option: &str, text: &str) -> Result<Timestamp, Error> {
    time(text).ok_or_else(|| values::bad(option, text, &format!("write {TIME_HINT}")))
}

const TIME_HINT: &str =
    "how long ago, as 10m or 1d, or a time, as 16:30, 2026-01-31, 2026-01-31T16:30 or 2026-01-31T12:00:00Z";

fn time(text: &str) -> Option<Timestamp> {
    let back = duration(text).filter(|_| text.ends_with(char::is_alphabetic) && !text.contains(':'));
    let at = back.map(|back| Timestamp(Timestamp::now().0.saturating_sub(millis(back))));
    at.or_else(|| moment(text)).or_else(|| local(text)).or_else(|| in_words(text))
}

/// `today`, `yesterday`, `2 hours ago`.
fn in_words(text: &str) -> Option<Timestamp> {
    let now = Zoned::now().with_time_zone(TimeZone::system());
    let at = match text {
        "today" => now.start_of_day().ok()?,
        "yesterday" => now.yesterday().ok()?.start_of_day().ok()?,
        _ => now.checked_sub(text.parse::<Span>().ok()?.abs()).ok()?,
    };
    u64::try_from(at.timestamp().as_millisecond()).ok().map(Timestamp)
}

/// A date, or a time of today, as the clocks here have it.
fn local(text: &str) -> Option<Timestamp> {
    let zone = TimeZone::system();
    let at = match (text.contains('-'), text.contains(':')) {
        (true, _) => text.parse::<DateTime>().ok()?,
        (false, true) => {
            let today = Zoned::now().with_time_zone(zone.clone()).date();
            today.to_datetime(text.parse::<Time>().ok()?)
        }
        (false, false) => return None,
    };
    let at = at.to_zoned(zone).ok()?.timestamp();
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_duration_back_or_a_moment() {
        let ago = when("--since", "10m").unwrap();
        assert!(Timestamp::now().0 - ago.0 >= 600_000);
        assert_eq!(when("--since", "1970-01-01T00:00:01Z"), Ok(Timestamp(1000)));
        for bad in ["tomorrow", "10", "", "25:00", "2026-02-30", "20260131", "hours ago"] {
            assert!(when("--since", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_without_a_zone_is_of_the_clocks_here() {
        let at = |text: &str| when("--since", text).unwrap();
        let here = |date: &str| date.parse::<DateTime>().unwrap().to_zoned(TimeZone::system()).unwrap();
        assert_eq!(at("2026-01-31").0, here("2026-01-31T00:00").timestamp().as_millisecond() as u64);
        assert_eq!(at("2026-01-31T16:30"), at("2026-01-31 16:30:00"));
        assert_eq!(at("2026-01-31T16:30").0 - at("2026-01-31").0, 59_400_000);
        let today = Zoned::now().date();
        assert_eq!(at("16:30"), at(&format!("{today}T16:30")));
        assert_eq!(at("today"), at(&today.to_string()));
        assert_eq!(at("yesterday"), at(&today.yesterday().unwrap().to_string()));
        assert!(at("2 hours ago").0.abs_diff(at("2h").0) < 60_000);
    }

    #[test]
    fn one_begins_behind_a_number_or_at_a_time() {
        let begin = |text| Begin::parse("--since", text);
        assert_eq!(begin("start"), Ok(Begin::After(0)));
        assert_eq!(begin("12"), Ok(Begin::After(12)));
        assert_eq!(begin("now"), Ok(Begin::Now));
        assert_eq!(begin("1970-01-01T00:00:01Z"), Ok(Begin::At(Timestamp(1000))));
        assert!(matches!(begin("1d"), Ok(Begin::At(_))));
        for bad in ["x", "-1", "", "99999999999999999999"] {
            assert!(begin(bad).unwrap_err().hint.contains("10m"), "{bad}");
        }
    }
}
