//! Bytes that must never change: other versions read them from disks and wires.
//!
//! `golden/v3.txt` holds scripts, each with the bytes it led to. `anabranch-laws golden` prints the same file with the
//! bytes of today; what was added to it is reviewed like code, and what changed needs another version.

use std::fmt::Write as _;

use anabranch_crdt::{HashKey, Op, Piece, Replicas, Value};

use crate::script::{OpName, Script};
use crate::world::World;

/// The file.
pub const FILE: &str = include_str!("../golden/v3.txt");

/// The scripts of the file with the bytes that they lead to now.
///
/// # Errors
///
/// A script that does not read or goes wrong, or bytes that do not lead back.
pub fn print(file: &str) -> Result<String, String> {
    let mut out = String::new();
    for (n, block) in file.split("\n\n").enumerate() {
        let scripted = |line: &&str| !line.starts_with(['=', '#']);
        let text: Vec<&str> = block.lines().filter(scripted).collect();
        let comments = block.lines().filter(|line| line.starts_with('#'));
        let lines: Vec<&str> = comments.chain(text.iter().copied()).collect();
        if n > 0 {
            out.push('\n');
        }
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
        let script: Script = text.join("\n").parse().map_err(|e| format!("{e}"))?;
        bytes(&script, &mut out)?;
    }
    Ok(out)
}

fn bytes(script: &Script, out: &mut String) -> Result<(), String> {
    let mut world = World::new(script.ty, script.mode, script.nodes());
    for step in &script.steps {
        world.step(step).map_err(|e| format!("{script}: {e}"))?;
    }
    let a = &world.replicas[0].value;
    let value = a.canonical_bytes();
    let mut replicas = Replicas::new();
    let back =
        Value::from_canonical_bytes(&value, &mut replicas, &HashKey([0; 16])).map_err(|e| e.to_string())?;
    if back.read(&replicas) != a.read() {
        return Err(format!("{script}: its bytes lead to another value"));
    }
    let nth = world.made(0);
    let op = world
        .made_op(OpName { by: 0, nth })
        .ok_or("a must make an operation")?;
    let op = op.encode();
    if Op::decode(&op).map_err(|e| e.to_string())?.encode() != op {
        return Err(format!("{script}: its last operation's bytes lead to another"));
    }
    let nothing = anabranch_crdt::Causal::new(script.ty).knowledge();
    let piece = a.since(&nothing).map_err(|e| e.to_string())?.encode();
    if Piece::decode(&piece).map_err(|e| e.to_string())?.encode() != piece {
        return Err(format!("{script}: its piece's bytes lead to another"));
    }
    for (what, bytes) in [("value", value), ("last op", op), ("piece", piece)] {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let _ = writeln!(out, "= {what} {hex}");
    }
    Ok(())
}
