use super::*;

#[test]
fn frames_wait_until_a_line_lets_them_through() {
    check(
        "link a-b
         talk a-b
         a: add tags/e x
         b shows tags/e nothing
         a>b
         b shows tags/e [x]
         b covers a.1:1
         same a b",
    );
}

#[test]
#[should_panic(expected = "line 3: b shows tags/e [x]")]
fn an_expectation_that_fails_names_its_line() {
    check("link a-b\n a: add tags/e x\n b shows tags/e [x]");
}

#[test]
#[should_panic(expected = "this line means nothing")]
fn a_line_without_meaning_is_no_comment() {
    check("a do something");
}
