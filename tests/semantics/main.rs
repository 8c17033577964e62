//! `SEMANTICS.md` is kept honest: every promise names the tests that prove it, and those tests exist.
//!
//! A promise is an item of a list; its tests stand behind `Test:` or `Tests:`, each in backquotes as the name of a
//! test function.

use std::collections::BTreeSet;
use std::fs;

use musicfs_tests::workspace;

/// A promise and the tests that it names.
#[derive(Debug, PartialEq)]
struct Promise {
    line: usize,
    text: String,
    tests: Vec<String>,
}

/// Reads the promises of a document: its list items, with the lines that continue them.
fn promises(document: &str) -> Vec<Promise> {
    let mut found: Vec<Promise> = Vec::new();
    let mut is_open = false;
    for (n, line) in document.lines().enumerate() {
        if let Some(text) = line.strip_prefix("- ") {
            found.push(Promise { line: n + 1, text: text.to_owned(), tests: Vec::new() });
            is_open = true;
        } else if is_open && line.starts_with("  ") {
            if let Some(promise) = found.last_mut() {
                promise.text.push(' ');
                promise.text.push_str(line.trim());
            }
        } else {
            is_open = false;
        }
    }
    for promise in &mut found {
        let marks = ["Test: ", "Tests: "];
        let named =
            marks.iter().find_map(|mark| promise.text.rsplit_once(mark)).map_or("", |(_, named)| named);
        promise.tests = named.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    }
    found
}

/// The names of all test functions in a source: those under an attribute that makes a test.
fn test_names(source: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let attribute = line.strip_prefix("#[").and_then(|rest| rest.split(['(', ']']).next());
        if attribute.is_some_and(|name| name == "test" || name.ends_with("::test")) {
            is_test = true;
        } else if let Some(at) = line.find("fn ").filter(|_| is_test && !line.starts_with("//")) {
            names.insert(line[at + 3..].split('(').next().unwrap_or_default().trim().to_owned());
            is_test = false;
        }
    }
    names
}

#[test]
fn every_promise_names_tests_that_exist() {
    let document = fs::read_to_string(workspace::root().join("SEMANTICS.md")).unwrap();
    let promises = promises(&document);
    assert!(promises.len() >= 20, "only {} promises were found", promises.len());
    let known: BTreeSet<_> = workspace::sources().iter().flat_map(|(_, source)| test_names(source)).collect();
    let mut wrong = Vec::new();
    for promise in &promises {
        if promise.tests.is_empty() {
            wrong.push(format!("SEMANTICS.md:{}: no test is named: {}", promise.line, promise.text));
        }
        for test in promise.tests.iter().filter(|test| !known.contains(*test)) {
            wrong.push(format!("SEMANTICS.md:{}: there is no test '{test}'", promise.line));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn promise_without_a_test_is_seen() {
    let document = "# T\n\ntext\n\n- Holds\n  always. Tests: `a_b`, `c_d`.\n- Nothing proves this.\n\n  not part of it\n";
    let found = promises(document);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].tests, ["a_b", "c_d"]);
    assert!(found[1].tests.is_empty());
}

#[test]
fn function_that_is_no_test_does_not_count() {
    let source = "#[test]\nfn one() {}\nfn helper() {}\n#[tokio::test(flavor = \"x\")]\nasync fn two() {}\n";
    assert_eq!(test_names(source), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
}
