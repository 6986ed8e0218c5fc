//! Scripts: the cases in `tests/data/tck`, and the table of what came of them.
//!
//! Not here: what lines do (`world`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::dialect::Speaks;

/// The files, in the order of the table.
const FILES: [&str; 17] = [
    "discovery",
    "gcounter",
    "counter",
    "gset",
    "set",
    "register",
    "flag",
    "map",
    "vote",
    "countermap",
    "registermap",
    "multimap",
    "calls",
    "streams",
    "actions",
    "levels",
    "faults",
];

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    /// Whom it is for.
    pub of: Vec<Speaks>,
    /// For whom it differs from the TCK's, and how.
    pub differs: Vec<(Vec<Speaks>, String)>,
    /// What else there is to say.
    pub remarks: Vec<String>,
    /// Whose it is, where its lines do not say.
    pub service: String,
    /// Its lines, and where they are.
    pub lines: Vec<(String, String)>,
}

pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tck")
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for file in FILES {
        let text = std::fs::read_to_string(data().join(format!("{file}.tck"))).unwrap();
        // What is for all cases of a file stands before them.
        let mut of = Speaks::ALL.to_vec();
        let mut service = "model".to_owned();
        let begun = cases.len();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            let place = format!("{file}.tck:{}", number + 1);
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            match (verb, cases.len() > begun) {
                ("" | "#", _) => {}
                ("case", _) => cases.push(Case {
                    name: rest.to_owned(),
                    of: of.clone(),
                    differs: Vec::new(),
                    remarks: Vec::new(),
                    service: service.clone(),
                    lines: Vec::new(),
                }),
                ("with", false) => service = rest.to_owned(),
                ("only", false) => of = dialects(rest),
                ("only", true) => cases.last_mut().unwrap().of = dialects(rest),
                ("differs", true) => {
                    let case = cases.last_mut().unwrap();
                    let (whom, how) = rest.split_once(": ").unwrap_or_else(|| panic!("{place}: {line}"));
                    case.differs.push((dialects(whom), how.to_owned()));
                }
                ("remark", true) => cases.last_mut().unwrap().remarks.push(rest.to_owned()),
                (_, true) => cases.last_mut().unwrap().lines.push((place, line.to_owned())),
                (_, false) => panic!("{place}: {line:?} is of no case"),
            }
        }
    }
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "two cases of one name");
    cases
}

fn dialects(names: &str) -> Vec<Speaks> {
    let dialect = |name: &str| {
        let found = Speaks::ALL.into_iter().find(|speaks| speaks.name() == name);
        found.unwrap_or_else(|| panic!("{name:?} is no dialect"))
    };
    match names {
        "all" => Speaks::ALL.to_vec(),
        names => names.split(' ').map(dialect).collect(),
    }
}

impl Case {
    fn cell(&self, speaks: Speaks) -> &'static str {
        match self.of.contains(&speaks) {
            false => "-",
            true if self.differs.iter().any(|(whom, _)| whom.contains(&speaks)) => "differs",
            true => "passed",
        }
    }

    fn remarks(&self) -> String {
        let remark = |(whom, how): &(Vec<Speaks>, String)| {
            let is_all = self.of.iter().all(|speaks| whom.contains(speaks));
            let names: Vec<&str> = whom.iter().map(|speaks| speaks.name()).collect();
            match is_all {
                true => how.clone(),
                false => format!("{}: {how}", names.join(", ")),
            }
        };
        let differs = self.differs.iter().map(remark);
        let remarks: Vec<String> = differs.chain(self.remarks.iter().cloned()).collect();
        remarks.join("; ")
    }
}

/// The table of these cases, as it stands in the repository.
pub fn table(cases: &[Case]) -> String {
    let mut table = String::from(
        "| case | Kalix 1.1 | Cloudstate 0.2 | Cloudstate, first version | how it differs, and what there is to say |\n",
    );
    table += "| --- | --- | --- | --- | --- |\n";
    for case in cases {
        let [kalix, cloudstate, early] = Speaks::ALL.map(|speaks| case.cell(speaks));
        let (name, remarks) = (&case.name, case.remarks());
        table += &format!("| {name} | {kalix} | {cloudstate} | {early} | {remarks} |\n");
    }
    let total = |speaks: Speaks| {
        let count = |what: &str| cases.iter().filter(|case| case.cell(speaks) == what).count();
        format!("{} passed, {} differ", count("passed"), count("differs"))
    };
    let [kalix, cloudstate, early] = Speaks::ALL.map(total);
    table + &format!("| together | {kalix} | {cloudstate} | {early} | |\n")
}
