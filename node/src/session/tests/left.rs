//! A function's own commits, where nobody else has changed the entity meanwhile.

use std::sync::Arc;

use anabranch_crdt::Clock;

use super::*;

fn words() -> Config {
    Config::new(NodeId(1), entity(), Type::OrSet)
}

/// A map of registers, whose function has written `k` with this clock and then with that one.
fn written(clocks: [u64; 2]) -> World {
    let mut world = check_with(Config::new(NodeId(1), entity(), Type::RegisterMap), "");
    for (id, clock) in (1..).map(CommandId).zip(clocks) {
        let command = Command {
            method: "m".into(),
            payload: payload(),
            deadline: world.now.after_ms(1_000),
            origin: Default::default(),
        };
        world.give(Input::Command { id, command });
        let set = Mutation::Set {
            value: clock.to_string().into(),
            clock: Clock::Custom(clock),
        };
        let update = Mutation::Update {
            key: "k".into(),
            ty: None,
            mutation: Box::new(set),
        };
        let reply = Reply {
            state: State::Update(vec![update]),
            ..world.reply("0", Action::Reply(payload()), &[])
        };
        let (stream, said) = (StreamId(1), Said::Reply(Reply { command: id, ..reply }));
        world.said.clear();
        world.give(Input::Said { stream, said });
        world.join();
    }
    world
}

#[test]
fn a_write_of_its_own_that_lost_is_told_to_it() {
    let told = |world: World| world.said.iter().any(|said| said.starts_with("delta"));
    assert!(!told(written([5, 6])));
    let world = written([6, 5]);
    let said = world.said.join("; ");
    assert!(said.contains("Register(Some(b\"6\"))"), "{said}");
}

#[test]
fn what_a_commit_goes_by_is_kept_by_nobody_else() {
    let world = check_with(
        words(),
        "command 1       => init nothing; command 1 nothing
         reply 1 add a   => commit 1 local
         join
         command 2       => command 2 [a]
         reply 2 add b   => commit 2 local",
    );
    let Some(seen) = &world.commits[0].3.value else {
        panic!("there was something to see");
    };
    // The entity's own, and the commit's: who gives that up lets the entity be changed in place.
    assert_eq!(Arc::strong_count(seen), 2);
}

#[test]
fn a_change_by_others_that_came_before_its_commit_is_told_with_it() {
    check_with(
        words(),
        "other add a      =>
         command 1        => init [a]; command 1 [a]
         other add b      =>
         reply 1 add c    => commit 1 local
         join             => delta -[] +[b]
         command 2        => command 2 [a b c]
         reply 2 remove a => commit 2 local
         other add d      =>
         join             => delta -[] +[d]
         sync             => answer 1; answer 2",
    );
}

#[test]
fn a_change_by_others_that_came_behind_its_commit_is_told() {
    check_with(
        words(),
        "command 1        => init nothing; command 1 nothing
         reply 1 add a    => commit 1 local
         join             =>
         command 2        => command 2 [a]
         reply 2 add b    => commit 2 local
         join             =>
         other add c      => delta -[] +[c]
         other remove a   => delta -[a] +[]
         sync             => answer 1; answer 2",
    );
}

/// What a function hears that has made votes in a map.
fn votes(script: &str) -> Vec<String> {
    let config = Config::new(NodeId(1), entity(), None);
    let mut world = check_with(config, "");
    let mut deltas = Vec::new();
    for line in script.lines().map(str::trim) {
        world.said.clear();
        world.happens(&line.split_whitespace().collect::<Vec<_>>());
        let told = world
            .said
            .iter()
            .filter_map(|said| said.strip_prefix("delta ").map(str::to_owned));
        deltas.extend(told);
    }
    deltas
}

#[test]
fn who_votes_in_a_map_is_told_how_many_there_are() {
    let ballots = |key: &str| {
        let me = "NodeId(00000000000000000000000000000001)";
        format!("Map {{ removed: [], updated: [(b\"{key}\", Ballots({{{me}: true}}))], added: [] }}")
    };
    let first = "command 1
         reply 1 vote in v vote as ormap
         join";
    assert_eq!(votes(first), [ballots("v")]);
    // Of one beside others, of that alone; also where it is deep within.
    let second = format!(
        "{first}
         command 2
         reply 2 vote in w vote as ormap
         join
         command 3
         reply 3 vote in x vote in y ormap as ormap
         join
         command 4
         reply 4 incr 1 in n pncounter as ormap
         join"
    );
    let deep = ballots("x").replace("Map {", "[(b\"y\", Map {");
    let deep = format!("Map {{ removed: [], updated: {deep})], added: [] }}");
    assert_eq!(votes(&second), [ballots("v"), ballots("w"), deep]);
    // And where others have changed it meanwhile.
    let others = votes(
        "other incr 1 in n pncounter as ormap
         command 1
         other incr 1 in n pncounter as ormap
         reply 1 vote in v vote as ormap
         join",
    );
    let count = "Map { removed: [], updated: [(b\"n\", Count(1))], added: [] }";
    assert_eq!(others, [count.to_owned(), ballots("v")]);
}
