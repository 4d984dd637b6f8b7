use proptest::prelude::*;
use weir_plugin::testing::{Harness, TestEvent, golden, run};

use super::*;

const HEAD: &str = "CEF:0|v|p|1|id|n|5|";

fn one(settings: &str, line: &str) -> TestEvent {
    run::<Cef>(settings, &[line]).unwrap().remove(0)
}

fn extension(text: &str) -> Vec<(String, String)> {
    let event = one("{}", &format!("{HEAD}{text}"));
    assert_eq!(event.error, None, "{text}");
    event.cells[7..].iter().map(|cell| (cell.0.clone(), cell.2.clone())).collect()
}

fn expect(text: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    assert_eq!(extension(text), expected, "{text}");
}

#[test]
fn golden_files() {
    golden::<Cef>("cef", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden"));
}

#[test]
fn a_value_goes_on_up_to_the_next_key() {
    expect("", &[]);
    expect(
        "src=10.0.0.1 act=blocked a file dst=::1",
        &[("src", "10.0.0.1"), ("act", "blocked a file"), ("dst", "::1")],
    );
    expect("a= b=", &[("a", ""), ("b", "")]);
    expect("a=x  b=y ", &[("a", "x "), ("b", "y")]);
    expect("request=http://x/?q\\=1&r=2 b=1", &[("request", "http://x/?q=1&r=2"), ("b", "1")]);
    expect("a=x y z", &[("a", "x y z")]);
    expect("a=1 a=2", &[("a", "2")]);
    expect(" ad.field[0]=x", &[("ad.field[0]", "x")]);
}

#[test]
fn escapes_are_undone() {
    expect(r"msg=a\=b\\c\|d\nx\q=\", &[("msg", "a=b\\c|d\nx\\q=\\")]);
    expect(r"a=x\ b=1", &[("a", r"x\ b=1")]);
    let event = one("{}", r"CEF:1|a\|b|p\\|1|id|n\=1|5|");
    assert_eq!((event.get("device_vendor"), event.get("device_product")), (Some("a|b"), Some("p\\")));
    assert_eq!(event.get("name"), Some("n=1"));
}

#[test]
fn what_is_not_cef_fails() {
    for (line, reason) in [
        ("", "no CEF: at a word's start"),
        ("xCEF:0|v|p|1|id|n|5|", "no CEF: at a word's start"),
        ("CEF:0", "the header ends after the version"),
        ("CEF:0|v|p\\|1", "the header ends after the device's product"),
        ("CEF:0|v|p|1|id|n|5", "the header ends after the severity"),
        ("CEF:0|v|p|1|id|n|5|hello", "the extension does not begin with key="),
        ("CEF:0|v|p|1|id|n|5|=1", "the extension does not begin with key="),
    ] {
        assert_eq!(one("{}", line).error.as_deref(), Some(reason), "{line}");
    }
}

#[test]
fn what_stands_before_is_a_field() {
    let event = one("{}", &format!("Sep 19 08:26:10 host {HEAD}"));
    assert_eq!(event.pairs()[..2], [("syslog", "Sep 19 08:26:10 host"), ("cef_version", "0")]);
}

#[test]
fn time_and_kinds_are_settings() {
    let line = format!("{HEAD}rt=1714564800123 cn1=7 end=May 01 2024 12:00:01");
    assert_eq!(one("{}", &line).time, Some(1_714_564_800_123_000_000));
    let settings = r#"{"prefix": "cef.", "guess_types": true, "types": {"cef.rt": "text"}, "time": {"field": "cef.end", "format": "%b %d %Y %T"}}"#;
    let event = one(settings, &line);
    assert_eq!(event.time, Some(1_714_564_801_000_000_000));
    assert_eq!(
        event.cells[7..9],
        [("cef.rt".into(), Kind::Text, "1714564800123".into()), ("cef.cn1".into(), Kind::Integer, "7".into())]
    );
}

proptest! {
    /// Pairs that were written are read back, whatever keys lines before had.
    #[test]
    fn pairs_that_were_written_are_read_back(
        lines in prop::collection::vec(prop::collection::btree_map("(src|dst|cs1Label|a_key_that_is_as_long_as_two_words)[0-9]?", "[a-z\\\\=|\n\r]([a-z=\\\\|é ]{0,6}[a-z=])?", 0..6), 1..9),
    ) {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('=', "\\=").replace('\n', "\\n").replace('\r', "\\r");
        let written: Vec<_> = lines.iter().map(|pairs| {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={}", escaped(value))).collect();
            format!("{HEAD}{}", pairs.join(" "))
        }).collect();
        let mut plugin = Harness::<Cef>::new("{}").unwrap();
        for _ in 0..2 {
            let padding = format!("{HEAD}end={}", "x".repeat(64));
            let padded: Vec<_> = written.iter().map(String::as_str).chain([padding.as_str()]).collect();
            let events = plugin.process(&padded, false).events;
            for (event, pairs) in events.iter().zip(&lines) {
                let expected: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                prop_assert_eq!(&event.pairs()[7..], &expected[..]);
            }
        }
    }

    /// Nothing panics, and every line comes out once.
    #[test]
    fn any_line_comes_out_once(line in "(CEF:0\\|v\\|p\\|1\\|i\\|n\\|5\\|)?[a-c=\\\\| \n]{0,30}") {
        prop_assert_eq!(run::<Cef>("{}", &[line]).unwrap().len(), 1);
    }
}
