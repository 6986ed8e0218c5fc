//! Who is in a room: a set of which each node answers for its own part, and which is shown without those of nodes that are not
//! there.

use anabranch::state::MultiMap;
use anabranch::{Context, Error, Function, ReplicaId, Stream};
use serde::{Deserialize, Serialize};

/// Who is there, by the run of the node that he came in by. A run that has ended never comes back, and what it had is not shown
/// any more, by anybody; deleted it is by its own node alone, which knows for certain that it was started again.
type Room = MultiMap<(u128, u64), Seat>;

/// One coming in: who comes in twice is there until both have gone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    pub who: String,
    pub number: u64,
}

/// A run of a node, as a key.
fn run(replica: ReplicaId) -> (u128, u64) {
    (replica.node.0, replica.epoch.0)
}

/// Somebody comes in by this node.
fn enter(room: &mut Room, context: &mut Context, seat: Seat) -> Result<(), String> {
    let me = run(context.replica());
    for (of, _) in room.entries() {
        if of.0 == me.0 && of.1 < me.1 {
            room.remove(&of);
        }
    }
    room.add(&me, &seat);
    Ok(())
}

/// Somebody goes who came in by this node.
fn leave(room: &mut Room, context: &mut Context, seat: Seat) -> Result<(), String> {
    room.remove_element(&run(context.replica()), &seat);
    Ok(())
}

/// Who is there, as far as this node knows, sorted.
fn shown(room: &Room, live: &[ReplicaId]) -> Vec<String> {
    let seats = live.iter().flat_map(|replica| room.get(&run(*replica)));
    let mut who: Vec<String> = seats.map(|seat| seat.who).collect();
    who.sort();
    who.dedup();
    who
}

/// Is there for as long as the stream is open, and says each time who else is.
async fn attend(mut stream: Stream<Room, (), Vec<String>>, who: String) -> Result<(), Error> {
    let (kind, key) = (stream.entity().kind().to_owned(), stream.key().to_owned());
    let number = stream.random();
    let seat = Seat { who, number };
    // Asked for first: whoever is gone before he has come in has to leave, too.
    stream.at_end(&kind, &key, "leave", &seat)?;
    let () = stream.call(&kind, &key, "enter", &seat).await?;
    let mut last = None;
    loop {
        let live = stream.live();
        let who = shown(&*stream.state()?, &live);
        if last.as_ref() != Some(&who) {
            stream.send(&who).await?;
            last = Some(who);
        }
        stream.changed().await?;
    }
}

/// The function of rooms.
pub fn presence() -> Function {
    Function::of::<Room>("presence")
        .command("enter", enter)
        .command("leave", leave)
        .query("who", |room, context, ()| {
            Ok::<_, String>(shown(room, &context.live()))
        })
        .stream("attend", attend)
        .into()
}
