//! What people get wrong: each is a clear message and an exit code of its own, and nothing is changed by it.

mod certificates;
mod commands;
mod configuration;
mod directories;
mod history_lines;
mod ports;
mod types;
