use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use weir_plugin::Kind;
use weir_plugin::testing::{TestEvent, golden, ndjson, run};
use weir_plugin_regex::Pattern;

use super::{Grok, expand, library::Library};

fn one(pattern: &str, line: &str) -> TestEvent {
    run::<Grok>(&json!({ "pattern": pattern }).to_string(), &[line])
        .unwrap_or_else(|e| panic!("{pattern}: {e}"))
        .remove(0)
}

fn expect(pattern: &str, line: &str, expected: &[(&str, &str)]) {
    let event = one(pattern, line);
    assert_eq!((event.pairs().as_slice(), event.error.as_deref()), (expected, None), "{pattern} {line}");
}

fn library() -> Library {
    Library::new(false, BTreeMap::new()).unwrap()
}

#[test]
fn golden_files() {
    golden::<Grok>("grok", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn fields_types_and_named_groups() {
    let event =
        one("%{WORD:word} %{NUMBER:n:int} %{NUMBER:f:float} %{WORD:b:boolean} (?<own>x+)", "> a 1 2.5 true xx <");
    let kinds: Vec<_> = event.cells.iter().map(|(n, k, v)| (n.as_str(), *k, v.as_str())).collect();
    let expected = [
        ("word", Kind::Text, "a"),
        ("n", Kind::Integer, "1"),
        ("f", Kind::Float, "2.5"),
        ("b", Kind::Boolean, "true"),
        ("own", Kind::Text, "xx"),
    ];
    assert_eq!(kinds, expected);
    expect("%{INT:[a][b]}-%{INT:[c]}-%{INT:d.e}", "1-2-3", &[("a.b", "1"), ("c", "2"), ("d.e", "3")]);
    expect("%{INT:a}|%{WORD:a}", "x", &[("a", "x")]);
    expect("%{DATA:empty} %{INT:a}", " 1", &[("a", "1")]);
}

#[test]
fn a_process_id_of_rfc_5424_is_a_number_if_it_is_one() {
    for (ecs, field) in [(false, "syslog5424_proc"), (true, "process.pid")] {
        for (id, value) in [("8710", "8710"), ("main-1", r#""main-1""#)] {
            let settings = json!({"pattern": "^%{SYSLOG5424LINE}$", "ecs": ecs}).to_string();
            let event = format!(r#"{{"content":"<165>1 2003-10-11T22:14:15Z web app {id} ID47 - hi"}}"#);
            let out = ndjson::<Grok>("grok", &settings, &[&event]).unwrap().remove(0);
            assert!(out.contains(&format!(r#","{field}":{value},"#)), "{out}");
        }
    }
}

#[test]
fn patterns_of_the_library() {
    for (name, yes, no) in [
        (
            "IP",
            "10.0.0.1|255.255.255.255|2001:db8::1|::|::1|1:2:3:4:5:6:7:8|fe80::1%eth0|::ffff:10.0.0.1|1::",
            "10.0.0|1:2:3:4:5:6:7|256.1.1.1|12:34:56|x",
        ),
        ("NUMBER", "1|-1.5|+.5|0", "x|1.|"),
        ("BASE16NUM", "0xdeadBEEF|-1f|00", "xyz"),
        ("QUOTEDSTRING", r#""a b"|'it'|"say \"x\"""#, r#""a|a""#),
        ("UUID", "123e4567-e89b-12d3-a456-426614174000", "123e4567-e89b-12d3-a456-42661417400"),
        ("MAC", "00:1B:44:11:3a:b7|00-1B-44-11-3A-B7|001b.4411.3ab7", "00:1B:44:11:3a"),
        ("HOSTNAME", "a|web-1.example.com|xn--a.", "-a|_x"),
        ("EMAILADDRESS", "jo.x@example.com", "jo@|@x"),
        ("PATH", "/var/log/a-b.log|C:\\x\\y.log|/", "a/b"),
        ("URI", "https://a.example:8443/x/y?q=1&b=%20|http://u:p@h/|ftp://x", "a/b|://x"),
        ("TTY", "/dev/pts/0|/dev/tty1", "/dev/null"),
        ("MONTH", "Jan|january|May|Mar|Oct|Dec|September|März", "Foo|Janu"),
        ("TIME", "12:34:56|1:02:03.5|23:59:60", "24:00:00|12:60:00|12:34"),
        (
            "TIMESTAMP_ISO8601",
            "2024-05-01T12:00:00Z|2024-05-01 12:00:00,123+02:00|2024-05-01T12:00",
            "2024-13-01T12:00:00Z|2024-05-01",
        ),
        ("HTTPDATE", "01/May/2024:12:00:00 +0000", "01/Foo/2024:12:00:00 +0000"),
        ("SYSLOGTIMESTAMP", "May  1 12:00:00|Dec 31 23:59:59", "2024 May 1"),
        ("DATESTAMP_RFC2822", "Wed, 01 May 2024 12:00:00 +0000", "01 May 2024"),
        ("DATESTAMP", "05/01/2024 12:00:00|01.05.2024-12:00:00", "5 May"),
        ("LOGLEVEL", "INFO|warn|Warning|ERROR|err|notice|CRITICAL|EMERGENCY", "fine"),
        ("JAVACLASS", "com.example.Main|A$b", "1a"),
        ("WORD", "a_1", " |-"),
        ("POSINT", "1|90", "0|-"),
        ("UNIXPATH", "/a", "a"),
    ] {
        let pattern = format!("^%{{{name}:all}}$");
        for text in yes.split('|') {
            expect(&pattern, text, &[("all", text)]);
        }
        for text in no.split('|') {
            assert!(one(&pattern, text).error.is_some(), "{name}: {text}");
        }
    }
}

#[test]
fn each_pattern_of_both_sets_compiles() {
    for ecs in [false, true] {
        let library = Library::new(ecs, BTreeMap::new()).unwrap();
        assert!(library.names().count() > 110);
        for name in library.names() {
            for fast in [false, true] {
                let expanded =
                    expand(&format!("%{{{name}:all}}"), &library, fast).unwrap_or_else(|e| panic!("{name}: {e}"));
                Pattern::new(&expanded.regex, false).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
    }
}

#[test]
fn usual_lines_are_scanned_or_read_in_one_pass() {
    for (pattern, scanned) in [
        ("%{COMBINEDAPACHELOG}", true),
        ("^%{COMMONAPACHELOG} %{NOTSPACE:upstream}$", true),
        ("%{SYSLOGLINE}", false),
        (r"%{TIMESTAMP_ISO8601:time} \[%{LOGLEVEL:level}\] %{IP:peer} %{GREEDYDATA:message}", false),
    ] {
        let narrow = expand(pattern, &library(), true).unwrap();
        let fast = Pattern::at_start(&narrow.regex, false).unwrap();
        assert_eq!(fast.map(|fast| fast.is_scanned()), Some(scanned), "{pattern}");
    }
}

#[test]
fn other_engines_syntax_is_translated() {
    expect("(?>a|ab)(?<c>c|bc)", "abc", &[("c", "bc")]);
    expect(r"^a++(?<b>\h*+)\Z", "aabeef", &[("b", "beef")]);
    expect(r"(a)(b)(?<c>c)(?#a comment)", "abc", &[("c", "c")]);
    expect(r"(?'c'[\h<>-]+)\<", "<aF->< x", &[("c", "<aF->")]);
    expect("(?m:a.(?<b>b))", "a\nb", &[("b", "b")]);
    expect("(?i)A(?<b>[[:alpha:]]x]?)", "aBx]", &[("b", "Bx]")]);
    expect(r"[]a](?<b>[^]]+)", "]x", &[("b", "x")]);
    expect(r"100%(?<b>\d)", "100%1", &[("b", "1")]);
}

#[test]
fn own_definitions_come_first() {
    let settings = r#"{"pattern":"%{ORDER:order} %{WORD:w}","definitions":{"ORDER":"o%{INT}","WORD":"[a-z]"}}"#;
    assert_eq!(run::<Grok>(settings, &["o12 ab"]).unwrap()[0].pairs(), [("order", "o12"), ("w", "a")]);
    // The narrower form of the library's pattern would not know it.
    let changed = r#"{"pattern":"%{COMMONAPACHELOG}","definitions":{"USER":"[a-z@-]+"}}"#;
    let line = r#"10.0.0.1 - jo@x [01/May/2024:12:00:00 +0000] "GET / HTTP/1.1" 200 5"#;
    assert_eq!(run::<Grok>(changed, &[line]).unwrap()[0].get("auth"), Some("jo@x"));
}

#[test]
fn the_field_and_the_time() {
    let settings =
        r#"{"field":"message","patterns":["%{INT:ts} %{GREEDYDATA:message}"],"time":{"field":"ts","format":"unix"}}"#;
    let events = [r#"{"a":1,"message":"1 hello","b":true}"#, r#"{"message":"hello"}"#, r#"{"a":1}"#];
    assert_eq!(
        ndjson::<Grok>("grok", settings, &events).unwrap(),
        [
            r#"{"a":1,"b":true,"ts":"1","message":"hello","__time__":"1970-01-01T00:00:01Z"}"#,
            r#"{"message":"hello","__error__":"grok: no pattern matches"}"#,
            r#"{"a":1,"__error__":"grok: no field `message`"}"#,
        ]
    );
}

#[test]
fn wrong_settings_are_refused_by_pattern_and_feature() {
    let long = "x".repeat(1000);
    let bomb: BTreeMap<_, _> = (0..40).map(|i| (format!("B{i}"), format!("%{{B{0}}}%{{B{0}}}{long}", i + 1))).collect();
    for (settings, expected) in [
        (json!({}), "give a pattern, or several patterns"),
        (json!({"pattern": "a", "patterns": ["b"]}), "give either pattern or patterns, not both"),
        (json!({"pattern": "%{WORD}"}), "pattern: `%{WORD}` has no field, such as `%{NUMBER:status}`"),
        (json!({"patterns": ["%{INT:a}", "%{NOPE:a}"]}), "patterns[1]: there is no pattern `NOPE`"),
        (
            json!({"pattern": "%{A:a}", "definitions": {"A": "%{B}", "B": "x(?=y)"}}),
            "pattern: pattern B: look-ahead `(?=` is not supported",
        ),
        (json!({"pattern": "(?<!x)%{INT:a}"}), "pattern: negative look-behind `(?<!` is not supported"),
        (json!({"pattern": r"(?<a>x)\k<a>"}), r"pattern: the back-reference `\k` is not supported"),
        (json!({"pattern": r"(?<a>x)\1"}), r"pattern: the back-reference `\1` is not supported"),
        (
            json!({"pattern": "%{A:a}", "definitions": {"A": "%{B}", "B": "%{A}"}}),
            "pattern: pattern B: `A` names itself",
        ),
        (json!({"pattern": "%{INT:a:date}"}), "pattern: `date` is not a type"),
        (json!({"pattern": "%{INT:__time__}"}), "pattern: field `__time__`: names that begin with `__`"),
        (json!({"pattern": "%{INT:a"}), "pattern: `%{INT:a` has no closing brace"),
        (json!({"pattern": "(?<a>x"}), "pattern: regex parse error"),
        (json!({"pattern": "(?s:.*)"}), "pattern: the flag `(?s)` is Oniguruma's `(?m)`: write that"),
        (
            json!({"pattern": "%{A:a}", "definitions": {"A": "(?i-s).*"}}),
            "pattern: pattern A: the flag `(?s)` is Oniguruma's `(?m)`",
        ),
        (json!({"pattern": "(?U)x"}), "pattern: `(?U` is not supported"),
        (json!({"pattern": "[a"}), "pattern: a class has no closing bracket"),
        (json!({"pattern": "%{B0:a}", "definitions": bomb}), "pattern: pattern B"),
        (json!({"pattern": "%{INT:a}", "definitions": {"a b": "x"}}), "definitions: `a b` is not a name"),
        (
            json!({"pattern": "%{INT:a}", "time": {"field": "b", "format": "unix"}}),
            "time: no pattern has the field `b`",
        ),
    ] {
        let error = run::<Grok>(&settings.to_string(), &["1"]).unwrap_err();
        assert!(error.starts_with(expected), "{settings}: {error}");
    }
}

proptest! {
    /// What is found quickly is what the pattern itself finds.
    #[test]
    fn the_narrower_patterns_find_the_same(
        head in prop::sample::select(vec![
            "10.0.0.1 - - [01/May/2024:12:00:00 +0000] \"GET /a HTTP/1.1\" 200 5",
            "a.example - jo [01/May/2024:12:00:00 +0000] \"GET / HTTP/1.1\" 304 -",
            "2001:db8::1 - - [01/May/2024:12:00:00 +0000] \"GET /\" 200 5",
            "May  1 12:00:00 web-1 sshd[12]:",
            "2024-05-01T12:00:00.5Z web cron:",
            "2024-05-01 12:00:00,5 INFO",
        ]),
        tail in "( |\"|-|[a-z:]{1,5}|[0-9]{1,3}|\\[|\\]|\\\\\"){0,8}",
        pick in 0usize..6,
    ) {
        let pattern = [
            "%{COMBINEDAPACHELOG}",
            "%{COMMONAPACHELOG}%{GREEDYDATA:rest}",
            "%{SYSLOGLINE}",
            "%{TIMESTAMP_ISO8601:t}%{DATA:x}%{LOGLEVEL:l}%{GREEDYDATA:rest}",
            "%{IP:ip}%{GREEDYDATA:rest}",
            "%{MONTH:m} +%{MONTHDAY:d} %{TIME:t}%{GREEDYDATA:rest}",
        ][pick];
        let line = format!("{head}{tail}");
        let quick = one(pattern, &line);
        // A definition of the same meaning leaves the library as it is, but for its narrower patterns.
        let slow = json!({"pattern": pattern, "definitions": {"WORD": "\\b\\w+\\b"}}).to_string();
        prop_assert_eq!(&quick, &run::<Grok>(&slow, &[&line]).unwrap()[0], "{}", line);
    }

    /// Patterns are refused or taken; nothing panics.
    #[test]
    fn no_pattern_makes_it_panic(pattern in "(%\\{|\\}|[A-Z:]{1,4}|INT:a|\\(|\\)|\\?|[<>=!'P#]|\\[|\\]|\\^|\\\\|[*+]|é){0,12}") {
        let _ = run::<Grok>(&json!({ "pattern": pattern }).to_string(), &["1"]);
    }
}
