//! What is measured, and on whom: see README.md beside this package.

pub mod cost;
pub mod ours;
pub mod theirs;

/// What is counted: nothing outside of this function is.
#[inline(never)]
pub fn measured<T>(operation: impl FnOnce() -> T) -> T {
    std::hint::black_box(operation())
}
