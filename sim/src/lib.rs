//! A deterministic simulator that runs Anabranch's own engine, store and wire bytes on a virtual network, virtual disks
//! and virtual clocks, and watches whether they keep their promises.
//!
//! One seed is one run: `anabranch-sim run --seeds 1..1000` looks for seeds that break a rule, and
//! `anabranch-sim replay SEED --trace` tells how one came about.
//!
//! From below: [`rng`], [`hash`], [`queue`] and [`kernel`] know nothing of Anabranch; [`latency`], [`net`] and [`plan`]
//! are a cluster's surroundings; [`model`] is what replicas must show, independent of the code under test; [`oracle`]
//! compares; [`world`] is the loop; [`run`] is one seed; [`app`] is the same for applications and their own oracles, [`profile`] the ones that seeds run; [`trio`] is for scripts of two or three engines by hand.
//!
//! Not here: sockets, files, threads of the code under test, the operating system's clock and chance.
//! Contract: equal seeds, equal builds: equal trace hashes.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod app;
pub mod cli;
pub mod hash;
pub mod kernel;
pub mod latency;
pub mod model;
pub mod names;
pub mod net;
pub mod oracle;
pub mod plan;
pub mod profile;
pub mod queue;
pub mod rng;
pub mod run;
pub mod trio;
pub mod world;
