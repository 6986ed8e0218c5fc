//! The cases of Cloudstate's TCK that concern a proxy, as far as they are about CRDTs and actions: scripts of our own, which each run
//! against a scripted function in each of the dialects. `tests/data/tck/CASES.md` is the table of what came of them.
//!
//! The TCK asks a function what it answers, and listens between a proxy and a function. Here the function is the script's: it says
//! what the TCK wants of one, and what is looked at is what the nodes tell it, what callers hear, and what the other node's function
//! is told of the entity. There are two nodes with a function each; a line that begins with `b` is about the second one.
//!
//! | line | meaning |
//! |---|---|
//! | `case NAME`, `only DIALECT..` | a case, and whom it is for; before the first case: whom all of the file are for |
//! | `differs DIALECT..: HOW`, `remark TEXT` | it is not as the TCK has it; what else the table says |
//! | `with SERVICE` | whose lines are that name no service; before the first case: of all of the file |
//! | `SERVICE@OTHER ..` | the same for another entity of the case |
//! | `call [SERVICE/METHOD] TEXT`, `hurried ..` | somebody calls; and gives up after 2 s |
//! | `answer TEXT`, `fails CODE TEXT` | what comes of it; of a text that ends with `..`, that it has this in it |
//! | `unanswered` | nothing came of it yet |
//! | `open CALL SERVICE/METHOD [TEXT]` | the same with a name of its own: several may be under way |
//! | `send CALL TEXT`, `done CALL`, `leave CALL` | its caller says more, has said all, goes away |
//! | `shows CALL TEXT`, `over CALL [CODE TEXT]`, `silent CALL` | he hears this, that it has ended, nothing yet |
//! | `[SERVICE] hears TERM..` | what the function is told next, each once the ones before have come |
//! | `[SERVICE] says TERM..`, `[SERVICE] stops` | what it says (`say`), and that it says no more |
//! | `[SERVICE] breaks CODE TEXT` | it ends its stream with this status |
//! | `[SERVICE] run TEXT [INIT]: TERM..` | a call, what its function hears, what it says, and that its caller hears that |
//! | `[SERVICE] sleeps` | nobody calls until it is passivated |
//! | `http PATH JSON`, `status N BODY` | the same over HTTP |
//! | `holds N` | what the node has of the case's counter |
//! | `asked MAJOR MINOR`, `reflects` | what a function is asked at first, and callers are told of it |
//! | `reported TEXT` | the function's author is told that it did something wrong |
//! | `cut` | the function's connections end, and it is found again |
//! | `down` | the second node ends |
//!
//! A function hears `init(CHANGE)`, `whole(CHANGE)` (the first of an entity that it knew nothing of), `delta(CHANGE)`, `delete`,
//! `command(TEXT)`, `watch(TEXT)`, `asked(TEXT)`, `cancelled(N)`, `end` and `gone`; an action `unary(TEXT)`, `call(TEXT)`, `out(TEXT)`,
//! `in`, `both`, `in-message(TEXT)`, `both-message(TEXT)`. What a CHANGE is, says `notation`.
//!
//! Contract: every message that comes is heard by some line, in its order.

mod dialect;
mod function;
mod notation;
mod proxy;
mod ready;
mod say;
mod script;
mod world;

use std::path::Path;

use self::dialect::Speaks;
use self::script::{cases, data, table};
use self::world::World;

/// Runs every case that is for a dialect.
fn check(speaks: Speaks) {
    let mut world = World::start(speaks);
    for (number, case) in cases().iter().enumerate() {
        if case.of.contains(&speaks) {
            world.run(number, case);
        }
    }
}

#[test]
fn kalix_cases_are_as_the_table_says() {
    check(Speaks::Kalix);
}

#[test]
fn cloudstate_cases_are_as_the_table_says() {
    check(Speaks::Cloudstate);
}

#[test]
fn cases_of_the_first_version_are_as_the_table_says() {
    check(Speaks::Early);
}

#[test]
fn the_table_has_the_cases_that_are_run() {
    let path = data().join("CASES.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let written = text.find("| case |").map(|at| &text[at..]);
    let expected = table(&cases());
    // For whoever has changed a case.
    if written != Some(&expected) {
        let is = Path::new(env!("CARGO_TARGET_TMPDIR")).join("CASES.md");
        std::fs::write(&is, &expected).unwrap();
        panic!("{} is another than {}", path.display(), is.display());
    }
}
