//! A view that is derived from another entity whenever that has changed: once all is at rest, it says what the entity says.

use anabranch::state::{LwwRegister, PnCounter};
use anabranch::{Change, Context, Error, Function};
use anabranch_sim::app::{Answered, Application, Ask, Client, Cluster, Simulation};
use anabranch_sim::plan::Family;

/// Clients that credit an account, and a board that is told of it.
pub(crate) struct Boards;

/// Few changes, and nodes that stand still, or cannot reach one another, while one of them is told of.
pub(crate) fn of(simulation: Simulation) -> Simulation {
    let faults = Family::ALL.into_iter();
    let faults = faults.filter(|family| !family.is_lossy() && *family != Family::Clock);
    simulation.nodes(3).with_room().think_ms(400).faults(faults)
}

impl Application for Boards {
    fn functions(&self) -> Vec<Function> {
        let account = Function::of::<PnCounter>("account")
            .command("credit", |account, _: &mut Context, n: i64| {
                account.increment(n);
                Ok::<_, String>(())
            })
            .query("balance", |account, _, ()| Ok::<_, String>(account.get()));
        let board = Function::of::<LwwRegister<i64>>("board")
            .command_async("note", |board, context: &mut Context, change: Change| {
                Box::pin(async move {
                    let balance: i64 = context.call("account", &change.key, "balance", &()).await?;
                    board.set(&balance);
                    Ok::<_, Error>(())
                })
            })
            .on_change("account", "note")
            .query("score", |board, _, ()| Ok::<_, String>(board.get().unwrap_or(0)));
        vec![account.into(), board.into()]
    }

    fn next(&mut self, client: &mut Client) -> Option<Ask> {
        Some(Ask::of("account", "a", "credit", &1i64).at(client.any_node()))
    }

    fn on_answer(&mut self, _: &Answered, _: &Cluster<'_>) -> Result<(), String> {
        Ok(())
    }

    fn awaits(&mut self, cluster: &Cluster<'_>) -> Option<String> {
        let ask = |kind, method| cluster.query::<_, i64>(0, kind, "a", method, &());
        let (balance, score) = (ask("account", "balance"), ask("board", "score"));
        (balance != score).then(|| format!("the board says {score:?}, the account {balance:?}"))
    }

    fn at_rest(&mut self, _: &Cluster<'_>) -> Result<(), String> {
        Ok(())
    }
}
