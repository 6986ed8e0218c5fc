//! Sessions: what one has seen, no node shows less of.

use super::world::{World, check, check_shards};
use crate::engine::Limits;
use crate::wire::ShardId;

#[test]
fn a_session_reads_what_it_wrote_once_that_has_come() {
    check(
        "ab",
        "link a b\n run\n cut a b\n a p/x incr 5\n token a T\n b reads p/x after T\n answers b 0\n link a b\n run\n answers b 1\n b p/x = 5
         b reads p/x after T\n answers b 1\n token b T\n a reads p/x after T\n answers a 2",
    );
}

#[test]
fn a_session_is_told_that_a_node_is_behind() {
    check(
        "ab",
        "link a b\n run\n cut a b\n a p/x incr 5\n token a T\n b reads p/x after T\n wait 999\n answers b 0\n wait 1\n refused b stale
         b p/y incr 1\n b reads p/y after T\n wait 1000\n refused b stale",
    );
}

#[test]
fn a_session_has_seen_operations_and_not_so_many_of_them() {
    // b has more operations than the session has seen, and not the one that it has seen.
    check(
        "abc",
        "link a b\n link b c\n run\n cut a b\n b p/x incr 1\n b p/x incr 1\n b p/x incr 1\n run\n a p/x incr 5\n token a T\n b reads p/x after T
         c reads p/x after T\n answers b 3\n answers c 0\n link a b\n run\n wait 500\n answers b 1\n answers c 1\n c p/x = 8",
    );
}

#[test]
fn a_session_waits_for_the_shards_that_it_asks_about() {
    // x and y are in different shards: what was seen of x does not hold up y.
    let world = check_shards(
        "ab",
        64,
        Limits::default(),
        "link a b\n run\n cut a b\n a p/x incr 5\n token a T\n b p/y incr 1\n b reads p/y after T\n answers b 2",
    );
    let shard = |entity: &str| {
        let (kind, key) = entity.split_once('/').unwrap();
        world
            .engine('a')
            .shard_of(&crate::wire::EntityId::new(kind, key).unwrap())
    };
    assert_ne!(shard("p/x"), shard("p/y"));
}

#[test]
fn a_read_of_everything_waits_for_all_that_its_session_has_seen() {
    // x and y are in different shards.
    check_shards(
        "ab",
        64,
        Limits::default(),
        "link a b\n run\n cut a b\n a p/x incr 5\n token a T\n b p/y incr 1\n token b U\n b reads all after U\n answers b 2
         b reads all after T\n answers b 0\n link a b\n run\n answers b 1\n b p/x = 5\n b reads all after T\n token b T
         cut a b\n a p/x incr 1\n token a T\n b reads all after T\n wait 1000\n refused b stale",
    );
}

#[test]
fn a_session_of_another_cluster_is_refused() {
    let mut small = check("a", "a p/x incr 1");
    let mut large = check_shards(
        "a",
        64,
        Limits::default(),
        "a p/x incr 1\n a p/y incr 1\n a p/z incr 1\n token a T",
    );
    small.take_tokens(&mut large);
    small.script("a reads p/x after T\n refused a invalid\n a reads all after T\n refused a invalid");
}

/// Why tokens are whole: what every member is known to have durably cannot be left out of one (`Engine::token`). In each of the
/// following schedules c has caught up with another node, so that no rule for joiners keeps it from answering; what T names makes it
/// wait for what it lacks; and once that is left out it answers without.
#[track_caller]
fn shows_less_if_the_stable_is_left_out(mut world: World) {
    assert!(
        world.engine('c').counts_for_majorities(ShardId(0)),
        "it has caught up"
    );
    world.script("c reads p/x after T\n answers c 0");
    world.script("forget a T\n c reads p/x after T\n answers c 1\n c p/x absent");
}

#[test]
fn a_node_that_has_joined_by_another_is_known_to_whom_that_one_is_linked_with() {
    let mut world = check(
        "ab",
        "link a b\n run\n a p/y incr 1\n run\n sync a\n sync b\n wait 2000",
    );
    // c has joined by b, and a hears of it: what a and b agree on then not all members have.
    world.join_later("c");
    world.script("link b c\n run\n sync c\n wait 2000\n c p/y = 1\n cut b c");
    world.script("a p/x incr 5\n token a T\n run\n sync a\n sync b\n wait 2000");
    world.script("forget a T\n c reads p/x after T\n answers c 0\n c p/x absent");
}

#[test]
fn two_that_have_lost_what_they_had_catch_up_with_one_another() {
    let all = "link a b\n link a c\n link b c\n run\n a p/x incr 5\n token a T\n run\n sync a\n sync b\n sync c\n wait 2000";
    // Whatever a and the session know of b and c was true of directories that are gone.
    let world = check(
        "abc",
        &format!(
            "{all}\n wipe b\n wipe c\n start b\n start c\n link b c\n run\n sync b\n sync c\n wait 2000"
        ),
    );
    shows_less_if_the_stable_is_left_out(world);
}

#[test]
fn two_that_have_an_older_disk_catch_up_with_one_another() {
    let mut world = check(
        "abc",
        "link a b\n link a c\n link b c\n run\n a p/y incr 1\n run\n sync a\n sync b\n sync c\n wait 2000",
    );
    let copies = ['b', 'c'].map(|name| (name, world.directory(name).clone()));
    world.script("a p/x incr 5\n token a T\n run\n sync a\n sync b\n sync c\n wait 2000\n crash b\n crash c");
    for (name, copy) in copies {
        *world.directory(name) = copy;
    }
    world.script("start b\n start c\n link b c\n run\n sync b\n sync c\n wait 2000\n c p/y = 1");
    shows_less_if_the_stable_is_left_out(world);
}

#[test]
fn a_whole_token_asks_nobody() {
    // The price of any rule by which a node had to prove that it has the stable: one that has started alone, with all on its disk,
    // would have to refuse.
    check(
        "abc",
        "link a b\n link a c\n link b c\n run\n a p/x incr 5\n token a T\n run\n sync a\n sync b\n sync c\n wait 2000
         crash a\n crash b\n crash c\n start c\n c reads p/x after T\n answers c 1\n c p/x = 5",
    );
}
