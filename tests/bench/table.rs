//! The table: a row for each measurement, a column for everybody who was measured, and the goal where there
//! is one.

use crate::rivals::{KINDS, Kind};

/// What a figure is to be.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At most so many times what the bare machine takes.
    BareTimes(f64),
    /// At least this share of what the bare machine does.
    BareShare(f64),
    /// At most so many times what this rival takes.
    RivalTimes(Kind, f64),
    /// At least so many times what the best of the rivals does.
    BestRivalShare(f64),
    /// At most this.
    Value(f64),
}

/// One measurement: medians, all in the same unit.
#[derive(Clone, Debug)]
struct Row {
    what: String,
    unit: &'static str,
    ours: Option<f64>,
    bare: Option<f64>,
    rivals: [Option<f64>; KINDS.len()],
    goal: Option<Goal>,
}

/// All rows so far.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    printed: usize,
}

/// A row while it is filled in.
pub struct Draft<'a> {
    table: &'a mut Table,
    row: Row,
}

impl Draft<'_> {
    pub fn ours(mut self, value: Option<f64>) -> Self {
        self.row.ours = value;
        self
    }

    pub fn bare(mut self, value: Option<f64>) -> Self {
        self.row.bare = value;
        self
    }

    pub fn rival(mut self, kind: Kind, value: Option<f64>) -> Self {
        self.row.rivals[kind as usize] = value;
        self
    }

    pub fn goal(mut self, goal: Goal) -> Self {
        self.row.goal = Some(goal);
        self
    }

    pub fn done(self) {
        self.table.rows.push(self.row);
    }
}

impl Table {
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a row.
    pub fn row(&mut self, what: impl Into<String>, unit: &'static str) -> Draft<'_> {
        let row =
            Row { what: what.into(), unit, ours: None, bare: None, rivals: [None; KINDS.len()], goal: None };
        Draft { table: self, row }
    }

    /// Prints the rows that came since the last time, under a heading.
    pub fn print_new(&mut self, group: &str) {
        let new = &self.rows[self.printed..];
        if !new.is_empty() {
            let rivals = KINDS.map(|kind| format!(" {:>11}", kind.name())).concat();
            println!("{group:<44} {:>6} {:>9} {:>9} {:>7}{rivals}   goal", "", "provost", "bare", "ratio");
            new.iter().for_each(|row| println!("{}", row.line()));
            println!();
        }
        self.printed = self.rows.len();
    }

    /// How many goals were reached, and which were not.
    pub fn summary(&self) -> String {
        let judged: Vec<(&Row, bool)> =
            self.rows.iter().filter_map(|row| Some((row, row.goal_result()?.reached))).collect();
        let reached = judged.iter().filter(|(_, reached)| *reached).count();
        let missed: Vec<&str> =
            judged.iter().filter(|(_, reached)| !reached).map(|(row, _)| row.what.as_str()).collect();
        let all = judged.len();
        if missed.is_empty() {
            format!("goals: all {all} reached")
        } else {
            format!("goals: {reached} of {all} reached; not: {}", missed.join(", "))
        }
    }
}

struct GoalResult {
    reached: bool,
    text: String,
}

impl Row {
    fn line(&self) -> String {
        let ratio = self.ours.zip(self.bare).map_or_else(|| "-".to_owned(), |(o, b)| format!("{:.2}", o / b));
        let rivals = self.rivals.map(|value| format!(" {:>11}", number(value))).concat();
        let goal = self.goal_result().map(|v| format!("   {}", v.text)).unwrap_or_default();
        format!(
            "{:<44} {:>6} {:>9} {:>9} {ratio:>7}{rivals}{goal}",
            self.what,
            self.unit,
            number(self.ours),
            number(self.bare)
        )
    }

    /// None without a goal, or without the figures that it needs.
    fn goal_result(&self) -> Option<GoalResult> {
        let ours = self.ours?;
        let (figure, limit, text) = match self.goal? {
            Goal::BareTimes(limit) => (ours / self.bare?, limit, format!("<= {limit} x bare")),
            Goal::BareShare(limit) => (self.bare? / ours, 1.0 / limit, format!(">= {limit} x bare")),
            Goal::RivalTimes(kind, limit) => {
                let ratio = ours / self.rivals[kind as usize]?;
                (ratio, limit, format!("<= {limit} x {}: {ratio:.2}", kind.name()))
            }
            Goal::BestRivalShare(limit) => {
                let best = self.rivals.into_iter().flatten().reduce(f64::max)?;
                (best / ours, 1.0 / limit, format!(">= {limit} x the best rival: {:.2}", ours / best))
            }
            Goal::Value(limit) => (ours, limit, format!("<= {}", number(Some(limit)))),
        };
        let reached = figure <= limit;
        Some(GoalResult { reached, text: if reached { text } else { format!("{text}  MISSED") } })
    }
}

/// Three digits that matter, and none that do not.
fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(v) if v < 1.0 => format!("{v:.3}"),
        Some(v) if v < 10.0 => format!("{v:.2}"),
        Some(v) if v < 100.0 => format!("{v:.1}"),
        Some(v) => format!("{v:.0}"),
    }
}
