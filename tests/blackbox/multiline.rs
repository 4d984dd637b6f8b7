//! Events of several lines, and what is not complete at a file's end.

use crate::harness::Site;

fn site(multiline: &str, flush_after: &str) -> Site {
    let site = Site::new();
    site.config(&format!(
        "- name: a/b\n  files: {{ root: logs, flush_after: {flush_after}, multiline: {multiline} }}\n  sink: out"
    ));
    site
}

const BY_DATE: &str = r"{ start: '^\d{4}-\d\d-\d\d ' }";

#[test]
fn stack_traces_are_joined_to_their_events() {
    let site = site(BY_DATE, "5s");
    let event = |number: u64| match number % 3 {
        0 => format!("2026-01-02 {number} failed\n\tat a.B({number})\r\n\n\tat c.D"),
        _ => format!("2026-01-02 {number} fine"),
    };
    let events: Vec<_> = (0..5000).map(event).collect();
    site.write("logs/a.log", events.join("\n") + "\n");
    site.run().assert_counts("a/b", [5000, 5000, 0, 0]);
    assert_eq!(site.contents("a/b"), events);
}

#[test]
fn an_event_goes_on_while_it_is_written_and_ends_when_it_is_quiet() {
    let site = site(BY_DATE, "2s");
    site.write("logs/a.log", "2026-01-02 one\n");
    let mut agent = site.start();
    agent.wait_to_say("running");
    site.append("logs/a.log", "  more of one\n2026-01-02 two\n  more");
    agent.wait_for_lines("a/b", 2);
    // Quiet for long enough: what comes now is an event by itself, and not glued to the next.
    site.append("logs/a.log", " of two?\n2026-01-02 three\n2026-01-02 four\n");
    agent.wait_for_lines("a/b", 5);
    agent.stop().assert_counts("a/b", [5, 5, 0, 0]);
    assert_eq!(
        site.contents("a/b"),
        ["2026-01-02 one\n  more of one", "2026-01-02 two\n  more", " of two?", "2026-01-02 three", "2026-01-02 four"]
    );
}

#[test]
fn an_event_that_is_not_complete_is_not_settled() {
    let site = site(BY_DATE, "1h");
    site.write("logs/a.log", "2026-01-02 one\n2026-01-02 two\n");
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 1);
    agent.stop().assert_counts("a/b", [1, 1, 0, 0]);
    site.append("logs/a.log", "  more of two\n");
    site.run().assert_counts("a/b", [1, 1, 0, 0]);
    assert_eq!(site.contents("a/b"), ["2026-01-02 one", "2026-01-02 two\n  more of two"]);
}

#[test]
fn by_the_line_that_ends_them_and_by_those_that_go_on() {
    for (rule, log, events) in [
        ("{ end: ';$' }", "a\nb;\nc;\nd\n", &["a\nb;", "c;", "d"][..]),
        (r"{ start: '^E', continue: '^\s' }", "E\n 1\nplain\n 2\nE\n", &["E\n 1", "plain", " 2", "E"]),
        ("{ start: '^E', max_lines: 2 }", "E\n1\n2\n3\n4\n", &["E\n1", "2\n3", "4"]),
    ] {
        let site = site(rule, "5s");
        site.write("logs/a.log", log);
        site.run().assert_counts("a/b", [events.len() as u64, events.len() as u64, 0, 0]);
        assert_eq!(site.contents("a/b"), events, "{rule}");
    }
}

#[test]
fn a_line_without_its_end_is_shipped_when_its_file_is_quiet() {
    let site = Site::new();
    site.config("- name: a/b\n  files: { root: logs, flush_after: 100ms }\n  sink: out");
    site.write("logs/a.log", "one\ntwo");
    let mut agent = site.start();
    agent.wait_for_lines("a/b", 2);
    // Only its end comes, which is no event, and then another line.
    site.append("logs/a.log", "\r\nthree\n");
    agent.wait_for_lines("a/b", 3);
    agent.stop().assert_counts("a/b", [3, 3, 0, 0]);
    assert_eq!(site.contents("a/b"), ["one", "two", "three"]);
}
