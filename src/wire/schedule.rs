//! When a process runs by itself: the times that a definition names, and which one is next. Times are of the
//! wall clock, since people mean that one.
//!
//! Fields of cron mean the clock of a time zone, which jumps twice a year. If the hours are given, a run
//! whose time is left out comes as much later (02:30 at 03:30), and one whose time comes twice runs at the
//! first. If the hour is `*`, as in `*/10 * * * *`, runs go on in even steps: none is left out, none is made
//! up for.

use std::time::Duration;

use cronexpr::{Crontab, FallbackTimezoneOption, ParseOptions};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::wire::error::Error;
use crate::wire::id::quoted;
use crate::wire::proto::{same_variants, v1};
use crate::wire::time::{DURATION_MAX, Timestamp, millis};
use crate::wire::values::duration;

/// How a schedule is written.
pub const WHEN_HINT: &str = "write five fields of cron, as \"0 3 * * *\" (minute, hour, day, month, weekday), \
                             or \"@every 10m\", @hourly, @daily, @weekly, @monthly, @yearly";
/// The longest that is read, in bytes.
const WHEN_LEN_MAX: usize = 256;
/// The shortest time between two runs.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// A clock that was set back by less than this comes to no time twice; by more, it was wrong before.
const SET_BACK_MS: u64 = 3 * 3_600_000;
/// How many times of a clock are looked at before the next one is found: those that it shows twice.
const SHOWN_TWICE_MAX: usize = 200;

/// Names for fields of cron.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// When a process runs by itself; as by default it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// As it is written.
    pub when: Option<String>,
    /// The name of the time zone that is meant; that of the service when none is given.
    pub zone: Option<String>,
    pub overlap: Overlap,
    pub missed: Missed,
    /// Each run begins up to so much later.
    pub jitter: Duration,
}

/// What becomes of a time at which the run before has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It is left out.
    #[default]
    Forbid,
    /// The run before is stopped, and another one begins.
    Replace,
}

/// What becomes of times that have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Missed {
    /// They are left out.
    #[default]
    Skip,
    /// One run makes up for them all.
    Run,
}

same_variants!(Overlap: Forbid, Replace);
same_variants!(Missed: Skip, Run);

impl Overlap {
    pub const ALL: [Self; 2] = [Self::Forbid, Self::Replace];

    /// As it is written in a definition.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forbid => "forbid",
            Self::Replace => "replace",
        }
    }
}

impl Missed {
    pub const ALL: [Self; 2] = [Self::Skip, Self::Run];

    /// As it is written in a definition.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Run => "run",
        }
    }
}

impl Schedule {
    /// Whether it has one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.when.is_some()
    }

    /// What can be said without a look at this host's time zones.
    pub(in crate::wire) fn check(&self) -> Result<(), Error> {
        let Some(when) = &self.when else {
            if *self == Self::default() {
                return Ok(());
            }
            let e = Error::usage("it is said how a schedule is kept, and not which");
            return Err(e.hint("give schedule = \"0 3 * * *\", say"));
        };
        if self.zone.as_ref().is_some_and(|zone| zone.is_empty() || zone.len() > WHEN_LEN_MAX) {
            return Err(Error::usage("the name of a time zone is empty, or too long"));
        }
        if self.jitter > DURATION_MAX {
            return Err(Error::usage("a jitter of over a year"));
        }
        let times = Times::new(when, TimeZone::UTC, Timestamp(0))?;
        if times.after(Timestamp::now()).is_none() {
            return Err(Error::usage(format!("the schedule {} never comes", quoted(when))));
        }
        Ok(())
    }

    /// Its times, of a process that is there since `from`; none: it has no schedule. An error: this host does
    /// not know the time zone.
    pub fn times(&self, from: Timestamp) -> Result<Option<Times>, Error> {
        self.when.as_ref().map(|when| Times::new(when, self.time_zone()?, from)).transpose()
    }

    fn time_zone(&self) -> Result<TimeZone, Error> {
        let Some(zone) = &self.zone else { return Ok(TimeZone::system()) };
        TimeZone::get(zone).map_err(|_| {
            Error::usage(format!("this host has no data for a time zone {}", quoted(zone)))
                .hint("write a name as Europe/Berlin or UTC; the data is in the package tzdata")
        })
    }

    /// The same with the name of the time zone that is meant, where that has one.
    #[must_use]
    pub fn with_zone(&self) -> Self {
        let system = || TimeZone::system().iana_name().map(ToOwned::to_owned);
        Self { zone: self.zone.clone().or_else(|| self.when.as_ref().and_then(|_| system())), ..self.clone() }
    }

    pub(in crate::wire) fn to_wire(&self) -> Option<v1::Schedule> {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        (*self != Self::default()).then(|| v1::Schedule {
            when: text(&self.when),
            zone: text(&self.zone),
            overlap: self.overlap.to_wire() as i32,
            missed: self.missed.to_wire() as i32,
            jitter_ms: millis(self.jitter),
        })
    }

    pub(crate) fn from_wire(w: Option<v1::Schedule>) -> Self {
        let text = |t: String| (!t.is_empty()).then_some(t);
        w.map_or_else(Self::default, |w| Self {
            when: text(w.when),
            zone: text(w.zone),
            overlap: Overlap::from_wire(w.overlap),
            missed: Missed::from_wire(w.missed),
            jitter: Duration::from_millis(w.jitter_ms),
        })
    }
}

/// The times of a schedule, without jitter.
#[derive(Clone, Debug)]
pub struct Times {
    kind: Kind,
    zone: TimeZone,
}

#[derive(Clone, Debug)]
enum Kind {
    /// From a moment on, in even steps.
    Every { ms: u64, from: Timestamp },
    /// In the time zone, in even steps through the jumps of its clock.
    EveryHour(Box<Crontab>),
    /// What the zone's clock shows, as if it were UTC.
    Clock(Box<Crontab>),
}

impl Times {
    fn new(when: &str, zone: TimeZone, from: Timestamp) -> Result<Self, Error> {
        let bad =
            |why: &str| Err(Error::usage(format!("the schedule {} {why}", quoted(when))).hint(WHEN_HINT));
        let text = when.trim();
        if text.len() > WHEN_LEN_MAX {
            return bad("is too long");
        }
        if let Some(every) = text.strip_prefix("@every ") {
            return match duration(every.trim()) {
                Some(every) if (EVERY_MIN..=DURATION_MAX).contains(&every) => {
                    Ok(Self { kind: Kind::Every { ms: millis(every), from }, zone })
                }
                Some(_) => bad("is outside of a second to a year"),
                None => bad("has no duration behind @every, as 10m"),
            };
        }
        if text == "@reboot" {
            let e = Error::usage("@reboot is no time of a clock");
            return Err(e.hint("what has a name is started with the service: leave the schedule out"));
        }
        let fields = NICKNAMES.iter().find(|(name, _)| *name == text).map_or(text, |(_, fields)| fields);
        let fields: Vec<_> = fields.split_ascii_whitespace().collect();
        let [_, hour, ..] = fields[..] else { return bad("is no schedule") };
        if fields.len() != 5 {
            return bad(&format!("has {} fields of five (a time zone stands beside it)", fields.len()));
        }
        let crontab = match as_utc(&fields.join(" ")) {
            Ok(crontab) => crontab,
            Err(e) => return bad(&why_not(&e)),
        };
        let kind = match (hour.starts_with('*'), zone.iana_name()) {
            (true, Some(name)) => {
                let in_zone = cronexpr::parse_crontab(&format!("{} {name}", fields.join(" ")));
                Kind::EveryHour(Box::new(in_zone.unwrap_or(crontab)))
            }
            (true, None) | (false, _) => Kind::Clock(Box::new(crontab)),
        };
        Ok(Self { kind, zone })
    }

    /// The first one after this moment; none: there is none in years.
    #[must_use]
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        match &self.kind {
            Kind::Every { ms, from } => {
                let since = at.0.checked_sub(from.0).map_or(0, |since| since / ms + 1);
                Some(Timestamp(from.0.saturating_add(since.max(1).saturating_mul(*ms))))
            }
            Kind::EveryHour(crontab) => of(crontab.find_next(moment(at)).ok()?.timestamp()),
            Kind::Clock(crontab) => {
                let mut shown = moment(at).to_zoned(self.zone.clone()).datetime();
                for _ in 0..SHOWN_TWICE_MAX {
                    shown = next_shown(crontab, shown)?;
                    // What the clock leaves out comes later, of what it shows twice the first one counts.
                    let next = of(self.zone.to_ambiguous_zoned(shown).compatible().ok()?.timestamp())?;
                    if next > at {
                        return Some(next);
                    }
                }
                None
            }
        }
    }

    /// The next one of a process whose last one was `last`. A clock that was set back a little does not come
    /// to a time twice; one that was set back by far was wrong before.
    #[must_use]
    pub fn next(&self, last: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let slack = match &self.kind {
            Kind::Every { ms, .. } => *ms,
            Kind::EveryHour(_) | Kind::Clock(_) => SET_BACK_MS,
        };
        let last = last.filter(|last| *last > now && last.0 - now.0 <= slack);
        self.after(last.unwrap_or(now))
    }

    /// As a clock in its zone shows it.
    #[must_use]
    pub fn shown(&self, at: Timestamp) -> String {
        moment(at).to_zoned(self.zone.clone()).strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string()
    }
}

fn moment(at: Timestamp) -> jiff::Timestamp {
    let ms = i64::try_from(at.0).ok();
    ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or(jiff::Timestamp::MAX)
}

fn of(at: jiff::Timestamp) -> Option<Timestamp> {
    u64::try_from(at.as_millisecond()).ok().map(Timestamp)
}

fn next_shown(crontab: &Crontab, shown: DateTime) -> Option<DateTime> {
    let as_utc = shown.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(crontab.find_next(as_utc).ok()?.datetime())
}

/// Fields of cron by the clock of UTC. By the name of that zone it would take data that minimal hosts do not
/// have, and the gateway does not read.
fn as_utc(fields: &str) -> Result<Crontab, cronexpr::Error> {
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    cronexpr::parse_crontab_with(fields, options)
}

/// What is wrong with fields, without the drawing of where.
fn why_not(e: &cronexpr::Error) -> String {
    let text = e.to_string();
    let why = text.lines().last().unwrap_or_default().trim_start().trim_start_matches("^ ");
    format!("cannot be read: {why}")
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
