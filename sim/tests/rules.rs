//! The races that the replication rules protect against, each as a script of two or three real engines.
//!
//! After every step every oracle looks: above all that a replica's state is what its version vector says. The lines
//! `shows` and `covers` pin the moment that would go wrong.

use anabranch_sim::trio::{check, check_strangers, check_with, limits, no_ring};

/// `put e.a (1); put f.x (2); put e.b (3)`: with a slot per entity instead of per dot, a batch cut at 2 would skip e,
/// whose one slot is 3, and a would be lost for good.
#[test]
fn slot_per_dot() {
    check(
        "link a-b
         talk a-b
         a: add tags/g z           # under way: what follows gathers behind it
         a: add tags/e a
         a: add tags/f x
         a: add tags/e b
         wait 5
         a>b 1
         b covers a.1:1
         wait 5
         a>b 1                     # cut by its budget, behind f.x
         b covers a.1:3
         b shows tags/e [a]
         b shows tags/f [x]
         wait 5
         a>b
         b covers a.1:4
         b shows tags/e [a b]
         same a b",
    );
}

/// `put p (1); overwrite p (2)`: a batch that ends at 1 would cover 1 and show nothing, while a peer with the same
/// vector shows p.
#[test]
fn clean_cut() {
    check(
        "link a-b
         talk a-b
         a: add tags/g z
         a: set profile/e 1
         a: incr visits/e 1
         a: incr visits/f 1
         a: set profile/e 2
         wait 5
         a>b 1
         wait 5
         a>b 1                     # by its budget it would end between the two writes of e, and may not
         b covers a.1:1
         b shows profile/e nothing
         a>b
         b covers a.1:5
         b shows profile/e 2
         same a b",
    );
}

/// A whole update or nothing of it, however small the parts.
#[test]
fn a_commit_is_never_visible_in_part() {
    check(
        "link a-b
         talk a-b
         a: add tags/e a b c d e f g h i j and incr visits/e 3 and set profile/e 9
         wait 5
         a>b 1                     # the first part of several
         b covers
         b shows tags/e nothing
         a>b
         b covers a.1:12
         b shows tags/e [a b c d e f g h i j]
         b shows visits/e 3",
    );
}

/// `A puts p (A1) -> B; B overwrites (B1) -> A; A sends (0,1] to C`: C would cover A1 and show nothing, though nobody
/// removed it.
#[test]
fn deps() {
    check(
        "link a-b
         talk a-b
         a: set profile/e 1
         talk a-b
         b: set profile/e 2
         talk a-b
         cut a-b
         link a-c
         c>a
         a>c 1
         c>a
         a>c
         c>a
         wait 5
         a>c
         talk a-c
         c shows profile/e 2
         same a b c",
    );
}

/// `A puts p (A1) -> B; A overwrites (A2), A1 not named`: B would hold both for ever.
#[test]
fn kills_of_puts() {
    check(
        "link a-b
         talk a-b
         a: set profile/e 1
         a: add tags/e x
         talk a-b
         a: set profile/e 2
         a: add tags/e x           # a re-add supersedes too
         talk a-b
         a: remove tags/e x
         talk a-b
         b shows profile/e 2
         b shows tags/e []
         same a b",
    );
}

/// `A puts p (A1) -> C; A removes (A2); B gets (0,2] with no effect and no slot; C pulls from B`: C would cover A2 and
/// keep p for ever.
#[test]
fn record_no_ops() {
    check(
        "link a-c
         talk a-c
         a: add tags/e x
         talk a-c
         cut a-c
         a: remove tags/e x
         link a-b
         talk a-b
         cut a-b
         link b-c
         talk b-c
         c covers a.1:2
         c shows tags/e []
         same a b c",
    );
}

/// `B trimmed C1, removes p = C1; A covers no C`: without its base in the deps A would accept B1, take C1 later, and p
/// would rise again.
#[test]
fn deps_above_base() {
    check_with(
        no_ring(),
        "link b-c
         talk b-c
         c: add tags/e x
         c: add tags/f y
         c: add tags/g z           # b's ring of c holds one slot
         talk b-c
         b: remove tags/e x
         cut b-c
         link a-b
         b>a
         a>b
         b>a
         wait 3
         b>a
         cut a-b                   # whatever came through so far
         link a-c
         talk a-c                  # c never heard of the removal
         link a-b
         talk a-b a-c
         a shows tags/e []
         same a b c",
    );
}

/// `A puts p -> B; B overwrites (B1, unsynced); C pulls A's stream from B and gets B1 ahead of its vector; B crashes, B1
/// is lost`: no vector would ever cover B1. A pull is atomic over all origins.
#[test]
fn a_pull_advances_all_origins_at_once() {
    check(
        "link a-b
         talk a-b
         a: set profile/e 1
         talk a-b
         cut a-b
         b: set profile/e 2
         link b-c
         c>b
         b>c
         c>b
         b>c
         crash b                   # what c has not got by now is lost
         start b
         link b-c
         link a-b
         talk a-b b-c
         same a b c",
    );
    check(
        "link a-b
         talk a-b
         a: set profile/e 1
         talk a-b
         cut a-b
         b: set profile/e 2
         link b-c
         talk b-c                  # c has it, and so has b again after its crash
         c shows profile/e 2
         crash b
         start b
         link b-c
         link a-b
         talk a-b b-c
         a shows profile/e 2
         same a b c",
    );
}

/// `A puts p -> C; A overwrites p`: a snapshot that were a union of items would show both for ever.
#[test]
fn a_snapshot_has_a_context() {
    check_with(
        no_ring(),
        "link a-c
         talk a-c
         a: set profile/e 1
         a: add tags/e x
         talk a-c
         cut a-c
         a: set profile/e 2
         a: remove tags/e x
         a: incr visits/e 1        # all above is below a's base now
         link a-c
         talk a-c
         c counted snapshots_installed
         c shows profile/e 2
         c shows tags/e []
         same a c",
    );
}

/// `B puts p -> A; B removes it, no row left; the snapshot from B lists nothing of it`: A would keep p, covered. A part
/// is complete for its range. And what A has made itself meanwhile stays.
#[test]
fn a_snapshot_is_complete_for_its_range() {
    check_with(
        no_ring(),
        "link a-b
         talk a-b
         b: add tags/f x y
         b: add tags/g z
         talk a-b
         cut a-b
         b: clear tags/f
         b: remove tags/g z
         b: incr visits/e 1
         a: add tags/e w           # b knows nothing of it
         link a-b
         talk a-b
         a counted snapshots_installed
         a shows tags/f []
         a shows tags/g []
         a shows tags/e [w]
         b shows tags/e [w]
         same a b",
    );
}

/// `B puts p; snapshot B -> C; A pulls from C, whose ring is empty`: A would cover B1 and show nothing. After a
/// snapshot the base is where the vector is.
#[test]
fn a_snapshot_moves_the_base() {
    check_with(
        no_ring(),
        "link b-c
         talk b-c
         cut b-c
         b: add tags/e x
         b: add tags/f y
         b: add tags/g z
         link b-c
         talk b-c
         c counted snapshots_installed
         cut b-c
         link a-c
         talk a-c
         a covers b.1:3
         a shows tags/e [x]
         same a b c",
    );
}

/// `session at {A:1} with p = A1; A overwrites (A2, unsynced); p is shipped now: nothing alive up to A1; A crashes`: the
/// receiver would cover A1 and have lost p.
#[test]
fn a_snapshot_shows_one_moment() {
    check_with(
        no_ring(),
        "a: set profile/e 1
         a: set profile/f 1
         a: set profile/g 1
         a: add tags/e a b c d
         a: add tags/f a b c d
         sync a
         link a-c
         talk a-c until a counted snapshots_served
         a: set profile/e 2        # while the session is open
         a: set profile/f 2
         a: remove tags/f a
         a>c
         c>a
         a>c
         c>a
         a>c
         crash a                   # nothing since was synced
         start a
         link a-b
         link a-c
         talk a-b a-c
         same a b c",
    );
}

/// A transfer that breaks leaves no trace.
#[test]
fn a_broken_snapshot_leaves_no_trace() {
    check_with(
        no_ring(),
        "a: add tags/e a b c d
         a: add tags/f a b c d
         a: add tags/g a b c d
         sync a
         link a-c
         talk a-c until a counted snapshots_served
         a>c 1                     # the first part of several
         c>a
         a>c 1
         c covers
         c shows tags/e nothing
         crash c
         start c
         c covers
         link a-c
         talk a-c
         c shows tags/g [a b c d]
         same a c",
    );
}

/// `A: x@3 (A1); B: y@1 (B1), concurrent`: a loser that were dropped on arrival would make what is visible depend on the
/// order of delivery. That it stays alive, the oracles see; that all agree, the script does.
#[test]
fn registers_keep_losers() {
    check(
        "a: set profile/e 3 clock 3
         b: set profile/e 1 clock 1
         link a-b
         talk a-b
         b shows profile/e 3
         cut a-b
         link a-c
         a>c
         c>a
         a>c
         talk a-c
         c: set profile/e 7
         talk a-c
         link a-b
         talk a-b a-c
         b shows profile/e 7
         same a b c",
    );
}

/// What a node wrote in an earlier epoch and lost comes back to it from its peers like any stream; its new epoch counts
/// anew, and its counters neither lose nor double.
#[test]
fn old_epochs_come_back_as_foreign_streams() {
    check(
        "link a-b
         talk a-b
         a: incr stock/e 5
         sync a
         a: incr stock/e -2
         wait 5
         a>b
         b shows stock/e 3
         crash a                   # the second was not synced
         start a
         a shows stock/e 5
         a: incr stock/e 10
         link a-b
         talk a-b
         a shows stock/e 13
         a covers a.1:2 a.2:1
         same a b",
    );
}

/// A clock that went back and a restored image: the new epoch is below one that the peers know. The node is fenced, takes
/// a higher one, and nothing it writes is lost.
#[test]
fn a_fenced_node_takes_a_higher_epoch() {
    check(
        "link a-b
         talk a-b
         a: incr stock/e 1
         talk a-b
         backup a
         crash a
         clock a 3600000
         start a
         link a-b
         talk a-b
         a: incr stock/e 10
         talk a-b
         crash a
         restore a
         clock a -3600000
         start a
         link a-b                  # b knows a higher epoch, says so and hangs up
         a counted fenced
         link a-b
         talk a-b
         a: incr stock/e 100
         talk a-b
         b shows stock/e 111
         same a b",
    );
}

/// Dots of an update with a key do not leave before the key is durable: otherwise a repeat after a crash counts twice.
#[test]
fn the_same_key_again_after_a_crash_between_push_and_sync() {
    check(
        "link a-b
         talk a-b
         a: incr stock/e 5 key k
         wait 10
         a>b
         crash a                   # neither the update nor its key was synced
         start a
         link a-b
         talk a-b
         a: incr stock/e 5 key k
         talk a-b
         a: incr stock/e 5 key k   # and now it is known
         talk a-b
         a shows stock/e 5
         b shows stock/e 5",
    );
}

/// The same with its key synced: found again after the restart.
#[test]
fn a_key_is_found_again_after_a_restart() {
    check(
        "a: incr stock/e 5 key k
         sync a
         crash a
         start a
         a: incr stock/e 5 key k
         a shows stock/e 5",
    );
}

/// An empty directory takes no writes until it has caught up with somebody, however often it is started.
#[test]
fn an_empty_directory_takes_no_writes() {
    check_strangers(
        "a refuses incr stock/e 1
         crash a
         start a
         a refuses incr stock/e 1
         link a-b
         talk a-b
         a: incr stock/e 1",
    );
    check(
        "a: incr stock/e 1
         link a-b
         talk a-b
         crash a
         lose a
         start a
         a refuses incr stock/e 1
         crash a
         start a
         a refuses incr stock/e 1
         link a-b
         talk a-b
         a: incr stock/e 1
         a shows stock/e 2",
    );
}

/// A-B, B-C, never A-C: everything passes through the middle.
#[test]
fn a_non_transitive_link_heals_through_the_third() {
    check(
        "link a-b
         link b-c
         talk a-b b-c
         a: add tags/e x
         c: add tags/e y
         a: incr stock/e 1
         c: incr stock/e 2
         talk a-b b-c
         same a b c
         c: remove tags/e x
         talk a-b b-c
         a shows tags/e [y]
         a shows stock/e 3",
    );
}

/// Batches that come twice, also after later ones, have no effect.
#[test]
fn a_copy_has_no_effect() {
    check(
        "link a-b
         talk a-b
         a: incr visits/e 5
         wait 5
         a>b copy
         b shows visits/e 5
         a>b copy
         a>b
         b shows visits/e 5
         talk a-b
         same a b",
    );
}

/// A batch that begins behind what is here is not taken, whatever is lost: it is pulled.
#[test]
fn a_gap_is_pulled() {
    check(
        "link a-b
         talk a-b
         a: add tags/e x
         wait 5
         drop a>b
         a: add tags/e y
         wait 5
         a>b
         b covers
         talk a-b
         b covers a.1:2
         b counted pulls_sent
         same a b",
    );
}

/// With the limits that users have, too.
#[test]
fn default_bounds() {
    check_with(
        anabranch::Limits {
            part_bytes: anabranch::Limits::default().part_bytes,
            ..limits()
        },
        "link a-b
         link b-c
         talk a-b b-c
         a: add tags/e a b c and set profile/e 1
         b: remove tags/e a
         c: set profile/e 2 clock 1
         talk a-b b-c
         same a b c",
    );
}
