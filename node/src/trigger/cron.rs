//! Cron expressions, as crontab(5) and POSIX have them, in UTC.
//!
//! Of our own: the libraries for it bring a calendar and macro crates with them that nothing else here needs, or count weekdays
//! otherwise. Days are counted as in H. Hinnant, "chrono-compatible low-level date algorithms".

use std::fmt;
use std::str::FromStr;

const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: u64 = 24 * 60;
const DAY_MS: u64 = DAY_MINUTES * MINUTE_MS;
/// From one to the next there are at most so many days: from one 29th of February that is no Monday, say, to one that is, across
/// a year 2100 that has none.
const DAYS_MAX: u64 = 366 * 41;

/// When something happens: minute, hour, day of month, month, day of week.
///
/// Each is `*`, a number, a range `a-b`, either with a step `/n`, or a list of these. Months and weekdays may be named by three
/// letters; 0 and 7 are Sunday. Where both kinds of day are given, either will do. `@hourly`, `@daily`, `@weekly`, `@monthly` and
/// `@yearly` are short for what they say.
///
/// ```
/// use anabranch::Cron;
///
/// let cron: Cron = "30 3 * * mon-fri".parse()?;
/// // From Thursday, 1 January 1970: 3:30 the same day.
/// assert_eq!(cron.after(0), Some((3 * 60 + 30) * 60_000));
/// # Ok::<(), anabranch::CronError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether a day must be both, because one of them is `*`.
    both_days: bool,
}

/// It is no cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no cron expression: {why}")]
pub struct CronError {
    text: String,
    why: String,
}

/// What one field may hold.
struct Field {
    name: &'static str,
    min: u64,
    max: u64,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const fn field(name: &'static str, min: u64, max: u64, names: &'static [&'static str]) -> Field {
    Field {
        name,
        min,
        max,
        names,
    }
}

const FIELDS: [Field; 5] = [
    field("minute", 0, 59, &[]),
    field("hour", 0, 23, &[]),
    field("day of month", 1, 31, &[]),
    field("month", 1, 12, &MONTHS),
    field("day of week", 0, 7, &WEEKDAYS),
];

impl Cron {
    /// The first time after this one, both in milliseconds since 1970; none where there never is one.
    pub fn after(&self, ms: u64) -> Option<u64> {
        let from = ms / MINUTE_MS + 1;
        let (first, least) = (from / DAY_MINUTES, from % DAY_MINUTES);
        (first..first + DAYS_MAX).find_map(|day| {
            let least = if day == first { least } else { 0 };
            let minute = self.minutes_of(day).find(|minute| *minute >= least)?;
            // Beyond the end of time there is none.
            let at = day.checked_mul(DAY_MS)?.checked_add(minute * MINUTE_MS)?;
            Some(at)
        })
    }

    /// The last time until this one, this one among them; none where there was none.
    pub fn until(&self, ms: u64) -> Option<u64> {
        let last = ms / DAY_MS;
        (last.saturating_sub(DAYS_MAX)..=last).rev().find_map(|day| {
            let most = if day == last {
                ms % DAY_MS / MINUTE_MS
            } else {
                u64::MAX
            };
            let minutes = self.minutes_of(day).take_while(|minute| *minute <= most);
            minutes.last().map(|minute| time(day, minute))
        })
    }

    /// The minutes of a day at which it is, counted from its beginning.
    fn minutes_of(&self, day: u64) -> impl Iterator<Item = u64> {
        let is_day = self.is_day(day);
        let hours = (0..24).filter(move |hour| is_day && has(self.hours, *hour));
        hours.flat_map(|hour| {
            let minutes = (0..60).filter(|minute| has(self.minutes, *minute));
            minutes.map(move |minute| hour * 60 + minute)
        })
    }

    fn is_day(&self, day: u64) -> bool {
        let (_, month, of_month) = date(day);
        // The first day of 1970 was a Thursday.
        let (by_month, by_week) = (has(self.days, of_month), has(self.weekdays, (day + 4) % 7));
        let is_day = if self.both_days {
            by_month && by_week
        } else {
            by_month || by_week
        };
        is_day && has(self.months, month)
    }
}

fn time(day: u64, minute: u64) -> u64 {
    day * DAY_MS + minute * MINUTE_MS
}

fn has(bits: u64, n: u64) -> bool {
    bits >> n & 1 == 1
}

/// Year, month and day of a day since 1970.
fn date(day: u64) -> (u64, u64, u64) {
    // Eras of 400 years, of years that begin on a 1 March.
    let (era, day) = ((day + 719_468) / 146_097, (day + 719_468) % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    (era * 400 + year + u64::from(month <= 2), month, of_month)
}

/// A time in milliseconds since 1970, as RFC 3339 has it, without what is less than a second.
#[cfg(feature = "daemon")]
pub(crate) fn utc(ms: u64) -> String {
    let (year, month, day) = date(ms / DAY_MS);
    let second = ms % DAY_MS / 1_000;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Cron, CronError> {
        let fail = |why: String| CronError {
            text: text.chars().take(80).collect(),
            why,
        };
        let spelled = match text.trim() {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            spelled => spelled,
        };
        let fields: Vec<&str> = spelled.split_ascii_whitespace().collect();
        let Ok::<[&str; 5], _>(fields) = fields.try_into() else {
            let why = "it has five fields: minute, hour, day of month, month, day of week";
            return Err(fail(why.into()));
        };
        let mut bits = [0; 5];
        for ((bits, field), text) in bits.iter_mut().zip(&FIELDS).zip(fields) {
            *bits = field.read(text).map_err(fail)?;
        }
        let [minutes, hours, days, months, weekdays] = bits;
        let cron = Cron {
            text: text.trim().to_owned(),
            minutes,
            hours,
            days,
            months,
            // 7 is Sunday, too.
            weekdays: weekdays & 0x7f | weekdays >> 7,
            both_days: fields[2].starts_with('*') || fields[4].starts_with('*'),
        };
        match cron.after(0) {
            Some(_) => Ok(cron),
            None => Err(fail("there is no such day".into())),
        }
    }
}

impl Field {
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',')
            .try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step: usize = step.parse().unwrap_or(0);
                if step == 0 {
                    return Err(format!("the step of {} {part:?} is a number above 0", self.name));
                }
                (range, Some(step))
            }
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            Some((from, to)) => (self.number(from)?, self.number(to)?),
            // With a step it goes on to the end.
            None => {
                let from = self.number(range)?;
                (from, if step.is_some() { self.max } else { from })
            }
        };
        if from > to {
            return Err(format!("{} {part:?} ends before it begins", self.name));
        }
        Ok((from..=to)
            .step_by(step.unwrap_or(1))
            .fold(0, |bits, n| bits | 1 << n))
    }

    fn number(&self, text: &str) -> Result<u64, String> {
        let named = self.names.iter().position(|name| text.eq_ignore_ascii_case(name));
        let number = match named {
            // Months are counted from 1, weekdays from 0.
            Some(at) => Some(at as u64 + self.min),
            None => text
                .parse()
                .ok()
                .filter(|_| text.bytes().all(|b| b.is_ascii_digit())),
        };
        let is_in = |n: &u64| (self.min..=self.max).contains(n);
        number.filter(is_in).ok_or_else(|| {
            format!(
                "{} {text:?} is no number from {} to {}",
                self.name, self.min, self.max
            )
        })
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Milliseconds at a time of a day.
    fn at(year: u64, month: u64, day: u64, hour: u64, minute: u64) -> u64 {
        let first = (year - 1970) * 365;
        let day = (first..first + 400).find(|at| date(*at) == (year, month, day));
        time(day.unwrap(), hour * 60 + minute)
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (day, is) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (364, (1970, 12, 31)),
            // 2000 had a 29th of February, 2100 has none.
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(day), is);
        }
        #[cfg(feature = "daemon")]
        assert_eq!(utc(11_016 * DAY_MS + 86_399_999), "2000-02-29T23:59:59Z");
    }

    #[test]
    fn what_cron_says_is_when_it_happens() {
        let now = at(2026, 11, 29, 6, 30); // a Sunday
        for (cron, next) in [
            ("* * * * *", at(2026, 11, 29, 6, 31)),
            ("30 6 * * *", at(2026, 11, 30, 6, 30)),
            ("*/15 * * * *", at(2026, 11, 29, 6, 45)),
            ("5/20 * * * *", at(2026, 11, 29, 6, 45)),
            ("0 9-17/4 * * *", at(2026, 11, 29, 9, 0)),
            ("0 0 1,15 * *", at(2026, 12, 1, 0, 0)),
            ("0 0 * * 1", at(2026, 11, 30, 0, 0)),
            ("0 0 * * 7", at(2026, 12, 6, 0, 0)),
            ("0 0 * * sun", at(2026, 12, 6, 0, 0)),
            ("0 12 * FEB mon-fri", at(2027, 2, 1, 12, 0)),
            ("0 0 29 2 *", at(2028, 2, 29, 0, 0)),
            // Either day will do.
            ("0 0 13 * fri", at(2026, 12, 4, 0, 0)),
            // Both must, where one of them is a star with a step.
            ("0 0 */10 * sun", at(2027, 1, 31, 0, 0)),
            ("@hourly", at(2026, 11, 29, 7, 0)),
            ("@yearly", at(2027, 1, 1, 0, 0)),
        ] {
            let cron: Cron = cron.parse().unwrap();
            assert_eq!(cron.after(now), Some(next), "{cron}");
            assert_eq!(cron.until(next), Some(next), "{cron}");
        }
    }

    #[test]
    fn what_is_no_cron_says_why() {
        for (text, why) in [
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("* * * * * *", "five fields"),
            ("60 * * * *", "minute \"60\" is no number from 0 to 59"),
            ("* 24 * * *", "hour"),
            ("* * 0 * *", "day of month"),
            ("* * * 13 *", "month"),
            ("* * * * 8", "day of week"),
            ("* * * * foo", "day of week"),
            ("5-1 * * * *", "ends before it begins"),
            ("*/0 * * * *", "step"),
            ("*/x * * * *", "step"),
            ("1,,2 * * * *", "minute \"\""),
            ("+1 * * * *", "minute"),
            ("0 0 30 2 *", "no such day"),
            ("@often", "five fields"),
        ] {
            let error = text.parse::<Cron>().unwrap_err().to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn one_time_after_another_and_none_between(
            fields in ("[0-5]?[0-9]|\\*|\\*/7", "1?[0-9]|\\*", "[1-9]|1[0-9]|\\*", "[1-9]|\\*", "[0-7]|\\*"),
            ms in 0u64..4_000_000_000_000,
        ) {
            let (a, b, c, d, e) = fields;
            let cron: Cron = format!("{a} {b} {c} {d} {e}").parse().unwrap();
            let next = cron.after(ms).unwrap();
            prop_assert!(next > ms && next.is_multiple_of(MINUTE_MS));
            prop_assert_eq!(cron.until(next), Some(next));
            prop_assert_eq!(cron.after(next - 1), Some(next));
            if let Some(last) = cron.until(ms) {
                prop_assert!(last <= ms);
                prop_assert_eq!(cron.after(last), Some(next));
            }
        }
    }
}
