//! The table: a row for each comparison, and what was wanted of it.

use std::fmt::{self, Display, Formatter};

use crate::measure::Taken;

/// What was wanted of ours beside theirs.
#[derive(Clone, Copy)]
pub enum Wanted {
    Nothing,
    /// Ours takes at most one so-manieth of theirs.
    Below(f64),
    /// Ours takes at most so many times theirs.
    AtMost(f64),
    /// Ours does so many times as many.
    Times(f64),
    /// Ours is at most so much, whatever theirs is.
    Within(f64),
}

#[derive(Clone, Copy, PartialEq)]
pub enum Unit {
    Microseconds,
    Milliseconds,
    PerSecond,
    Megabytes,
    Kilobytes,
    /// So many of what was acknowledged are not there.
    Lost,
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Microseconds => "µs, p50",
            Unit::Milliseconds => "ms, p50",
            Unit::PerSecond => "per second",
            Unit::Megabytes => "MB",
            Unit::Kilobytes => "KB",
            Unit::Lost => "lost",
        }
    }
}

/// Rounds that lie further apart are marked.
const SPREAD_MAX: f64 = 1.5;

struct Row {
    case: String,
    beside: String,
    ours: Taken,
    theirs: Taken,
    unit: Unit,
    wanted: Wanted,
}

#[derive(Default)]
pub struct Table {
    sections: Vec<(String, Vec<Row>)>,
}

impl Table {
    /// The rows that follow are under this title.
    pub fn section(&mut self, title: &str) {
        eprintln!("== {title}");
        self.sections.push((title.to_owned(), Vec::new()));
    }

    /// A median of one at a time, microseconds.
    pub fn p50(&mut self, case: &str, beside: &str, both: [Taken; 2], wanted: Wanted) {
        self.add(case, beside, both, Unit::Microseconds, wanted);
    }

    /// A rate.
    pub fn rate(&mut self, case: &str, beside: &str, both: [Taken; 2], wanted: Wanted) {
        self.add(case, beside, both, Unit::PerSecond, wanted);
    }

    /// Anything else.
    pub fn add(&mut self, case: &str, beside: &str, [ours, theirs]: [Taken; 2], unit: Unit, wanted: Wanted) {
        let row = Row {
            case: case.to_owned(),
            beside: beside.to_owned(),
            ours,
            theirs,
            unit,
            wanted,
        };
        eprintln!("{row}");
        self.sections.last_mut().unwrap().1.push(row);
    }
}

impl Row {
    /// How many times better ours is.
    fn times(&self) -> f64 {
        match self.unit {
            Unit::PerSecond => self.ours.figure / self.theirs.figure,
            _ => self.theirs.figure / self.ours.figure,
        }
    }

    fn is_missed(&self) -> bool {
        match self.wanted {
            Wanted::Nothing => false,
            Wanted::Below(times) | Wanted::Times(times) => self.times() < times,
            Wanted::AtMost(most) => self.ours.figure / self.theirs.figure > most,
            Wanted::Within(most) => self.ours.figure > most,
        }
    }
}

impl Display for Row {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = self.unit.name();
        let wanted = match self.wanted {
            Wanted::Nothing => String::new(),
            Wanted::Below(times) => format!("{times}x less"),
            Wanted::AtMost(most) => format!("{most}x of it at most"),
            Wanted::Times(times) => format!("{times}x"),
            Wanted::Within(most) => format!("{most} {} at most", unit.split(',').next().unwrap_or(unit)),
        };
        let missed = if self.is_missed() { " **missed**" } else { "" };
        write!(
            f,
            "| {} | {} | {} | {} | {unit} | {} | {wanted}{missed} |",
            self.case,
            self.beside,
            Cell(self.ours),
            Cell(self.theirs),
            Times {
                times: self.times(),
                is_rate: self.unit == Unit::PerSecond
            },
        )
    }
}

/// What was taken, with a mark where its rounds disagree, and the CPU time of one.
struct Cell(Taken);

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mark = if self.0.spread > SPREAD_MAX { "~" } else { "" };
        write!(f, "{mark}{}", Figure(self.0.figure))?;
        match self.0.cpu_us {
            Some(cpu_us) => write!(f, " ({} µs)", Figure(cpu_us)),
            None => Ok(()),
        }
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (title, rows) in &self.sections {
            writeln!(f, "\n## {title}\n")?;
            writeln!(f, "| case | beside | ours | theirs | | ours is | wanted |")?;
            writeln!(f, "|---|---|--:|--:|---|--:|---|")?;
            for row in rows {
                writeln!(f, "{row}")?;
            }
        }
        Ok(())
    }
}

/// A number with three digits that say something.
struct Figure(f64);

impl Display for Figure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            0.0 => write!(f, "0"),
            n if n < 1.0 => write!(f, "{n:.3}"),
            n if n < 10.0 => write!(f, "{n:.2}"),
            n if n < 100.0 => write!(f, "{n:.1}"),
            n if n < 10_000.0 => write!(f, "{n:.0}"),
            n => write!(f, "{:.0} k", n / 1_000.0),
        }
    }
}

/// How many times better or worse, in words.
struct Times {
    times: f64,
    is_rate: bool,
}

impl Display for Times {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (better, worse) = if self.is_rate {
            ("", "")
        } else {
            (" less", " more")
        };
        match self.times {
            // One of them is nothing.
            times if times == 0.0 || !times.is_finite() => Ok(()),
            times if times >= 1.0 => write!(f, "{}x{better}", Figure(times)),
            times if self.is_rate => write!(f, "{}x{worse}", Figure(times)),
            times => write!(f, "{}x{worse}", Figure(1.0 / times)),
        }
    }
}
