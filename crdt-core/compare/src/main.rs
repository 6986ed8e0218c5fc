//! How much our types cost beside those of other libraries: instructions counted by callgrind, and bytes.
//!
//! `compare` prints a table and then a line of JSON for each of its rows. `compare CASE SIDE` runs one case of one side;
//! that is what callgrind is put on. See README.md beside this package.

use std::process::{Command, ExitCode};

use anabranch_crdt_compare::cost::{CASES, Case, Side};

/// One row of the table.
struct Row {
    case: String,
    theirs: &'static str,
    ours: f64,
    other: f64,
    unit: &'static str,
    /// What the ratio, ours to theirs, is to be at most.
    target: Option<f64>,
    /// Or what ours is to be at most.
    most: Option<f64>,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match &args[..] {
        [] => everything(),
        [case, side] => one(case, side),
        _ => Err("usage: compare [CASE SIDE]".to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn one(case: &str, side: &str) -> Result<(), String> {
    let case = CASES
        .iter()
        .find(|c| c.name == case)
        .ok_or_else(|| format!("no case {case:?}"))?;
    let side = Side::ALL
        .into_iter()
        .find(|s| s.name() == side)
        .ok_or_else(|| format!("no side {side:?}"))?;
    let run = case
        .side(side)
        .ok_or_else(|| format!("{} does not have {}", side.name(), case.name))?;
    run();
    Ok(())
}

fn everything() -> Result<(), String> {
    let mut rows = Vec::new();
    for case in CASES {
        let ours = instructions(case, Side::Ours)? / case.operations as f64;
        for side in Side::ALL
            .into_iter()
            .filter(|side| *side != Side::Ours && case.side(*side).is_some())
        {
            let other = instructions(case, side)? / case.operations as f64;
            rows.push(Row {
                case: case.name.to_owned(),
                theirs: side.name(),
                ours,
                other,
                unit: "instructions",
                target: case.target.filter(|_| side == Side::Crdts),
                most: None,
            });
        }
    }
    let ours = |name: &str| {
        rows.iter()
            .find(|row: &&Row| row.case == name)
            .map(|row| row.ours)
    };
    let (large, small) = (
        ours("join of a 10-element delta into 1M").ok_or("no row for 1M")?,
        ours("join of a 10-element delta into 1k").ok_or("no row for 1k")?,
    );
    rows.push(Row {
        case: "join of a 10-element delta: into 1M beside into 1k".to_owned(),
        theirs: "ours, 1k",
        ours: large,
        other: small,
        unit: "instructions",
        target: None,
        most: None,
    });
    rows.extend(sizes()?);
    print(&rows);
    Ok(())
}

/// What `sizes`, the program beside this one, prints: its heap is counted, which would cost instructions here.
fn sizes() -> Result<Vec<Row>, String> {
    let program = std::env::current_exe()
        .map_err(|e| e.to_string())?
        .with_file_name("sizes");
    let output = Command::new(&program)
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('|').collect();
        let [case, ours, other, most] = fields[..] else {
            return None;
        };
        Some(Row {
            case: case.to_owned(),
            theirs: "crdts",
            ours: ours.parse().ok()?,
            other: other.parse().ok()?,
            unit: "bytes",
            target: None,
            most: most.parse().ok(),
        })
    };
    let rows: Option<Vec<Row>> = text.lines().map(row).collect();
    rows.filter(|rows| !rows.is_empty())
        .ok_or_else(|| format!("`sizes` said {text}"))
}

/// Counts the instructions of one side's operations with callgrind, in a process of its own.
fn instructions(case: &Case, side: Side) -> Result<f64, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let out = std::env::temp_dir().join(format!("anabranch-callgrind-{}", std::process::id()));
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--collect-atstart=no",
            "--toggle-collect=*compare*measured*",
        ])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(&program)
        .args([case.name, side.name()])
        .output()
        .map_err(|e| format!("valgrind cannot be run: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let _ = std::fs::remove_file(&out);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .map(|(_, n)| n.trim());
    match collected.and_then(|n| n.parse::<f64>().ok()) {
        Some(count) if output.status.success() && count > 0.0 => Ok(count),
        _ => Err(format!("{} of {}: {said}", case.name, side.name())),
    }
}

fn print(rows: &[Row]) {
    println!("# Measured\n");
    println!(
        "Written by the command in README.md: ours beside the others, with each goal that was set (\"at most\").\n"
    );
    println!(
        "| case | beside | ours | theirs | ours/theirs | unit | at most |\n|---|---|--:|--:|--:|---|---|"
    );
    for row in rows {
        let ratio = row.ours / row.other;
        let missed = |is: f64, most: Option<f64>| most.is_some_and(|most| is > most);
        let goal = match (row.target, row.most) {
            (Some(target), _) => format!("{target:.2}x"),
            (None, Some(most)) => format!("{most:.0}"),
            (None, None) => String::new(),
        };
        let verdict = if missed(ratio, row.target) || missed(row.ours, row.most) {
            " **missed**"
        } else {
            ""
        };
        println!(
            "| {} | {} | {:.1} | {:.1} | {ratio:.3} | {} | {goal}{verdict} |",
            row.case, row.theirs, row.ours, row.other, row.unit
        );
    }
    println!("\n```json");
    for row in rows {
        println!(
            "{{\"case\":\"{} ({})\",\"ours\":{:.2},\"theirs\":{:.2},\"ratio\":{:.4},\"unit\":\"{}\"}}",
            row.case,
            row.theirs,
            row.ours,
            row.other,
            row.ours / row.other,
            row.unit
        );
    }
    println!("```");
}
