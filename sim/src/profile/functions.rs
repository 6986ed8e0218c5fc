//! The functions: one that schedules call, items that change, and two that are told of it.

use anabranch::state::OrSet;
use anabranch::{Change, Context, Function, schedules};

use super::ledger::Ledger;

/// What schedules call.
pub const JOURNAL: &str = "journal";
/// What changes.
pub const ITEM: &str = "item";
/// Is told of every item.
pub const WATCHER: &str = "watcher";
/// Is told of one.
pub const WARDEN: &str = "warden";
/// Which.
pub const WARDED: &str = "a";

/// A clock may be ahead of another by less than this where they are well, milliseconds.
const AHEAD_MS: u64 = 100;

type Lines = OrSet<String>;

pub fn all(ledger: &Ledger, knows_time: bool) -> Vec<Function> {
    let watcher = told(WATCHER, ledger).on_change(ITEM, "note");
    let warden = told(WARDEN, ledger).on_change_of(ITEM, WARDED, "note");
    vec![
        schedules(),
        journal(ledger, knows_time),
        lines(ITEM)
            .command("add", |item: &mut Lines, _: &mut Context, token: String| {
                item.add(&token);
                Ok::<_, String>(())
            })
            .into(),
        watcher.into(),
        warden.into(),
    ]
}

fn lines(kind: &str) -> anabranch::FunctionBuilder<Lines> {
    Function::of::<Lines>(kind).query("show", |lines: &Lines, _, ()| {
        let mut all = lines.elements();
        all.sort();
        Ok::<_, String>(all)
    })
}

/// Notes the names under which it was called.
fn journal(ledger: &Ledger, knows_time: bool) -> Function {
    let ran = |ledger: &Ledger| {
        let ledger = ledger.clone();
        move |context: &Context| {
            let name = context.call_id().unwrap_or("nobody").to_owned();
            let slot = name.rsplit('@').next().and_then(|slot| slot.parse::<u64>().ok());
            let mut seen = ledger.open();
            seen.ran(&name);
            if knows_time && slot.is_none_or(|slot| slot > context.now_ms() + AHEAD_MS) {
                seen.broke(format!(
                    "called for {name} before its time, at {}",
                    context.now_ms()
                ));
            }
            name
        }
    };
    let (noted, refused) = (ran(ledger), ran(ledger));
    lines(JOURNAL)
        .command("note", move |lines: &mut Lines, context: &mut Context, ()| {
            lines.add(&noted(context));
            Ok::<_, String>(())
        })
        .command("refuse", move |_: &mut Lines, context: &mut Context, ()| {
            Err::<(), _>(refused(context))
        })
        .into()
}

/// Notes what it finds in an item that it is told of.
fn told(kind: &'static str, ledger: &Ledger) -> anabranch::FunctionBuilder<Lines> {
    let ledger = ledger.clone();
    lines(kind).command_async("note", move |lines: &mut Lines, context, change: Change| {
        let ledger = ledger.clone();
        Box::pin(async move {
            let tokens = context.call::<_, Vec<String>>(&change.kind, &change.key, "show", &());
            // That it cannot look now is no answer: one that refuses is not told again.
            let tokens = tokens.await.unwrap_or_else(|error| panic!("not seen: {error}"));
            lines.add(&text(&tokens));
            ledger
                .open()
                .on_found(context.replica(), kind, &change.key, &tokens);
            Ok::<_, String>(())
        })
    })
}

/// An item, as those that are told of it note it.
pub fn text(tokens: &[String]) -> String {
    tokens.join(" ")
}
