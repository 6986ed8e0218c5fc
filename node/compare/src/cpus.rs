//! The CPUs: whose time it was, who runs where, and that none of them sleeps.

use std::fs;
use std::process::{Child, Command, Stdio};

/// The kernel counts CPU time in hundredths of a second for `/proc`, whatever it counts in itself.
const TICKS_PER_SECOND: f64 = 100.0;

/// Where a caller and whom it calls run. To wake a process on another CPU costs a virtual machine several times what the same
/// costs on one's own, and the kernel chooses now this, now that; so it is not left to it.
#[derive(Clone, Copy)]
pub enum Placement {
    /// All on one CPU.
    Together,
    /// The caller on one, all others on another.
    Apart,
}

impl Placement {
    pub const BOTH: [Placement; 2] = [Placement::Apart, Placement::Together];

    pub fn name(self) -> &'static str {
        match self {
            Placement::Together => "both on one CPU",
            Placement::Apart => "a CPU for each",
        }
    }

    /// Does this with this process and the others in their places.
    pub fn with<R>(self, others: &[u32], run: impl FnOnce() -> R) -> R {
        let (own, all) = (std::process::id(), all_cpus());
        let cpus = match (self, all.as_slice()) {
            (Placement::Together, [one, ..]) => (one, one),
            (Placement::Apart, [one, two, ..]) => (one, two),
            _ => panic!("two CPUs are needed"),
        };
        pin(own, cpus.0);
        others.iter().for_each(|process| pin(*process, cpus.1));
        let done = run();
        let all = all.join(",");
        others
            .iter()
            .chain([&own])
            .for_each(|process| pin(*process, &all));
        done
    }
}

/// Those that this process may run on: all of them, as nobody is in its place yet.
fn all_cpus() -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mut lines = status.lines();
    let list = lines
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .unwrap();
    let ranges = list.trim().split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        first.parse::<u32>().unwrap()..=last.parse().unwrap()
    });
    ranges.flatten().map(|cpu| cpu.to_string()).collect()
}

/// With all its threads, and those that they start.
fn pin(process: u32, cpus: &str) {
    let mut taskset = Command::new("taskset");
    let pinned = taskset
        .args(["--all-tasks", "--pid", "--cpu-list", cpus])
        .arg(process.to_string())
        .stdout(Stdio::null())
        .status();
    let pinned = pinned.expect("taskset, of the package util-linux, is needed");
    assert!(pinned.success(), "process {process} cannot be put on CPU {cpus}");
}

/// What this process and others have used of all CPUs so far.
pub fn cpu_seconds(others: &[u32]) -> f64 {
    let of = |process: String| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        // Behind the name, which may have spaces: field 3 and on, of which 14 and 15 are user and system time.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks = |field: usize| fields[field - 3].parse::<f64>().unwrap();
        (ticks(14) + ticks(15)) / TICKS_PER_SECOND
    };
    let all = others.iter().map(u32::to_string).chain(["self".to_owned()]);
    all.map(of).sum()
}

/// An idle virtual CPU halts, and to wake it costs more than what is measured: while this lives, a process keeps all of them
/// busy with what anybody else's work goes before.
pub struct Awake(Child);

impl Awake {
    pub fn keep() -> Awake {
        let own = std::env::current_exe().unwrap();
        let spinner = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(own)
            .arg("spin")
            .stdin(Stdio::piped())
            .spawn();
        Awake(spinner.expect("chrt, of the package util-linux, is needed"))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

/// Ends a child of this program's own: its standard input ends.
pub fn stop(child: &mut Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "a child of this program failed");
}

/// What such a child does meanwhile: waits for that end.
pub fn until_told() {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
}

/// The process behind [`Awake`].
pub fn spin() {
    for _ in 0..std::thread::available_parallelism().unwrap().get() {
        std::thread::spawn(|| {
            loop {
                std::hint::spin_loop();
            }
        });
    }
    until_told();
}
