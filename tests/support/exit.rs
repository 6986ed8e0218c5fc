//! The exit codes of the program, as its users know them: one kind of failure each, never changed.

pub const NO: i32 = 1;
pub const USAGE: i32 = 2;
pub const CONFIG: i32 = 3;
pub const IDENTITY: i32 = 4;
pub const IN_USE: i32 = 5;
pub const DIRECTORY: i32 = 6;
pub const CORRUPT: i32 = 7;
pub const IO: i32 = 8;
pub const UNREACHABLE: i32 = 9;
pub const INVALID: i32 = 10;
pub const TYPE_REQUIRED: i32 = 11;
pub const WRONG_TYPE: i32 = 12;
pub const KEY_REUSED: i32 = 13;
pub const NOT_READY: i32 = 14;
pub const DISK_FULL: i32 = 16;
pub const UNCONFIRMED: i32 = 18;
pub const STOPPING: i32 = 19;
pub const HISTORY: i32 = 20;
pub const DIRECTORY_CHANGED: i32 = 21;
pub const UNAUTHORIZED: i32 = 22;
pub const NEWER_FORMAT: i32 = 24;
pub const ADDRESS_IN_USE: i32 = 25;
pub const RIGHTS: i32 = 26;
pub const STALE: i32 = 27;
pub const NO_FUNCTION: i32 = 28;
pub const REFUSED: i32 = 29;
