//! Planted bugs: the yardstick under the simulator.
//!
//! `planted!("name", wrong, right)` stands in production code where a developer would make the mistake. Only a
//! build with `--cfg planted` holds the wrong arms, and runs one of them when the environment variable
//! `ANABRANCH_PLANTED` names it.
//!
//! Not here: a cargo feature. Features unify over a build and could reach users; a cfg cannot.
//!
//! Contract: a normal build contains nothing of a wrong arm, whatever the environment says.

/// Evaluates `right`; in a build with `--cfg planted`, `wrong` if `ANABRANCH_PLANTED` is `name`.
///
/// ```
/// assert_eq!(anabranch_crdt::planted!("doc_example", 1, 2), 2);
/// ```
#[cfg(not(planted))]
#[macro_export]
macro_rules! planted {
    ($name:literal, $wrong:expr, $right:expr $(,)?) => {{ $right }};
}

/// Evaluates `right`, or `wrong` if the environment variable `ANABRANCH_PLANTED` is `name`.
#[cfg(planted)]
#[macro_export]
macro_rules! planted {
    ($name:literal, $wrong:expr, $right:expr $(,)?) => {
        if $crate::planted::is_active($name) {
            $wrong
        } else {
            $right
        }
    };
}

/// Whether the planted bug `name` is the one to show. The environment is read once, at the first question.
#[cfg(planted)]
#[doc(hidden)]
pub fn is_active(name: &str) -> bool {
    static ACTIVE: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    ACTIVE
        .get_or_init(|| std::env::var("ANABRANCH_PLANTED").ok())
        .as_deref()
        == Some(name)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    const CHILD: &str = "ANABRANCH_PLANTED_TEST_CHILD";
    const NAME: &str = "planted::tests::the_normal_build_is_right_whatever_the_environment_says";

    /// The environment is read once a process, so a child process with the variable set does the looking.
    #[test]
    fn the_normal_build_is_right_whatever_the_environment_says() {
        if std::env::var_os(CHILD).is_some() {
            assert_eq!(
                planted!("self_test", "wrong", "right"),
                if cfg!(planted) { "wrong" } else { "right" }
            );
            assert_eq!(planted!("another", "wrong", "right"), "right");
            return;
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME])
            .env(CHILD, "1")
            .env("ANABRANCH_PLANTED", "self_test")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
    }

    /// The wrong arm of the normal build is not even looked at: it need not type-check.
    #[cfg(not(planted))]
    #[test]
    fn the_wrong_arm_is_not_compiled() {
        assert_eq!(planted!("self_test", there_is_no_such_function(), 1), 1);
    }
}
