//! What the macros accept, and what they say about the rest.

#[test]
fn macros_explain_what_they_cannot_do() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
