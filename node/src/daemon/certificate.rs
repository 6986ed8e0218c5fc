//! When the node's certificate ends, and that of its ingress: what is said of that while there is still time, and after it. And of a
//! key that is none any more, as everybody can read it.
//!
//! Contract: nobody links with a node whose certificate has ended, and only a restart takes a renewed one; no client believes an
//! ingress whose certificate has ended, or has not begun. So it is said early, and alike wherever it is said.

use std::path::Path;

use crate::driver::clock::wall_ms;
use crate::sidecar::Tls;
use crate::transport::Validity;
use crate::trigger::utc;

const DAY_MS: u64 = 24 * 3_600 * 1_000;
/// From so long before the end on it is worth a word.
const NOTICE_MS: u64 = 30 * DAY_MS;

/// A certificate that ends soon, has ended, or has not begun.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    /// Nobody believes it now.
    pub is_invalid: bool,
    /// When, for people.
    pub words: String,
}

/// What is to be said now of a certificate that is valid then; nothing where it is, and its end is far off.
pub fn ending(validity: Validity, now_ms: u64) -> Option<Ending> {
    if now_ms < validity.from_ms {
        return Some(Ending {
            is_invalid: true,
            words: format!("is not valid before {}", utc(validity.from_ms)),
        });
    }
    let left_ms = validity.until_ms.saturating_sub(now_ms);
    if left_ms > NOTICE_MS {
        return None;
    }
    let when = utc(validity.until_ms);
    let words = match (left_ms, left_ms / DAY_MS) {
        (0, _) => format!("ended {when}"),
        (_, 0) => format!("ends {when}, in less than a day"),
        (_, 1) => format!("ends {when}, in 1 day"),
        (_, days) => format!("ends {when}, in {days} days"),
    };
    Some(Ending {
        is_invalid: left_ms == 0,
        words,
    })
}

/// Whose certificate it is.
enum Whose {
    /// The node's, which stays the same until it ends.
    Node(Validity),
    /// The ingress's, which may be renewed.
    Ingress(Tls),
}

/// Says it in the log once a day, and at once when it has ended, or is another that is to be spoken of.
pub struct Reminder {
    whose: Whose,
    /// When it was said last, of which, and whether that was invalid by then.
    said: Option<(u64, Validity, bool)>,
}

impl Reminder {
    /// Of a node whose certificate ends then.
    pub fn of_node(expires_ms: u64) -> Reminder {
        Reminder {
            whose: Whose::Node(Validity::until(expires_ms)),
            said: None,
        }
    }

    /// Of an ingress that shows this.
    pub fn of_ingress(tls: Tls) -> Reminder {
        Reminder {
            whose: Whose::Ingress(tls),
            said: None,
        }
    }

    /// What to say now of a certificate that is valid then, if it is time.
    fn due(&mut self, validity: Validity, now_ms: u64) -> Option<Ending> {
        let ending = ending(validity, now_ms)?;
        // A clock that was set back must not silence it.
        let is_new = |(at, of, was_invalid): (u64, Validity, bool)| {
            now_ms.abs_diff(at) >= DAY_MS || of != validity || was_invalid != ending.is_invalid
        };
        if self.said.is_some_and(|said| !is_new(said)) {
            return None;
        }
        self.said = Some((now_ms, validity, ending.is_invalid));
        Some(ending)
    }

    /// Looks at the clock, and says it if it is time.
    pub fn look(&mut self) {
        let validity = match &self.whose {
            Whose::Node(validity) => *validity,
            Whose::Ingress(tls) => tls.validity(),
        };
        let Some(Ending { is_invalid, words }) = self.due(validity, wall_ms()) else {
            return;
        };
        const RENEW: &str = "renew it with `cert issue --force`, and restart it";
        match &self.whose {
            Whose::Node(_) if is_invalid => tracing::error!(
                "this node's certificate {words}, so no other node links with it any more: {RENEW}"
            ),
            Whose::Node(_) => tracing::warn!("this node's certificate {words}: {RENEW}"),
            Whose::Ingress(tls) => {
                let renew = format!(
                    "renew it in {}, which is read again without a restart",
                    tls.certificate().display()
                );
                match is_invalid {
                    true => tracing::error!(
                        "the ingress's certificate {words} by this machine's clock, so its callers refuse it: {renew}"
                    ),
                    false => tracing::warn!("the ingress's certificate {words}: {renew}"),
                }
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
        let ending = |now_ms| ending(Validity::until(end), now_ms);
        let said = |left_ms: u64| ending(end - left_ms).map(|ending| ending.words);
        assert_eq!(said(NOTICE_MS + 1), None);
        assert_eq!(
            said(NOTICE_MS).as_deref(),
            Some("ends 2027-01-15T08:00:00Z, in 30 days")
        );
        assert!(said(DAY_MS * 2 - 1).unwrap().ends_with("in 1 day"));
        assert!(said(1).unwrap().ends_with("in less than a day"));
        assert_eq!(said(0).as_deref(), Some("ended 2027-01-15T08:00:00Z"));
        assert!(ending(end + 1).unwrap().is_invalid);
    }

    #[test]
    fn one_that_has_not_begun_is_spoken_of_until_it_has() {
        let from_ms = 1_800_000_000_000;
        let validity = Validity {
            from_ms,
            until_ms: from_ms + 2 * NOTICE_MS,
        };
        let early = ending(validity, from_ms - 1).unwrap();
        assert!(early.is_invalid);
        assert_eq!(early.words, "is not valid before 2027-01-15T08:00:00Z");
        assert_eq!(ending(validity, from_ms), None);
    }

    #[test]
    fn it_is_said_once_a_day_and_when_it_has_ended() {
        let end = 100 * DAY_MS;
        let validity = Validity::until(end);
        let mut reminder = Reminder::of_node(end);
        let mut said = Vec::new();
        let hour = DAY_MS / 24;
        for hours in 0..24 * 34 {
            let now_ms = end - 32 * DAY_MS + hours * hour + hour / 2;
            if let Some(ending) = reminder.due(validity, now_ms) {
                said.push(ending.is_invalid);
            }
        }
        // Thirty days before the end, and the first two after it.
        assert_eq!(said, [vec![false; 30], vec![true; 2]].concat());
        assert!(
            reminder.due(validity, end - DAY_MS).is_some(),
            "the clock was set back"
        );
        // Another that ends soon, too, is spoken of at once.
        let another = Validity::until(end + 1);
        assert!(reminder.due(another, end - DAY_MS).is_some());
        assert!(reminder.due(another, end - DAY_MS).is_none());
    }
}
