//! Samples of one measurement, and how they are taken.

use std::error::Error;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Of whatever can fail here. A failure is told and ends its group of measurements.
pub type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Samples of one measurement, in its unit.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a time in milliseconds.
    pub fn push_ms(&mut self, time: Duration) {
        self.push(time.as_secs_f64() * 1e3);
    }

    /// Adds the time in milliseconds that this takes.
    pub fn time<T>(&mut self, act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let begin = Instant::now();
        let result = act()?;
        self.push_ms(begin.elapsed());
        Ok(result)
    }

    /// The one in the middle: what is seen usually, whatever the worst ones were. None without samples.
    pub fn median(&self) -> Option<f64> {
        self.at_share(0.5)
    }

    /// Where the fastest tenth ends, of times: what is seen when nothing else happens on the machine.
    pub fn fastest_tenth(&self) -> Option<f64> {
        self.at_share(0.1)
    }

    /// What one of a hundred takes at least.
    pub fn p99(&self) -> Option<f64> {
        self.at_share(0.99)
    }

    fn at_share(&self, share: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() as f64 * share) as usize).copied()
    }
}

/// Lets time pass.
pub fn pass(time: Duration) {
    let _ = crossbeam_channel::never::<()>().recv_timeout(time);
}

/// Looks every 10 ms until `condition` holds.
pub fn until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Outcome<Duration> {
    let begin = Instant::now();
    while !condition() {
        if begin.elapsed() > limit {
            return Err(format!("waited {limit:?} in vain until {what}").into());
        }
        pass(Duration::from_millis(10));
    }
    Ok(begin.elapsed())
}

/// Runs a line as a script would, its output thrown away. It must succeed.
pub fn shell(line: &str) -> Outcome {
    let status = Command::new("/bin/sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err(format!("{status}: {line}").into()) }
}
