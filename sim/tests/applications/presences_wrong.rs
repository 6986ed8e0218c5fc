//! Presence as one might write it, and should not.

use anabranch::state::{MultiMap, OrSet};
use anabranch::{Context, Function};

use super::presence::Seat;

/// Whoever came in by a node that has died is there for ever.
pub fn keeps_ghosts() -> Function {
    Function::of::<OrSet<Seat>>("presence")
        .command("enter", |room: &mut OrSet<Seat>, _: &mut Context, seat: Seat| {
            room.add(&seat);
            Ok::<_, String>(())
        })
        .command("leave", |room: &mut OrSet<Seat>, _: &mut Context, seat: Seat| {
            room.remove(&seat);
            Ok::<_, String>(())
        })
        .query("who", |room: &OrSet<Seat>, _, ()| {
            let mut who: Vec<String> = room.elements().into_iter().map(|seat| seat.who).collect();
            who.sort();
            Ok::<_, String>(who)
        })
        .into()
}

type Room = MultiMap<(u128, u64), Seat>;

/// Whoever comes in takes away those of nodes that he believes to be gone.
pub fn tidies_up() -> Function {
    Function::of::<Room>("presence")
        .command("enter", |room: &mut Room, context: &mut Context, seat: Seat| {
            let live: Vec<(u128, u64)> = context
                .live()
                .iter()
                .map(|run| (run.node.0, run.epoch.0))
                .collect();
            for (of, _) in room.entries() {
                if !live.contains(&of) {
                    room.remove(&of);
                }
            }
            room.add(&(context.replica().node.0, context.replica().epoch.0), &seat);
            Ok::<_, String>(())
        })
        .command("leave", |room: &mut Room, context: &mut Context, seat: Seat| {
            room.remove_element(&(context.replica().node.0, context.replica().epoch.0), &seat);
            Ok::<_, String>(())
        })
        .query("who", |room: &Room, context, ()| {
            let live = context.live();
            let seats = live.iter().flat_map(|run| room.get(&(run.node.0, run.epoch.0)));
            let mut who: Vec<String> = seats.map(|seat| seat.who).collect();
            who.sort();
            Ok::<_, String>(who)
        })
        .into()
}
