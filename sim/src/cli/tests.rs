use super::*;

fn check(line: &str, expect: Result<Command, &str>) {
    let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match (parse(&args), expect) {
        (Ok(got), Ok(must)) => assert_eq!(got, must, "{line}"),
        (Err(got), Err(part)) => assert!(got.contains(part), "{line}: {got}"),
        (got, must) => panic!("{line}: {got:?}, must be {must:?}"),
    }
}

#[test]
fn the_command_line_is_understood_or_explained() {
    let run = Search::default();
    check("run", Ok(Command::Run(run.clone())));
    check(
        "run --seeds 3..9 -j 2",
        Ok(Command::Run(Search {
            span: Span::Seeds(3..9),
            jobs: 2,
            ..run.clone()
        })),
    );
    check(
        "run --minutes 2 --json",
        Ok(Command::Run(Search {
            span: Span::Minutes(2),
            json: true,
            ..run
        })),
    );
    check("run --seeds 9..3", Err("A below B"));
    check("run --seeds 9", Err("A..B"));
    check("run -j 0", Err("at least 1"));
    check("replay", Err("wants a number"));
    check("replay x", Err("not \"x\""));
    check("doctor --seeds 1..3", Ok(Command::Doctor(1..3)));
    check("mutants --only", Err("wants a name"));
    check("fly", Err("no command"));
    check("", Err("missing"));
}

#[test]
fn wrong_usage_has_its_exit_code() {
    assert_eq!(main(&["fly".to_owned()]), exit::USAGE);
}

#[test]
fn json_strings_are_escaped() {
    assert_eq!(
        search::quoted("a \"b\" \\ \n \u{1} é"),
        r#""a \"b\" \\ \n \u0001 é""#
    );
}
