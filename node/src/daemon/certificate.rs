//! When the node's certificate ends: what is said of that while there is still time, and after it. And of a key that is none any
//! more, as everybody can read it.
//!
//! Contract: nobody links with a node whose certificate has ended, and only a restart takes a renewed one. So it is said early,
//! and alike wherever it is said.

use std::path::Path;

use crate::driver::clock::wall_ms;
use crate::trigger::utc;

const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// From so long before the end on it is worth a word.
const NOTICE_MS: u64 = 30 * DAY_MS;

/// A certificate that ends soon, or has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    /// It has ended.
    pub is_over: bool,
    /// When, for people.
    pub words: String,
}

/// What is to be said now of a certificate that ends at this time; nothing where that is far off.
pub fn ending(expires_ms: u64, now_ms: u64) -> Option<Ending> {
    let left_ms = expires_ms.saturating_sub(now_ms);
    if left_ms > NOTICE_MS {
        return None;
    }
    let when = utc(expires_ms);
    let words = match (left_ms, left_ms / DAY_MS) {
        (0, _) => format!("ended {when}"),
        (_, 0) => format!("ends {when}, in less than a day"),
        (_, 1) => format!("ends {when}, in 1 day"),
        (_, days) => format!("ends {when}, in {days} days"),
    };
    Some(Ending {
        is_over: left_ms == 0,
        words,
    })
}

/// Says it in the log once a day, and at once when it has ended.
pub struct Reminder {
    expires_ms: u64,
    /// When it was said last, and whether it had ended by then.
    said: Option<(u64, bool)>,
}

impl Reminder {
    /// Of a certificate that ends then.
    pub fn new(expires_ms: u64) -> Reminder {
        Reminder {
            expires_ms,
            said: None,
        }
    }

    /// What to say now, if it is time.
    fn due(&mut self, now_ms: u64) -> Option<Ending> {
        let ending = ending(self.expires_ms, now_ms)?;
        // A clock that was set back must not silence it.
        let is_new =
            |(at, was_over): (u64, bool)| now_ms.abs_diff(at) >= DAY_MS || was_over != ending.is_over;
        if self.said.is_some_and(|said| !is_new(said)) {
            return None;
        }
        self.said = Some((now_ms, ending.is_over));
        Some(ending)
    }

    /// Looks at the clock, and says it if it is time.
    pub fn look(&mut self) {
        const RENEW: &str = "renew it with `cert issue --force`, and restart it";
        match self.due(wall_ms()) {
            None => {}
            Some(Ending {
                is_over: false,
                words,
            }) => {
                tracing::warn!("this node's certificate {words}: {RENEW}");
            }
            Some(Ending { is_over: true, words }) => {
                tracing::error!(
                    "this node's certificate {words}, so no other node links with it any more: {RENEW}"
                );
            }
        }
    }
}

/// Warns of a key that everybody on the machine may read.
#[cfg(unix)]
pub fn check_key(key: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(key).map(|found| found.permissions().mode() & 0o777);
    // One that cannot be looked at cannot be read either, which is said elsewhere.
    if let Ok(mode) = mode
        && mode & 0o004 != 0
    {
        tracing::warn!(
            "{} can be read by everybody on this machine (mode {mode:04o}), and who has it can pass for this node: chmod 600",
            key.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_from_thirty_days_before_on() {
        let end = 1_800_000_000_000;
        let said = |left_ms: u64| ending(end, end - left_ms).map(|ending| ending.words);
        assert_eq!(said(NOTICE_MS + 1), None);
        assert_eq!(
            said(NOTICE_MS).as_deref(),
            Some("ends 2027-01-15T08:00:00Z, in 30 days")
        );
        assert!(said(DAY_MS * 2 - 1).unwrap().ends_with("in 1 day"));
        assert!(said(1).unwrap().ends_with("in less than a day"));
        assert_eq!(said(0).as_deref(), Some("ended 2027-01-15T08:00:00Z"));
        assert!(ending(end, end + 1).unwrap().is_over);
    }

    #[test]
    fn it_is_said_once_a_day_and_when_it_has_ended() {
        let end = 100 * DAY_MS;
        let mut reminder = Reminder::new(end);
        let mut said = Vec::new();
        let hour = DAY_MS / 24;
        for hours in 0..24 * 34 {
            let now_ms = end - 32 * DAY_MS + hours * hour + hour / 2;
            if let Some(ending) = reminder.due(now_ms) {
                said.push(ending.is_over);
            }
        }
        // Thirty days before the end, and the first two after it.
        assert_eq!(said, [vec![false; 30], vec![true; 2]].concat());
        assert!(reminder.due(end - DAY_MS).is_some(), "the clock was set back");
    }
}
